"""Which clips changed against the baseline, by hand from predictions.csv; and their frames."""

import numpy as np
import pytest
from cia_adapt.results.report import study
from cia_adapt.results.report.sections import changed, differences
from cia_adapt.results.statistics import paired
from cia_adapt.runs import files

from tests.adapt.results.report.run_folders import write_runs


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    root = tmp_path_factory.mktemp("changed")
    write_runs(root, ["source-only", "cia"], seeds=3)
    (one,) = study.read(files.find([root]), study.Wanted(), print)
    return one


def right(group) -> np.ndarray:
    """[seeds, clips]"""
    return np.array([[row["label"] == row["selected"] for row in files.read_predictions(folder)] for folder in group.folders])


def test_a_clip_s_change_is_the_difference_of_the_seeds_that_are_right(read):
    said: list[str] = []
    (table,) = changed.section(read, said.append).tables
    for pair in read.pairs:
        ours, theirs = (right(read.groups[method, pair]) for method in ("cia", "source-only"))
        change = 100 * (ours.mean(0) - theirs.mean(0))
        clips = [row["clip"] for row in files.read_predictions(read.groups["cia", pair].folders[0])]
        expected = {clip: value for clip, value in zip(clips, change, strict=True) if value}
        rows = table.rows[table.rows["direction"] == study.direction(pair)]
        assert dict(zip(rows["clip"], rows["change"], strict=True)) == pytest.approx(expected)
    assert len(said) == 2 and all("frames of the clips that changed" in line for line in said)  # there are no videos


def test_a_sheet_shows_the_frames_side_by_side():
    import io

    from PIL import Image

    frames = [np.full((224, 224, 3), grey, np.uint8) for grey in (10, 120, 240)]
    image = np.asarray(Image.open(io.BytesIO(changed.sheet(frames))).convert("L"))
    assert image.shape == (changed.SIDE, 3 * changed.SIDE)
    assert [round(float(part.mean()), -1) for part in np.split(image, 3, axis=1)] == [10, 120, 240]


def test_the_forest_plot_has_the_paired_differences(read):
    numbers = differences.section(read).figures[0].numbers
    both = [[right(read.groups[method, pair]) for pair in read.pairs] for method in ("cia", "source-only")]
    row = numbers[numbers["direction"] == differences.ALL].iloc[0]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(paired(*both), abs=1e-4)
    assert row["verdict"] == ("better" if row["low"] > 0 else "worse" if row["high"] < 0 else "not told apart")
