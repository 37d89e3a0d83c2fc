"""A target whose clips have no labels: runs train and predict, and no table calls their accuracy 0."""

import json

from cia_adapt.cli import main

from tests.command_line import in_this_process

TINY = ("--batch", 8, "--source", "source", "--target", "target", "--val-split", "source=val,target=test")


def test_accuracies_are_n_a_wherever_they_are_shown(e100_file, tmp_path):
    """The target's test clips of EPIC-KITCHENS-100; trained, gone on with, swept, tabled, reported, predicted."""

    def run(*words) -> tuple[int, str]:
        done = in_this_process(main, *words)
        return done.returncode, done.stdout + done.stderr

    runs = tmp_path / "runs"
    data = ("--features", e100_file, "--setup", "e100", "--runs", runs, *TINY)
    for epochs, resume in ((1, ()), (2, ("--resume",))):
        code, said = run(*data, "--method", "dann", "--epochs", epochs, *resume)
        assert code == 0 and said.count("n/a") == 3 and " 0.0 " not in said
    code, said = run("sweep", *data, "--method", "dann,source-only", "--epochs", 2, "--seeds", 1)
    assert code == 0 and "source-only source → target: n/a" in said and said.count("n/a") == 7
    folder = runs / "e100/dann/source-target/seed0"
    result = json.loads((folder / "result.json").read_text())
    assert [result[key] for key in ("last", "selected", "oracle")] == [None] * 3 and result["source_val"] >= 0
    assert not {"last_by_label", "selected_by_label"} & result.keys()
    for words in (("--table", "2", "--baseline", "source-only"), ("--table", "2", "--which", "oracle"), ("--table", "e100")):
        code, said = run("table", runs, *words, "--format", "csv")
        cells = [cell for line in said.splitlines() if "dann" in line for cell in line.split(",")]
        assert code == 0 and cells.count("n/a") >= 3 and not any(cell.startswith(("0.0", "+0.0")) for cell in cells)
    code, said = run("report", runs, "--out", tmp_path / "report.html")
    assert code == 3 and "accuracy n/a, the target's clips have no labels" in said
    code, said = run("predict", folder, "--split", "test", "--out", tmp_path / "s.csv")
    assert code == 0 and len((tmp_path / "s.csv").read_text().splitlines()) == 8
