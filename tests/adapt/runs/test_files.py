"""Runs that are damaged, of another version, or another person's; disks that are full; signals."""

import json
import os
import re
import resource
from pathlib import Path

import h5py
import pytest
import torch
from cia_adapt.experiments import Request, runner
from cia_adapt.results import comparison, formats, table
from cia_adapt.results.report import page
from cia_adapt.runs import files, saver, state
from cia_extract.common import writes
from cia_extract.common.errors import CiaError, DataError, UsageError
from safetensors.torch import save_file

from tests.adapt.runs.test_resume import folder_of, request
from tests.adapt.runs_of import copied
from tests.conftest import make_small

NESTED = "[" * 60000
WORDS = [
    "[]",
    "1",
    "null",
    '"x"',
    "{}",
    "[" * 60000,
    "1" * 6000,
    "",
    '{"setup": 1, "method": [], "seed": "x"}',
    '{"seed": NaN}',
    "\ud800",
]


@pytest.fixture(scope="module")
def trained(small_file, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    runner.run(request(small_file, root), print)
    return root


def test_all_files_of_a_run_have_the_permissions_of_a_new_file(trained):
    (trained / "new").touch()
    files_of_it = [path for path in folder_of(trained).iterdir() if path.is_file()]
    assert {path.suffix for path in files_of_it} >= {".safetensors", ".json", ".csv"}
    assert {path.stat().st_mode for path in files_of_it} == {(trained / "new").stat().st_mode}
    (trained / "new").unlink()


def commands(root: Path, out: Path) -> None:
    """Everything that reads runs."""
    folders = files.find([root])
    text = formats.render(table.paper_table("3", comparison.groups(folders), "selected", None), "csv")
    assert text
    [files.read_metrics(folder) for folder in folders]
    page.write(folders, out, page.Wanted(clips=1), print)


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.jsonl", "predictions.csv"])
def test_a_damaged_text_file_of_a_run_is_one_line(trained, tmp_path, name):
    for number, word in enumerate([*WORDS, b"\xff\xfe\0", None]):
        root = tmp_path / str(number)
        copied(trained, root)
        path = folder_of(root) / name
        if word is None:
            path.unlink()
        else:
            path.write_bytes(word if isinstance(word, bytes) else word.encode(errors="surrogatepass"))
        with pytest.raises(CiaError) as error:
            commands(root, tmp_path / "x.html")
        assert error.value.exit_code == 3, (name, word)


TOO_MUCH = {
    "lists in a metric": ("metrics.jsonl", '{"a": [' + "[]," * 6_000_000 + "[]]}\n", "has more than 6,000,000 values"),
    "lines without metrics": ("metrics.jsonl", "\n" * 3_000_000, "line 1 is damaged"),
    "commas": ("predictions.csv", "," * 17_000_000, "is longer than 16,777,216 characters"),
    "lines without clips": ("predictions.csv", "\n" * 2_000_001, "has more than 2,000,000 lines"),
    "columns of another table": ("predictions.csv", "clip,label,guess\na,x,y\n", "its columns are not clip, and a label with"),
    "a label of which two are alike": ("predictions.csv", "clip,last,last,selected\na,x,y,x\n", "its columns are not clip"),
    "a row that is short": ("predictions.csv", "clip,label,last,selected\na,x\n", "rows of different lengths"),
    "no rows": ("predictions.csv", "clip,label,last,selected\n", "no rows"),
}


@pytest.mark.parametrize(("name", "text", "message"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_no_run_writes_is_refused_before_it_is_parsed(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB
    with pytest.raises(DataError, match=re.escape(message)):
        (files.read_metrics if name == "metrics.jsonl" else files.read_predictions)(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began < 300 << 10


def test_a_state_of_more_values_than_a_history_has_is_refused_before_it_is_parsed(tmp_path):
    with pytest.raises(DataError, match="it has more values than the history of a run"):
        save_file({"x": torch.zeros(1)}, tmp_path / "s", {"state": '{"history": [' + "[]," * 6_000_000 + "[]]}"})
        state.load(tmp_path / "s")


@pytest.mark.parametrize("labels", [["label"], ["verb", "noun"]])
def test_predictions_of_one_label_and_of_several_are_read(tmp_path, labels):
    columns = (
        ["label", "last", "selected"] if len(labels) == 1 else [f"{x}{y}" for x in labels for y in ("", "_last", "_selected")]
    )
    rows = [dict.fromkeys(["clip", *columns], value) for value in ("a", "b")]
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (tmp_path / "predictions.csv").write_text("\n".join(lines) + "\n")
    assert files.read_predictions(tmp_path) == rows


@pytest.mark.parametrize("name", ["scores.safetensors", "last.safetensors", "config.json", "state.safetensors"])
def test_a_file_of_a_run_that_is_almost_all_hole_is_refused_for_that(trained, tmp_path, name):
    copied(trained, tmp_path / "runs")
    folder = folder_of(tmp_path / "runs")
    (folder / "done").write_text("")  # without checksums, as versions before wrote it
    os.truncate(folder / name, 1 << 30)
    readers = {
        "scores.safetensors": lambda: files.load_scores(folder),
        "last.safetensors": lambda: files.load_model(folder, "last"),
        "config.json": lambda: files.read_config(folder),
        "state.safetensors": lambda: state.load(folder / name),
    }
    with pytest.raises(DataError, match=rf"{name}: .*has 1,073,741,824 bytes and takes [\d,]+ on the disk; it is damaged.*--o"):
        readers[name]()


def test_a_configuration_larger_than_any_run_writes_is_refused_before_it_is_parsed(trained, tmp_path, monkeypatch):
    copied(trained, tmp_path / "runs")
    path = folder_of(tmp_path / "runs") / "config.json"
    assert path.stat().st_size < files.MOST_JSON / 100
    config = json.loads(path.read_text())
    most = [f"a class of {number:,}, with a long name of its own" for number in range(files.MOST_CLASSES)]
    path.write_text(json.dumps(config | {"classes": {"label": most}}, indent=2))
    assert len(files.read_config(path.parent)["classes"]["label"]) == files.MOST_CLASSES
    with path.open("a") as file:
        file.write(" " * files.MOST_JSON)
    monkeypatch.setattr(files, "json_object", lambda *_: pytest.fail("it is parsed"))
    with pytest.raises(DataError, match=r"config\.json: larger than a run's config\.json can be, 8 MiB; train the run again"):
        files.read_config(path.parent)


def test_a_field_of_another_type_is_one_line(trained, tmp_path):
    for name in ("config.json", "result.json"):
        fields = json.loads((folder_of(trained) / name).read_text())
        reader = files.read if name == "result.json" else files.read_config
        for key in files.RESULT if name == "result.json" else files.CONFIG:
            for wrong in (None, [], {}, float("nan"), True, 10**400 if key in files.RESULT else -0.5):
                (tmp_path / name).write_text(json.dumps(fields | {key: wrong}))
                if key == "modalities" and wrong == []:
                    continue
                with pytest.raises(DataError):
                    reader(tmp_path)
            (tmp_path / name).write_text(json.dumps({k: v for k, v in fields.items() if k != key}))
            with pytest.raises(DataError, match=f"'{key}' is missing"):
                reader(tmp_path)


def test_the_report_names_a_run_that_it_cannot_show_and_shows_the_rest(small_file, trained, tmp_path):
    root = tmp_path / "r"
    copied(trained, root)
    second = folder_of(root).with_name("seed1")
    copied(folder_of(root), second)
    (second / "result.json").write_text("[" * 60000)
    said: list[str] = []
    shown = page.write(files.find([root]), tmp_path / "out.html", page.Wanted(clips=0), said.append)
    assert shown == [folder_of(root)] and any("seed1/result.json: is damaged" in line for line in said)
    html = (tmp_path / "out.html").read_text()
    assert "Left out:" in html and "seed1/result.json" in html and "Confusion matrix" in html


def test_scores_of_other_shapes_cost_the_pictures_not_the_report(trained, tmp_path):
    import torch
    from safetensors.torch import save_file

    root = tmp_path / "r"
    copied(trained, root)
    path = folder_of(root) / "scores.safetensors"
    for broken in ({}, {"selected/source_features": torch.zeros(3)}, b"x", None):
        path.unlink(missing_ok=True)
        if isinstance(broken, bytes):
            path.write_bytes(broken)
        elif broken is not None:
            save_file(broken, path)
        said: list[str] = []
        page.write(files.find([root]), tmp_path / "out.html", page.Wanted(clips=0), said.append)
        assert any("scores.safetensors" in line for line in said)


def named_file(path: Path, name: str) -> Path:
    """A feature file whose first domain is called `name` in its column."""
    make_small(path)
    with h5py.File(path, "r+") as file:
        for group, value in (("here", name), ("there", "there")):
            count = len(file[f"{group}/clips/clip"])
            file[f"{group}/clips/domain"] = [value] * count
    return path


@pytest.mark.parametrize("name", ["../../../outside", "/tmp/outside"])
def test_a_feature_file_writes_and_removes_nothing_outside_runs(tmp_path, name):
    file = named_file(tmp_path / "f.h5", name)
    root = tmp_path / "a/b/runs"
    with pytest.raises(DataError, match="cannot become the name of a file or folder"):
        runner.run(_every(request(file, root)), print)
    assert not list(tmp_path.rglob("*seed0*"))


def _every(asked: Request) -> Request:
    from dataclasses import replace

    return replace(asked, sources=(), target=None)


def test_a_domain_named_like_a_formula_is_drawn(tmp_path):
    name = "$frac{$ <b>&|_# \u0e01 =1"
    file = named_file(tmp_path / "f.h5", name)
    runner.run(_every(request(file, tmp_path / "r")), print)
    said: list[str] = []
    page.write(files.find([tmp_path / "r"]), tmp_path / "out.html", page.Wanted(clips=0), said.append)
    assert said == []
    html = (tmp_path / "out.html").read_text()
    assert "<b>" not in html and "&lt;b&gt;" in html


def test_training_continues_when_its_state_cannot_be_saved_and_says_so_once(small_file, tmp_path, monkeypatch):
    monkeypatch.setattr(saver, "SAVE_EVERY_S", -1.0)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save_file", full)
    said: list[str] = []
    runner.run(request(small_file, tmp_path, epochs=4, keep_state=False), said.append)
    assert sum("training goes on, its state is not saved" in line for line in said) == 1
    assert files.read(folder_of(tmp_path))


def test_runs_that_is_a_file_is_a_usage_error(small_file, tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UsageError, match="another --runs folder"):
        runner.run(request(small_file, tmp_path / "runs"), print)


def test_a_report_into_a_folder_is_a_usage_error(trained, tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        page.write(files.find([trained]), tmp_path, page.Wanted(clips=0), print)
    with pytest.raises(UsageError, match="choose another file"), writes.translated("--out x", "choose another file"):
        writes.text(tmp_path / "no/such/x", "")


def test_a_state_of_other_contents_is_one_line(trained, small_file, tmp_path):
    root = tmp_path / "r"
    copied(trained, root)
    path = folder_of(root) / "state.safetensors"
    tensors, rest = state.load(path)
    wrong = [
        ({}, rest),
        (tensors, {"history": rest["history"]}),
        (tensors, rest | {"history": [1, 2]}),
        (tensors, rest | {"step": "x"}),
        (tensors, rest | {"epochs": {"last": 99, "selected": 99}}),
        (tensors, rest | {"target_sampler": {"random": 1, "waiting": "x"}}),
        ({k: v.reshape(-1)[:1] for k, v in tensors.items()}, rest),
        (
            {k: v for k, v in tensors.items() if not k.startswith("optimiser")}
            | {"optimiser/a.b": tensors["random/cpu"].clone()},
            rest,
        ),
    ]
    for these, those in wrong:
        state.save(path, these, those)
        with pytest.raises(DataError, match=r"not a state that can be resumed|missing"):
            runner.run(request(small_file, root, epochs=4, resume=True), print)
