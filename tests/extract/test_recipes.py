import numpy as np
import pytest
import torch
from cia_extract import recipes
from cia_extract.batches import scaling
from cia_extract.engines import Trunk
from cia_extract.errors import UsageError


def test_every_recipe_has_its_own_hash_and_says_what_it_is():
    loaded = [recipes.load(name) for name in recipes.NAMES]
    assert len({recipe.sha256() for recipe in loaded}) == len(recipes.NAMES)
    assert all(recipe.about and recipe.version >= 1 for recipe in loaded)


def test_a_changed_knob_changes_hash_and_name_and_only_what_is_used_is_stored():
    plain, changed = recipes.load("kinetics"), recipes.load("kinetics", {"rgb.edge": "zero"})
    assert changed.sha256() != plain.sha256() and changed.name == "kinetics, changed"
    assert recipes.load("kinetics", {"rgb.edge": "replicate"}) == plain
    assert set(plain.knobs(["audio"])) == {"name", "version", "backbone", "sampling", "audio", "network"}
    assert plain.knobs(["flow"]) == {k: v for k, v in changed.knobs(["flow"]).items() if k != "name"} | {"name": "kinetics"}
    assert recipes.restored(changed.knobs(), "f.h5") == changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rgb.colour": 1}, "rgb.colour: no such knob"),
        ({"rgb.edge": "wrap"}, "rgb.edge = wrap: unknown, choose from replicate, zero"),
        ({"sampling.frames": 0}, "must be 1 or more"),
        ({"sampling.frames": "many"}, "give a value like 25"),
        ({"rgb.mean": [1, 2]}, "give 3 numbers"),
        ({"rgb.std": [1, 0, 1]}, "cannot be zero"),
        ({"rgb.window": 8}, "I3D needs 9 frames or more"),
        ({"picture.crop": 256}, "7×7 from 224 px only"),
        ({"picture.short_side": 128}, "crop is larger"),
    ],
)
def test_wrong_knobs(changes, message):
    with pytest.raises(UsageError, match=message):
        recipes.load("kinetics", changes)


@pytest.mark.parametrize(
    ("name", "modality", "pixel", "expected"),
    [
        ("kinetics", "rgb", [0, 51, 255], [-1, -0.6, 1]),
        ("kinetics", "flow", [0, 255], [-1, 1]),
        ("mmsada", "rgb", [0, 128, 255], [-1, 0, 127 / 128]),  # (x/256 − ½)·2
        (
            "transvae",
            "rgb",
            [124, 116, 104],
            [(124 / 255 - 0.485) / 0.229, (116 / 255 - 0.456) / 0.224, (104 / 255 - 0.406) / 0.225],
        ),
        ("tbn-epic55", "rgb", [104, 117, 128], [0, 0, 0]),  # B, G, R: the means stand in the channels' own order
        ("tbn-epic55", "flow", [128, 0], [0, -128]),
    ],
)
def test_scaling(name, modality, pixel, expected):
    scale, offset = scaling(recipes.load(name), modality)
    np.testing.assert_allclose(np.array(pixel, np.float32) * scale + offset, expected, atol=2e-5)


def test_kinetics_scaling_is_2x_over_255_minus_1_to_the_bit():
    scale, offset = scaling(recipes.load("kinetics"), "rgb")
    assert (scale == np.float32(2 / 255)).all() and (offset == -1).all()


def test_pair_pooling_weighs_the_ends_half():
    """The official head on 8 slices: the mean of 7 overlapping pairs has weights (1, 2, 2, 2, 2, 2, 2, 1)/14."""
    slices = torch.randn(1, 4, 8, 7, 7, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([1, 2, 2, 2, 2, 2, 2, 1]) / 14
    expected = torch.einsum("bcthw,t->bchw", slices, weights)
    assert torch.allclose(Trunk(torch.nn.Identity(), "pairs")(slices), expected, atol=1e-6)
    assert not torch.allclose(Trunk(torch.nn.Identity(), "mean")(slices), expected, atol=1e-2)
    two = slices[:, :, :2]
    assert torch.allclose(Trunk(torch.nn.Identity(), "pairs")(two), two.mean(2), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "knob", "value"),
    [
        ("kinetics", "network.bn_eps", 1e-3),  # 1e-5 is the known mistake of ports
        ("video_features", "network.bn_eps", 1e-5),  # … and this one's
        ("tbn-epic55", "network.bn_eps", 1e-5),
        ("kinetics", "flow.bound", 20.0),
        ("kinetics", "flow.quantiser", "floor"),
        ("video_features", "flow.quantiser", "round128"),
        ("tbn-epic55", "rgb.order", "bgr"),
        ("kinetics", "rgb.order", "rgb"),
        ("transvae", "rgb.edge", "zero"),
        ("transvae", "picture.short_side", 224),
        ("mmsada", "rgb.step", 2),
        ("tbn-epic55", "audio.rate", 24_000),  # 44 000 is the default of TBN's dataset.py
        ("kinetics", "picture.resize", "pillow"),
    ],
)
def test_facts_of_the_recipes(name, knob, value):
    section, key = knob.split(".")
    assert getattr(getattr(recipes.load(name), section), key) == value
