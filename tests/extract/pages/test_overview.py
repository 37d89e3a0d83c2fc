"""The page about a feature file says what is in the file; numbers are computed again with h5py and scikit-learn."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from cia_extract.cli import main
from cia_extract.common.outcomes import Outcome
from cia_extract.features import open_features, writer
from cia_extract.pages import overview
from sklearn.metrics.pairwise import cosine_similarity

from tests.command_line import in_this_process
from tests.conftest import RECIPE

LABELS = ("run", "wave")
CHANNELS = 1024
DEAD = {"studio": 5, "street": 0}  # channels that are 0
TO_DO, FAILED = 7, 9  # rows of the domain `street`, 6 … 11


def write_file(path: Path, labels=LABELS, names=tuple(f"clip {i}" for i in range(12))) -> Path:
    """One dataset of two domains of six clips; of the second one clip fails and one is to do. Clip 8 is clip 1 once more."""
    random = np.random.default_rng(0)
    columns = {
        "clip": list(names),
        "path": [f"{i}.mp4" for i in range(12)],
        "label": [labels[i % len(labels)] for i in range(12)],
        "split": ["val" if i % 3 == 2 else "train" for i in range(12)],
        "domain": ["studio"] * 6 + ["street"] * 6,
    }
    recipe = RECIPE | {"dataset": "d", "frames": 2, "weights": {"rgb": {"name": "kinetics"}}}
    dataset = writer.begin_or_continue(path, "d", columns, recipe, path.parent, overwrite=False)
    maps = {m: random.gamma(1.0, 1.0, (12, 2, CHANNELS, 7, 7)).astype(np.float32) for m in ("rgb", "flow")}
    with writer.RowWriter(dataset) as rows:
        for row in range(12):
            rows.write_clip(row, 50, 25.0, np.array([10, 30], np.int32))
            if row == TO_DO:
                continue
            for modality, values in maps.items():
                if row < 6:
                    values[row, :, : DEAD["studio"]] = 0
                if row == FAILED and modality == "flow":
                    rows.fail(row, "flow", Outcome("decode error", "no frame 7"))
                else:
                    rows.write_row(row, modality, values[1 if row == 8 else row])
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return write_file(tmp_path_factory.mktemp("overview") / "feats.h5")


def test_coverage_counts_clips_and_those_that_are_finished(file):
    studio, street = (overview.coverage_of(domain) for domain in reversed(overview.domains_of(open_features(file)["d"])))
    assert studio == overview.Coverage(["train", "val"], [("run", ["2", "1"]), ("wave", ["2", "1"])])
    assert street == overview.Coverage(["train", "val"], [("run", ["2", "1"]), ("wave", ["0 of 2", "1"])])


def test_ranges_and_dead_channels_are_those_of_the_file(file):
    street, studio = overview.domains_of(open_features(file)["d"])
    assert (street.name, studio.name) == ("d.street", "d.studio")
    with h5py.File(file) as stored:
        for domain, rows in ((studio, range(6)), (street, [6, 8, 10, 11])):
            values = {one.modality: one for one in overview.read_clips(domain).values}
            for modality, one in values.items():
                vectors = stored[f"d/{modality}/pooled"][sorted(rows)]
                assert (one.clips, one.channels) == (len(rows), CHANNELS)
                np.testing.assert_allclose(
                    (one.low, one.mean, one.high), (vectors.min(), vectors.mean(), vectors.max()), rtol=1e-5
                )
                assert one.highest_cell == stored[f"d/{modality}/maps"][sorted(rows)].max()
                assert one.dead == (vectors == 0).all((0, 1)).sum() == DEAD[domain.name.partition(".")[2]]


def test_nearest_clips_are_those_of_a_comparison_of_all_with_all(file, monkeypatch):
    street, studio = overview.domains_of(open_features(file)["d"])
    rows = {"street": [6, 8, 10, 11], "studio": list(range(6))}
    with h5py.File(file) as stored:
        vectors = {m: stored[f"d/{m}/pooled"][:].mean(1) for m in ("rgb", "flow")}
    cosines = sum(cosine_similarity(v[rows["street"]], v[rows["studio"]]) for v in vectors.values()) / 2
    read = overview.read_clips(street), overview.read_clips(studio)
    for block in (512, 3):
        monkeypatch.setattr(overview, "BLOCK", block)
        pairs = overview.nearest(street, read[0], studio, read[1])
        np.testing.assert_allclose([pair.similarity for pair in pairs], np.sort(cosines.max(1))[::-1], atol=1e-5)
        for pair in pairs:
            i, j = rows["street"].index(int(pair.first[5:])), rows["studio"].index(int(pair.second[5:]))
            assert cosines[i].argmax() == j and (pair.first_class, pair.second_class) == (
                LABELS[int(pair.first[5:]) % 2],
                LABELS[j % 2],
            )
    assert (pairs[0].first, pairs[0].second) == ("clip 8", "clip 1") and pairs[0].similarity > 0.99


def test_of_many_clips_some_are_read_and_the_page_says_how_many(file, monkeypatch, tmp_path):
    monkeypatch.setattr(overview, "MOST_CLIPS", 4)
    monkeypatch.setattr(overview, "MOST_MAPS", 2)
    said: list[str] = []
    overview.write(file, tmp_path / "p.html", said.append)
    assert said == ["reading 4 of 4 finished clips of d.street", "reading 4 of 6 finished clips of d.studio"]
    assert "at most\n4 clips are read, and the maps of about 2" in (tmp_path / "p.html").read_text()


def test_the_command_writes_a_page_with_the_files_numbers(file, tmp_path):
    done = in_this_process(main, "info", file, "--html", tmp_path / "p.html")
    assert done.returncode == 0 and done.stdout == f"page: {tmp_path / 'p.html'}\n"
    text = " ".join(re.sub(r"<[^>]+>", " ", (tmp_path / "p.html").read_text()).split())
    assert "clips 12, 10 finished" in text and "rgb kinetics, flow not said" in text
    assert "rgb ok 11 flow ok 10 flow decode error 1" in text
    assert "clip 9 flow decode error no frame 7" in text
    assert f"5 of {CHANNELS}" in text and f"0 of {CHANNELS}" in text
    assert "clip 8 run clip 1 wave" in text


def test_a_file_without_finished_clips_has_a_page(tmp_path):
    columns = {"clip": ["a"], "path": ["a.mp4"], "label": ["x"], "split": ["train"]}
    writer.begin_or_continue(tmp_path / "f.h5", "d", columns, RECIPE | {"dataset": "d"}, tmp_path, overwrite=False)
    overview.write(tmp_path / "f.h5", tmp_path / "p.html", print)
    page = (tmp_path / "p.html").read_text()
    assert "1, 0 finished" in page and "0 of 1" in page and "Values" not in page and "Nearest" not in page


def test_a_wrong_request_is_one_line(file, tmp_path):
    (tmp_path / "no.h5").write_bytes(b"nothing")
    for words, code, said in (
        ((file, "--html", tmp_path), 2, "is a folder"),
        ((file, "--html", tmp_path / "p.html", "--json"), 2, "--html and --json: choose one"),
        ((tmp_path / "no.h5", "--html", tmp_path / "p.html"), 3, "no.h5"),
    ):
        done = in_this_process(main, "info", *words)
        assert done.returncode == code and said in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "p.html").exists()
