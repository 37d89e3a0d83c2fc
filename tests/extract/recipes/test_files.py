import copy
import json
import tomllib
from importlib import resources

import numpy as np
import pytest
import torch
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.settings import parsed
from cia_extract.extraction.window_batches import scaling
from cia_extract.networks.engines import Trunk
from cia_extract.recipes import files


def test_every_recipe_has_its_own_hash_and_says_what_it_is():
    loaded = [files.load(name) for name in files.NAMES]
    assert len({recipe.sha256() for recipe in loaded}) == len(files.NAMES)
    assert all(recipe.about and recipe.version >= 1 for recipe in loaded)


def test_a_changed_knob_changes_hash_and_name_and_only_what_is_used_is_stored():
    plain, changed = files.load("kinetics"), files.load("kinetics", {"rgb.edge": "zero"})
    assert changed.sha256() != plain.sha256() and changed.name == "kinetics, changed"
    assert files.load("kinetics", {"rgb.edge": "replicate"}) == plain
    assert set(plain.knobs(["audio"])) == {"name", "version", "backbone", "sampling", "audio", "network"}
    assert plain.knobs(["flow"]) == {k: v for k, v in changed.knobs(["flow"]).items() if k != "name"} | {"name": "kinetics"}
    assert files.restored(changed.knobs(), "f.h5") == changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rgb.colour": 1}, "rgb.colour = 1: unknown, choose from rgb.window"),
        ({"colour.rgb": 1}, "colour.rgb: unknown; cia-extract recipes kinetics lists all"),
        ({"rgb.edge": "wrap"}, "rgb.edge = wrap: unknown, choose from replicate, zero"),
        ({"rgb.egde": "zero"}, r"rgb.egde = zero: unknown, choose from .*; did you mean rgb.edge\?"),
        ({"sampling.frames": 0}, "sampling.frames = 0: give a whole number from 1 to 10000"),
        ({"sampling.frames": "many"}, "sampling.frames = many: give a whole number from 1 to 10000"),
        ({"rgb.mean": [1, 2]}, r"rgb.mean = \[1, 2\]: give 3 numbers from -1e\+06 to 1e\+06, in brackets"),
        ({"rgb.std": [1, 0, 1]}, r"rgb.std = \[1, 0, 1\]: give 3 numbers from 1e-06"),
        ({"flow.median": 2}, "flow.median = 2: unknown, choose from 0, 1, 3, 5"),
        ({"rgb.window": 8}, "I3D needs 9 frames or more"),
        ({"picture.crop": 256}, "7×7 from 224 px only"),
        ({"picture.short_side": 128}, "crop is larger"),
    ],
)
def test_wrong_knobs(changes, message):
    with pytest.raises(UsageError, match=message):
        files.load("kinetics", changes)


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
    scale, offset = scaling(files.load(name), modality)
    np.testing.assert_allclose(np.array(pixel, np.float32) * scale + offset, expected, atol=2e-5)


def test_kinetics_scaling_is_2x_over_255_minus_1_to_the_bit():
    scale, offset = scaling(files.load("kinetics"), "rgb")
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
    assert getattr(getattr(files.load(name), section), key) == value


# What comes from outside: `--set`, and the recipes in feature files.

FORM, EXAMPLE = "section.knob", "rgb.edge=zero"
SILLY = [
    *(
        "nan",
        "inf",
        "-inf",
        "1e30",
        "-1e30",
        "-1",
        "true",
        "[]",
        "[1, 2, 3, 4]",
        "[true, true, true]",
        "[nan, 1, 1]",
        "",
        " ",
        "''",
    ),
    *(
        "2024-01-01",
        "{a = 1}",
        "9" * 5000,
        "[" * 100_000,
        "x" * 1_000_000,
        "5\nx = 7",
        '"\\u001b[31m"',
        "\x1b[31m",
        "None",
        "0x",
        "-0.0",
    ),
]


@pytest.mark.parametrize("number", range(len(SILLY)))
def test_silly_values_of_any_knob_are_refused_in_one_line_or_harmless(number):
    """Whatever stands behind --set, the answer is a recipe within its limits or one short line that names the knob."""
    knobs = {s: k for s, k in files.load("kinetics").knobs().items() if isinstance(k, dict)}
    for key in (f"{section}.{knob}" for section, values in knobs.items() for knob in values):
        name, value = parsed(f"{key}={SILLY[number]}", FORM, EXAMPLE)
        try:
            changed = files.load("kinetics", {name: value})
        except UsageError as error:
            text = str(error)
            assert len(text) < 400 and text.isprintable() and key.split(".")[0] in text
        else:
            assert json.loads(json.dumps(changed.knobs(), allow_nan=False)) == changed.knobs()


@pytest.mark.parametrize("value", ["nan", "inf", "1e30", "-1"])
@pytest.mark.parametrize("key", ["rgb.std", "flow.bound", "audio.seconds", "network.bn_eps", "sampling.rate", "audio.log_offset"])
def test_numbers_that_would_spoil_every_feature_are_refused(key, value):
    text = f"[{value}, 1, 1]" if key == "rgb.std" else value
    with pytest.raises(UsageError, match=key):
        files.load("kinetics", dict([parsed(f"{key}={text}", FORM, EXAMPLE)]))


@pytest.mark.parametrize(
    "key", ["", ".", "rgb", "rgb.", ".edge", "rgb.edge.x", "k" * 100_000, "\x1b[2J.x", "about", "name.x", "rgb .edge"]
)
def test_silly_knobs_are_refused_in_one_line(key):
    with pytest.raises(UsageError, match=f"write {FORM}=value|unknown[;,] ") as error:
        files.load("kinetics", dict([parsed(f"{key}=zero", FORM, EXAMPLE)]))
    assert str(error.value).isprintable() and len(str(error.value)) < 1000


@pytest.mark.parametrize("sound", [{"audio.win": 600}, {"audio.hop": 8000}, {"audio.seconds": 0.02}, {"audio.n_fft": 20}])
def test_sound_that_no_network_could_take_is_refused(sound):
    with pytest.raises(UsageError, match="audio"):
        files.load("kinetics", sound)


@pytest.mark.parametrize("name", files.NAMES)
@pytest.mark.parametrize("modalities", [("rgb",), ("flow",), ("audio",), ("rgb", "flow", "audio")])
def test_every_recipe_comes_back_from_a_file_with_what_its_modalities_need(name, modalities):
    recipe = files.load(name, {"sampling.frames": 7})
    back = files.restored(json.loads(json.dumps(recipe.knobs(modalities))), "f.h5")
    assert back == recipe


def test_a_recipe_of_version_1_is_read():
    """As cia-extract 1 wrote it: no knob has changed since."""
    for name in files.NAMES:
        stored = files.load(name).knobs() | {"version": 1}
        back = files.restored(stored, "f.h5")
        assert back.version == 1 and back.knobs() == stored
        assert files.load(name).version == 2
    assert "2: consecutive cuts" in files.load("mmsada").history


def test_mmsadas_centres_of_flow_alone_are_kept_with_rgbs_windows_that_decide_them():
    changed = files.load("mmsada", {"rgb.first": -20})
    assert files.restored(changed.knobs(["flow"]), "f.h5").rgb.first == -20


def damaged() -> list[object]:
    """Values and structures that a hostile or damaged file may hold in place of its recipe."""
    healthy = files.load("kinetics").knobs()
    values = [
        None,
        True,
        -1,
        0,
        10**400,
        float("nan"),
        float("inf"),
        -float("inf"),
        1e308,
        "",
        "x" * 10_000,
        "\x1b[31m",
        [],
        [[]],
        {},
    ]
    values += [{"a": {"b": 1}}, [1, 2, 3], ["a", "b", "c"], [float("nan")] * 3, [None] * 3, [10**400] * 3, [True] * 3]
    made: list[object] = [*values, {"name": "kinetics"}]
    for section, knobs in healthy.items():
        made.append({key: value for key, value in healthy.items() if key != section})
        made += [healthy | {section: value} for value in values]
        for knob in knobs if isinstance(knobs, dict) else ():
            for value in values:
                made.append(copy.deepcopy(healthy) | {section: healthy[section] | {knob: value}})
        if isinstance(knobs, dict):
            made.append(healthy | {section: knobs | {"unknown": 1}})
    made += [healthy | {"unknown": {}}, healthy | {"unknown": 1}, healthy | {"": {"": 1}}, healthy | {"name": "tbn-epic55"}]
    return made


def test_any_damaged_recipe_of_a_file_is_one_line_or_harmless():
    """Thousands of them: DataError with the file's name, or a recipe within the limits that extraction has."""
    refused = 0
    for knobs in damaged():
        try:
            recipe = files.restored(knobs, "f.h5: 'd'")
        except DataError as error:
            refused += 1
            assert str(error).startswith("f.h5: 'd': its recipe is damaged, or of a later version of cia-extract: ")
            assert str(error).isprintable() and len(str(error)) < 1500
        else:
            again = files.restored(json.loads(json.dumps(recipe.knobs(), allow_nan=False)), "f.h5")
            assert again.knobs() == recipe.knobs() and recipe.name.isprintable()
    assert refused > 500


def test_every_recipe_file_holds_only_what_is_known():
    for name in files.NAMES:
        text = resources.files("cia_extract.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")
        own = tomllib.loads(text)
        known = files.load(name).knobs()
        assert set(own) <= {*known, "about", "departs", "history"} and own["version"] == 2
        assert all(set(own[key]) <= set(known[key]) for key in own if isinstance(own[key], dict))
