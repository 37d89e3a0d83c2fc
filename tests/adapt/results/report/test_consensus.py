"""The consensus maps of the page: the model's, over the frames that the network saw."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from cia_adapt.experiments import runner
from cia_adapt.results import figures as papers
from cia_adapt.results.report import consensus, figures, page
from cia_adapt.runs import files
from PIL import Image

from tests.adapt.runs.test_resume import folder_of, request
from tests.extract.clips.test_video import encode


@pytest.fixture(scope="module")
def run(feature_file, tmp_path_factory) -> tuple[Path, Path]:
    """(The folder of a run of CIA, the folder of its clips)."""
    root = tmp_path_factory.mktemp("maps")
    for index in range(18):
        encode(root / f"there{index}.avi", 50, codec="mpeg4")
    runner.run(request(feature_file, root / "runs", "cia", epochs=1), print)
    return folder_of(root / "runs", "cia"), root


def test_maps_of_the_page_are_the_models_and_lie_over_the_frames_of_the_network(run, tmp_path):
    folder, clips = run
    said: list[str] = []
    page.write(files.find([folder]), tmp_path / "report.html", page.Wanted(root=clips, clips=3), said.append)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"<figure.*?</figure>", html, re.DOTALL) if 'id="maps-' in block]
    opened = papers.opened(folder)
    assert len(blocks) == 3 and not [line for line in said if "maps" in line]
    for block in blocks:
        columns = json.loads(re.search(r'<script type="application/json">(.*?)</script>', block, re.DOTALL)[1])["columns"]
        clip = columns["clip"]["values"][0]
        position = opened.task.target_val.names.index(clip)
        with torch.inference_mode():
            output = opened.model(opened.inputs(np.array([position])))
        maps = output.consensus[0].double().numpy()  # [S, 7, 7]
        np.testing.assert_allclose(np.reshape(columns["share"], maps.shape), maps, atol=6e-5)  # rounded to 4 decimals
        places = np.stack([columns[name] for name in ("frame", "row", "column")], axis=1) - 1
        assert places.tolist() == np.argwhere(np.ones(maps.shape)).tolist()
        predicted = opened.task.classes["label"][int(output.probabilities()[0][0].argmax())]
        assert f"{clip}: predicted {predicted}. The brightest cell gives {maps.max():.1%}" in block


def test_frames_above_maps_below(run):
    folder, clips = run
    (panel, *_), missing = consensus.panels(folder, clips, seed=0, count=2)
    opened = papers.opened(folder)
    frames = opened.pictures(opened.task.target_val.names.index(panel.clip), clips)
    drawn = np.asarray(Image.open(io.BytesIO(panel.picture)).convert("RGBA")).astype(int)
    step = figures.SIDE + figures.GAP
    assert not missing and drawn.shape[:2] == (2 * step - figures.GAP, len(frames) * step - figures.GAP)
    for i, frame in enumerate(frames):
        above = drawn[: figures.SIDE, i * step : i * step + figures.SIDE]
        assert abs(above[..., :3].mean() - frame.mean()) < 4 and (above[..., 3] == 255).all()
    assert (drawn[figures.SIDE + 1, :, 3] == 0).all()  # a gap has no colour of its own


def test_a_cell_is_as_bright_as_its_weight():
    grey = Image.new("RGB", (140, 140), (100, 100, 100))
    brightest = 0.25 * 100 + 0.75 * np.array([252, 255, 164])  # the last colour of inferno
    np.testing.assert_allclose(np.asarray(figures.overlaid(grey, np.ones((7, 7)))), np.full((140, 140, 3), brightest), atol=1)
    weights = np.zeros((7, 7))
    weights[3, 5] = 1
    drawn = np.asarray(figures.overlaid(grey, weights)).astype(int)
    y, x = np.unravel_index(drawn.sum(2).argmax(), (140, 140))
    assert (y // 20, x // 20) == (3, 5)
    assert (drawn[:, :70] == 100).all() and (drawn[:40] == 100).all()


@pytest.mark.parametrize(("count", "columns", "lines"), [(1, 1, 1), (6, 6, 1), (7, 4, 2), (25, 5, 5)])
def test_many_frames_lie_in_lines(count, columns, lines):
    frames = [np.full((224, 224, 3), 200, np.uint8)] * count
    width, height = Image.open(io.BytesIO(figures.consensus(frames, np.full((count, 7, 7), 1 / 49)))).size
    step = figures.SIDE + figures.GAP
    assert (width, height) == (columns * step - figures.GAP, 2 * lines * step - figures.GAP)
