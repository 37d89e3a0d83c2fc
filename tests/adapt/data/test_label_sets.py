"""Domains whose classes differ: what `check` and the start of training say, so that nobody trains on labels that do not match."""

import h5py
import numpy as np
import pytest
from cia_adapt.cli import main
from cia_adapt.data import label_sets
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.command_line import in_this_process


def cause(first, second) -> str:
    return label_sets.compare("s", first, "t", second).cause


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (["0", "1", "2"], ["1", "2", "3"], "ids count from 1 in 't' and from 0 in 's': subtract 1 in 't'"),
        (["1", "2", "3"], ["0", "1", "2"], "ids count from 1 in 's' and from 0 in 't': subtract 1 in 's'"),
        ([str(i) for i in range(12)], [str(i + 1) for i in range(12)], "subtract 1 in 't'"),
        (["0", "1", "2", "4"], ["1", "2", "5"], "subtract 1 in 't'"),  # a class in the middle is missing
        (["0.0", "1.0"], ["1.0", "2.0"], "subtract 1 in 't'"),
        (["10", "11"], ["0", "1"], "subtract 10 in 's'"),
        (["run", "sit"], ["Run", "Sit"], "run in 's' and Run in 't' are the same but for upper and lower case, and 1 more such"),
        (["0", "1"], ["0.0", "1.0"], "0.0 is written as a float: write whole numbers"),
        (["1.0"], ["1"], "1.0 is written as a float"),
        (["1", "2"], ["01", "02"], "01 has leading zeros"),
        (["run", "sit"], ["run ", "sit"], "'run ' in 't' are the same but for spaces"),
        (["pull up"], ["pullup"], "the same but for spaces"),
        (["ride_bike"], ["RideBike"], "underscores, hyphens, spaces, punctuation and capitals"),
        (["shoot-ball"], ["shoot_ball"], "underscores, hyphens"),
        (["run"], ["b'run'"], "Python's b'…'"),
        (["caf\u00e9"], ["cafe\u0301"], "how Unicode writes accents"),
        (["ak47"], ["001.ak47"], "a number before the name"),
        (["shoot_ball", "run"], ["shoot_bal", "run"], "are written almost alike"),
    ],
)
def test_the_likely_cause_of_classes_that_do_not_match_is_named(first, second, words):
    assert words in cause(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["0", "1", "2", "3"], ["1", "2"]),  # a domain without some of the classes
        (["0", "1", "2"], ["2", "3", "4", "9"]),
        (["run", "sit"], ["jump", "climb"]),
        (["1", "2"], ["1", "7"]),
        (["run"], ["run", "sit"]),
        ([], ["run"]),
        (["nan", "inf"], ["1", "2"]),
    ],
)
def test_a_difference_without_an_evident_mistake_is_given_no_wrong_cause(first, second):
    assert cause(first, second) == ""


@settings(max_examples=200, deadline=None)
@given(st.sets(st.text(max_size=6), max_size=6), st.sets(st.text(max_size=6), max_size=6))
def test_any_names_are_compared_and_every_class_is_in_one_place(first, second):
    compared = label_sets.compare("s", first, "t", second)
    assert compared.shared | compared.only_first == first - {""} and compared.shared | compared.only_second == second - {""}
    assert compared.same == (first - {""} == second - {""})
    assert compared.text.replace("'", "").isprintable() and label_sets.variants(first) is not None


def test_many_classes_are_not_all_listed_and_numbers_stand_in_their_order():
    assert label_sets.listed([str(i) for i in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 4 more"
    assert label_sets.listed(["a b", "\x1b[31m"]) == "'\\x1b[31m', 'a b'"


def test_one_class_written_in_two_ways_in_one_domain_is_a_note():
    assert label_sets.variants(["run", "Run", "sit"]) == ["Run, run are the same but for upper and lower case"]
    assert label_sets.variants(["1", "1.0"]) == ["1, 1.0 are the same number (1.0 is written as a float: write whole numbers)"]
    assert label_sets.variants(["run", "sit", "1", "2"]) == []


def labelled(path, **labels):
    """A foreign file with vectors [12, 8] of each domain, its labels in turn; half train, half val."""
    with h5py.File(path, "w") as file:
        for seed, (name, classes) in enumerate(labels.items()):
            column = np.array(classes * 12)[:12]
            file[f"{name}/x"] = np.random.default_rng(seed).normal(size=(12, 8)).astype(np.float32)
            file[f"{name}/label"] = column.astype("S") if column.dtype.kind == "U" else column
            file[f"{name}/split"] = (
                np.array([b"train", b"val"] * 6) if len(classes) % 2 else np.array([b"train", b"val"]).repeat(6)
            )
    arrays = {"rgb/pooled": "x", "label": "label", "split": "split"}
    return [path, *(word for d in labels for name, place in arrays.items() for word in ("--map", f"{d}/{name}={d}/{place}"))]


KINDS = [
    ([0, 1, 2], [1, 2, 3], "subtract 1 in 't'"),
    (["run", "sit"], ["Run", "Sit"], "upper and lower case"),
    ([0, 1], [0.0, 1.0], "written as a float"),
    (["run", "sit"], ["run ", "sit"], "but for spaces"),
    ([1, 2], ["01", "02"], "leading zeros"),
]


@pytest.mark.parametrize(("first", "second", "words"), KINDS)
def test_check_faults_labels_that_do_not_match(tmp_path, first, second, words):
    run = in_this_process(main, "check", *labelled(tmp_path / "f.h5", s=first, t=second))
    line = next(line for line in run.stdout.splitlines() if "classes" in line)
    assert run.returncode == 3 and line.startswith("fault: s, t: label: the classes differ") and words in line


@pytest.mark.parametrize(("first", "second", "words"), KINDS)
def test_training_starts_with_the_classes_that_do_not_match(tmp_path, first, second, words):
    path, *maps = labelled(tmp_path / "f.h5", s=first, t=second)
    run = in_this_process(main, "--features", path, *maps, "--method", "dann", "--epochs", 1, "--source", "s", cwd=tmp_path)
    (line,) = [line for line in run.stderr.splitlines() if words in line]
    disjoint = not set(map(str, first)) & set(map(str, second))
    assert run.returncode == (3 if disjoint else 0)
    assert ("no class is in both domains" in line) == disjoint
    first_epoch = run.stderr.find("seed 0: 1/1")
    assert first_epoch == -1 or run.stderr.index(line) < first_epoch


def test_a_domain_with_further_classes_is_a_note_and_the_shared_ones_are_counted(tmp_path):
    path, *maps = labelled(tmp_path / "f.h5", s=["run", "sit", "jump"], t=["run", "sit", "climb"])
    run = in_this_process(main, "check", path, *maps)
    assert run.returncode == 0
    assert "note: s, t: label: the classes differ: 2 classes are in both; only in 's': jump; only in 't': climb\n" in run.stdout
    run = in_this_process(main, "--features", path, *maps, "--method", "dann", "--epochs", 1, "--source", "s", cwd=tmp_path)
    assert run.returncode == 0
    assert (
        "note: label: the model knows the 3 classes of 's'; 2 classes are in both; only in 's': jump; only in 't': climb; "
        "2 of 6 test clips have labels that training lacks and count as wrong (--test-classes shared leaves them out)\n"
    ) in run.stderr


def test_equal_classes_give_no_note(tmp_path):
    path, *maps = labelled(tmp_path / "f.h5", s=["run", "sit"], t=["sit", "run"])
    assert in_this_process(main, "check", path, *maps).stdout.endswith(": 0 faults, 0 notes\n")
    run = in_this_process(main, "--features", path, *maps, "--method", "dann", "--dry-run", cwd=tmp_path)
    assert run.returncode == 0 and "the model knows" not in run.stderr


def test_a_sweep_and_a_dry_run_name_classes_that_do_not_match_too(tmp_path):
    path, *maps = labelled(tmp_path / "f.h5", s=["run", "sit", "jump"], t=["run", "sit", "climb"])
    for words in (["--features", path, "--dry-run"], ["sweep", "--features", path, "--seeds", 1, "--epochs", 1]):
        run = in_this_process(main, *words, *maps, "--method", "dann", "--source", "s", cwd=tmp_path)
        assert run.returncode == 0 and run.stderr.count("only in 't': climb") == 1


@pytest.mark.parametrize("method", ["target-only", "source-only", "dann"])
def test_a_method_whose_labels_are_missing_says_so_before_any_run(tmp_path, method):
    path, *maps = labelled(tmp_path / "f.h5", s=["run", "sit"], t=["", ""])
    run = in_this_process(main, "--features", path, *maps, "--method", method, "--epochs", 1, cwd=tmp_path)
    assert run.returncode == 3 and len(run.stderr.splitlines()) == 1 and not (tmp_path / "runs").exists()
    assert "'t' has 6 of 6 training clips without a label" in run.stderr


def test_an_unlabelled_target_is_adapted_to_and_its_accuracy_is_called_meaningless(tmp_path):
    path, *maps = labelled(tmp_path / "f.h5", s=["run", "sit"], t=["", ""])
    run = in_this_process(main, "--features", path, *maps, "--method", "dann", "--epochs", 1, "--source", "s", cwd=tmp_path)
    assert run.returncode == 0 and "no test clip of 't' has a label, so all count as wrong" in run.stderr


def test_source_val_without_a_known_label_selects_no_epoch(tmp_path):
    path, *maps = labelled(tmp_path / "f.h5", s=["run", "sit"], t=["run", "sit"])
    with h5py.File(path, "r+") as file:
        file["s/label"][6:] = b""
    words = ["--features", path, *maps, "--method", "dann", "--epochs", 1, "--source", "s"]
    run = in_this_process(main, *words, cwd=tmp_path)
    assert run.returncode == 2 and "--select source_val: no val clip of 's' has a label that training knows" in run.stderr
    assert in_this_process(main, *words, "--select", "last", cwd=tmp_path).returncode == 0


def test_gradient_blend_without_clips_to_hold_out_says_so_at_the_start(tmp_path):
    path, *maps = labelled(tmp_path / "f.h5", s=["a", "b", "c", "d", "e"], t=["a", "b", "c", "d", "e"])
    maps += [word for d in "st" for word in ("--map", f"{d}/flow/pooled={d}/x")]
    run = in_this_process(main, "--features", path, *maps, "--method", "gblend-fl", cwd=tmp_path)
    assert run.returncode == 3 and "no class of 's' has enough training clips" in run.stderr and "reading" not in run.stderr


def test_thousands_of_classes_are_compared_in_a_moment():
    """Such as clip ids given as --labels by mistake: letter by letter this took hours."""
    first, second = ({f"{prefix}clip_{i:05}_of_a_long_name" for i in range(20_000)} for prefix in ("source", "target"))
    assert not label_sets.compare("s", first, "t", second).shared
    assert len(label_sets.variants(first | {name.upper() for name in first})) == len(first)
