"""`cia-adapt predict` and `submit` as a user types them."""

import json
import zipfile

import pytest
from cia_adapt.cli import main

from tests.adapt.e100_of import make_e100
from tests.command_line import in_this_process


def run(*words):
    return in_this_process(main, *words)


@pytest.fixture
def timestamps(tmp_path):
    path = tmp_path / "EPIC_100_uda_target_test_timestamps.csv"
    path.write_text("narration_id,participant_id\n" + "".join(f"P01_102_{i},P01\n" for i in range(7)))
    return path


def test_predict_then_submit_then_check(e100_runs, tmp_path, timestamps):
    one = e100_runs / "e100/dann/source-target/seed0"
    out = run("predict", one, "--dataset", "target", "--split", "test", "--out", tmp_path / "s.csv")
    assert (out.returncode, out.stdout) == (0, f"{tmp_path / 's.csv'}: 7 clips\n")
    made = run("submit", e100_runs, "--out", tmp_path / "t.zip", "--timestamps", timestamps, "--sls-pt", 4)
    assert made.returncode == 0 and "valid, 7 clips in results_target; levels sls_pt 4, sls_tl 3, sls_td 3" in made.stdout
    checked = run("submit", "--check", tmp_path / "t.zip", "--timestamps", timestamps)
    assert (checked.returncode, checked.stdout) == (0, f"{tmp_path / 't.zip'}: valid, 7 clips in results_target\n")
    more = run("submit", "--check", tmp_path / "t.zip", "--timestamps", timestamps, "--source-timestamps", timestamps)
    assert more.returncode == 5 and len(more.stderr.splitlines()) == 1
    assert "results_source is missing, whose 7 clips are asked for" in more.stderr


def test_with_the_source_s_test_clips(e100_runs, tmp_path):
    made = run("submit", e100_runs, "--out", tmp_path / "t.zip", "--with-source")
    assert made.returncode == 0 and "7 clips in results_target, 7 clips in results_source" in made.stdout
    with zipfile.ZipFile(tmp_path / "t.zip") as archive:
        content = json.loads(archive.read("test.json"))
    assert set(content["results_source"]) == {f"P01_02_{i}" for i in range(7)}


def test_clips_that_are_not_extracted_are_missing(e100_runs, tmp_path):
    """Whether a csv lists them or only the feature file does."""
    path = make_e100(tmp_path / "new.h5", unfinished=2)
    made = run("submit", e100_runs, "--features", path, "--out", tmp_path / "t.zip")
    assert made.returncode == 5 and "lacks 2 of 7 clips: P01_102_5, P01_102_6" in made.stderr
    assert not (tmp_path / "t.zip").exists()
    said = run("predict", e100_runs / "e100/dann/source-target/seed1", "--features", path, "--out", tmp_path / "s.h5")
    assert said.returncode == 0 and "2 clips have no features yet" in said.stderr


def test_a_zip_of_other_clips(e100_runs, tmp_path, timestamps):
    timestamps.write_text(timestamps.read_text().replace("P01_102_3", "P01_102_33"))
    made = run("submit", e100_runs, "--out", tmp_path / "t.zip", "--timestamps", timestamps)
    assert made.returncode == 5 and made.stderr.count("P01_102_33") == 1 and "not asked for: P01_102_3;" in made.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "give runs and --out"),
        (("RUNS",), 2, "give runs and --out"),
        (("RUNS", "--out", "t.json"), 2, "give it the ending .zip"),
        (("RUNS", "--out", "t.zip", "--sls-pt", "6"), 2, "--sls-pt 6"),
        (("--check", "gone.zip"), 2, "--timestamps is missing"),
        (("--check", "gone.zip", "--timestamps", "CSV"), 2, "--check gone.zip: no such file"),
        (("RUNS", "--check", "gone.zip"), 2, "leave runs and --out out"),
        (("RUNS", "--out", "t.zip", "--source-timestamps", "CSV"), 2, "add --with-source, or leave it out"),
        (("--check", "t.zip", "--timestamps", "CSV", "--with-source"), 2, "--source-timestamps is missing: with --with-source"),
        (("--check", "CSV", "--timestamps", "CSV"), 5, "cannot be read as a zip"),
        (("nowhere", "--out", "t.zip"), 2, "no finished run in nowhere"),
        (("RUNS", "--out", "t.zip", "--timestamps", "gone.csv"), 3, "gone.csv: cannot be read"),
        (("RUNS", "--out", "t.zip", "--features", "gone.h5"), 3, "gone.h5: no such file"),
    ],
)
def test_mistakes_are_one_line(e100_runs, tmp_path, timestamps, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    out = run("submit", *({"RUNS": e100_runs, "CSV": timestamps}.get(word, word) for word in words))
    lines = [line for line in out.stderr.splitlines() if "predicts the test clips" not in line]
    assert out.returncode == code and len(lines) == 1 and said in lines[0] and not list(tmp_path.glob("t.*"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("RUNS",), 2, "holds 2 runs; name one, such as"),
        (("RUN", "--out", "s.txt"), 2, "give it the ending .h5 or .csv"),
        (("RUN", "--split", "tets"), 3, "did you mean test"),
        (("RUN", "--out", "no/s.csv"), 2, "--out no/s.csv: No such file or directory"),
    ],
)
def test_mistakes_of_predict_are_one_line(e100_runs, tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    places = {"RUNS": e100_runs, "RUN": e100_runs / "e100/dann/source-target/seed0"}
    out = run("predict", *(places.get(word, word) for word in words))
    assert out.returncode == code and len(out.stderr.splitlines()) == 1 and said in out.stderr


def test_the_table(e100_runs, tmp_path):
    shown = run("table", e100_runs, "--table", "e100", "--format", "csv")
    assert shown.returncode == 0 and shown.stdout.startswith("clips,method,verb@1,noun@1,action@1,verb@5")
    refused = run("table", e100_runs, "--table", "e100", "--baseline", "dann")
    assert refused.returncode == 2 and "--baseline: is not for --table e100" in refused.stderr
    assert "choose from 2, 3, e100" in run("table", e100_runs, "--table", "4").stderr
