"""The set-up and method in a config.json that may be anybody's: as flags would take them, or one line that names the file."""

import copy
import json
import resource

import pytest
import torch
from cia_adapt.model import VideoModel, restored
from cia_adapt.parts.interface import Sizes
from cia_adapt.runs import RunKey, files, method_of, setup_of
from cia_adapt.runs.key import compare
from cia_extract.common.errors import DataError

from tests.adapt.runs_of import chosen

SIZES = Sizes({"rgb": 8, "flow": 8}, {"rgb": (7, 7), "flow": (7, 7)}, (3,), 5, 0.5, target_train_clips=4, shared_features=16)
WRONG_SETUPS = {
    "segments": [-1, 10**6],
    "shared_features": ["x", -1, 10**9, 2.5, None, True, {}, [5]],
    "test_clips": [0, 10**7],
    "lr": ["fast", 1e9, False],
    "select": ["luck", 3],
    "labels": [["label"], None],
}
WRONG_PARTS = {"scales": ["x", 1.5], "embedding": [-1, 10**9, None], "temperature": ["hot"], "zoom": [1]}


@pytest.fixture
def key() -> RunKey:
    picked = chosen("cia")
    return RunKey(picked.setup, picked.for_pair("here", "there"), "here", "there", ("rgb", "flow"), 0, "1+2")


@pytest.fixture
def written(key, tmp_path):
    """A function that writes the run's config.json with its fields as given, and reads it."""

    def write(method: dict | None = None, classes: object = None, **setup: object) -> dict:
        config = copy.deepcopy(key.fields()) | {"classes": {"label": ["a"]} if classes is None else classes}
        config["setup"] |= setup
        config["method"] |= method or {}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return files.read_config(tmp_path)

    return write


def test_what_was_written_comes_back(key, written, tmp_path):
    config = written()
    assert (setup_of(config, tmp_path), method_of(config, tmp_path)) == (key.setup, key.method)


def test_fields_that_earlier_versions_did_not_write_are_completed(key, written, tmp_path):
    config = written()
    del config["setup"]["smoothing"], config["method"]["options"]["sc"]["blend"]
    assert setup_of(config, tmp_path) == key.setup
    assert compare(config, key.fields()) == []
    for name in ("refinement", "temporal", "objectives", "options"):
        del config["method"][name]
    method = method_of(config, tmp_path)
    assert (method.refinement, method.temporal, method.objectives, method.options) == ("none", "tsn", (), {})
    assert {difference.field for difference in compare(config, key.fields())} >= {"method.refinement", "method.objectives"}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG_SETUPS.items() for value in values])
def test_a_set_up_has_the_types_and_ranges_of_the_flags(written, tmp_path, name, value):
    with pytest.raises(DataError, match=rf"config\.json: .*{name}"):
        setup_of(written(**{name: value}), tmp_path)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG_PARTS.items() for value in values])
def test_so_have_the_settings_of_parts(key, written, tmp_path, name, value):
    options = {part: dict(table) for part, table in key.method.options.items()}
    options["sc"][name] = value
    with pytest.raises(DataError, match=rf"config\.json: sc\.{name}"):
        method_of(written({"options": options}), tmp_path)


@pytest.mark.parametrize("field", ["searched", "options"])
@pytest.mark.parametrize("value", [[], [1], 1, "x", None, {"sc": [1]}])
def test_a_method_s_tables_are_tables(written, field, value):
    with pytest.raises(DataError, match=rf"config\.json: 'method\.{field}' has a wrong value"):
        written({field: value})


@pytest.mark.parametrize(
    ("classes", "line"),
    [
        ({"label": [""] * 100_001}, "more than 100,000 names"),
        ({"label": ["a" * 1001]}, "a name of more than 1,000 characters"),
        ({"label": ["a"], "noun" * 300: ["b"]}, "a name of more than 1,000 characters"),
        ({"label": ["a"], "noun": []}, "without classes"),
    ],
)
def test_classes_are_bounded(written, classes, line):
    with pytest.raises(DataError, match=line):
        written(classes=classes)
    written(classes={"label": ["a" * 1000] * 1000})


def test_a_model_of_other_sizes_than_its_state_takes_no_memory():
    """θ of 10⁸ channels takes 6.4 GB."""
    method = chosen("sc-3").for_pair("here", "there")
    state = VideoModel(method, SIZES).state_dict()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    huge = chosen("sc-3", ("sc.embedding=100000000",)).for_pair("here", "there")
    with pytest.raises(RuntimeError, match="another shape"):
        restored(huge, SIZES, state)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    assert all(torch.equal(value, state[name]) for name, value in restored(method, SIZES, state).state_dict().items())
