"""What is cached are the frames and flows that stage one sees."""

from dataclasses import replace

import numpy as np
import pytest
from cia_adapt.footage import Pictures
from cia_extract import recipes
from cia_extract.clips import job_of, prepare_clip
from cia_extract.clips.picture import centre_crop
from cia_extract.datasets import manifest

from tests.adapt.clips_of import PICTURES


def prepared(tiny_clips, pictures, row=0):
    rows = manifest.read(tiny_clips)
    return prepare_clip(pictures.job(rows, row, tiny_clips.parent, pictures.modalities))


@pytest.mark.parametrize("width", [224, 256, 300, 400])
def test_the_centre_of_what_is_cached_is_what_extraction_sees(tiny_clips, width):
    """At every width: wider canvases than the picture (256×340) repeat its edge. Flow with it, by DIS on the same frames."""
    pictures = Pictures("i3d", ("rgb", "flow"), 4, 256, width, "dis")
    clip = prepared(tiny_clips, pictures)
    recipe = recipes.load("kinetics", {"sampling.frames": 4, "flow.algorithm": "dis"})
    extracted = prepare_clip(job_of(manifest.read(tiny_clips), 0, tiny_clips.parent, recipe, ("rgb", "flow")))
    assert (clip.centres == extracted.centres).all()
    middle = -recipe.rgb.first
    for modality in ("rgb", "flow"):
        stored = pictures.of_clip(clip, modality)
        assert stored.shape == pictures.shape(modality)
        windows = extracted.windows[modality]
        for t, seen in enumerate(windows.images[windows.rows[:, middle]]):
            assert (centre_crop(stored[t], 224) == seen).all()


def test_tbn_gets_five_flows_at_each_place_in_its_order_and_blue_first(tiny_clips):
    three, five = (replace(PICTURES, backbone=name, short_side=64, width=80) for name in ("i3d", "tbn"))
    rgb, bgr = (p.of_clip(prepared(tiny_clips, p), "rgb") for p in (three, five))
    assert rgb.mean((0, 1, 2)).argmin() == 2 and bgr.mean((0, 1, 2)).argmin() == 0  # the square is yellow
    clip = prepared(tiny_clips, five)
    flow, windows = five.of_clip(clip, "flow"), clip.windows["flow"]
    assert flow.shape == (4, 64, 80, 10)
    for place in range(5):
        assert (flow[2, ..., 2 * place : 2 * place + 2] == windows.images[windows.rows[2, place]]).all()


def test_settings_that_decide_no_pixel_of_a_modality_are_not_among_its_knobs():
    slower = replace(PICTURES, flow="tvl1")
    assert slower.knobs("rgb") == PICTURES.knobs("rgb") and slower.knobs("flow") != PICTURES.knobs("flow")
    assert PICTURES.knobs("rgb") == replace(PICTURES, modalities=("rgb",)).knobs("rgb")
    assert np.prod([PICTURES.shape("rgb"), PICTURES.shape("flow")], axis=1).sum() == PICTURES.clip_bytes
