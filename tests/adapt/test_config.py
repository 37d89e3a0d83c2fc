import re
from importlib import resources

import pytest
from cia_adapt import config, statistics
from cia_extract.errors import UsageError


@pytest.mark.parametrize("name", config.names("methods"))
def test_every_method_file_loads_and_opens_with_its_cell(name):
    method = config.load(config.Method, name, {})
    assert method.name == name and method.paper and method.reconstructed
    text = resources.files("cia_adapt").joinpath("methods", f"{name}.toml").read_text()
    first = text.splitlines()[0]
    assert re.match(r"# Table \d", first) and f"--method {name}" in first
    for number in re.findall(r"\d\d\.\d\d", method.published):
        assert number in first


@pytest.mark.parametrize("name", config.names("setups"))
def test_every_setup_file_loads(name):
    setup = config.load(config.Setup, name, {})
    assert (setup.segments, setup.lr, setup.optimiser) == (5, 3e-3, "adam")


def test_published_numbers_are_the_papers(shared):
    """Table 3 as `evaluation.md` prints it."""
    text = (shared.parent / "evaluation.md").read_text()
    for name in config.names("methods"):
        pair = "/".join(re.findall(r"\d\d\.\d\d", config.load(config.Method, name, {}).published))
        assert pair in text, name


def test_supplements_weights_are_the_defaults():
    method = config.load(config.Method, "cia", {})
    assert (method.lambda_class, method.lambda_video, method.lambda_frame) == (1.0, 1.0, 0.5)
    assert (method.sc_scales, method.mc_ratio) == (3, 16)


def test_flags_override_and_are_checked():
    assert config.load(config.Setup, "uh", {"lr": 1e-4, "mc_ratio": 8}).lr == 1e-4
    with pytest.raises(UsageError, match="--sc-scales 9: must lie between 1 and 7"):
        config.load(config.Method, "cia", {"sc_scales": 9})


def test_every_field_with_a_text_is_a_flag_and_every_science_field_has_one():
    flags = config.flags(config.Setup) | config.flags(config.Method)
    assert flags["lr"][0] is float and flags["lr_decay"][0] is bool and flags["head"][0] is str
    assert set(vars(config.load(config.Method, "cia", {}))) - set(flags) == {"name", "paper", "published", "reconstructed"}


def test_mean_and_sd():
    assert statistics.mean_sd([50.0]) == "50.0"
    assert statistics.mean_sd([80.0, 82.0, 84.0]) == "82.0 ± 2.0"
