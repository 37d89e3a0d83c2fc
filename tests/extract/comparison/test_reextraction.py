"""`compare --again`: a clip of a real feature file extracted again, as it was and with one thing changed."""

import numpy as np
import pytest
from cia_extract import features, recipes
from cia_extract.clips import flow
from cia_extract.clips.flow import tvl1_pair
from cia_extract.comparison import reextraction
from cia_extract.comparison.compare import compare
from cia_extract.datasets import manifest
from cia_extract.extraction import pipeline
from cia_extract.extraction import settings as extraction_settings

from tests.extract.extraction.test_flow_batches import moving

FRAMES = 8
KNOBS = {"sampling.frames": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One clip's RGB and TV-L1 flow by TBN: as its recipe says, and with zeros instead of the last frames beyond the ends."""
    root = tmp_path_factory.mktemp("again")
    moving(root / "clip", FRAMES)
    rows = manifest.check("test", [{"clip": "clip", "path": "clip", "label": "a", "split": "train"}])
    paths = {}
    for name, knobs in {"plain": {}, "zero": {"flow.edge": "zero", "rgb.edge": "zero"}}.items():
        paths[name] = root / f"{name}.h5"
        recipe = recipes.load("tbn-epic100", KNOBS | {"flow.first": -2} | knobs)
        settings = extraction_settings.Settings(
            dataset="d", manifest=rows, root=root, out=paths[name], recipe=recipe, weights=("random",), engine="eager", workers=1
        )
        assert not pipeline.extract(settings, print).failed
    return paths


def pooled(path, modality):
    return features.open_features(path)["d"].array(f"{modality}/pooled")[0]


def test_a_clip_extracted_again_equals_the_file_and_with_a_change_equals_the_changed_file(files):
    again = reextraction.load(files["plain"], None, [])
    for modality in ("rgb", "flow"):
        np.testing.assert_allclose(again("clip", modality, {}), pooled(files["plain"], modality), rtol=1e-3, atol=1e-3)
    other = again("clip", "flow", {"edge": "zero"})
    np.testing.assert_allclose(other, pooled(files["zero"], "flow"), rtol=1e-3, atol=1e-3)
    assert np.abs(other - pooled(files["plain"], "flow")).max() > 0.1


def test_the_change_is_named_and_no_pair_is_computed_twice(files, monkeypatch):
    """Half a dozen changes are tried; TV-L1 is computed once, by what computed it in the file."""
    assert features.open_features(files["plain"])["d"].provenance["engine"]["flow_by"] == flow.implementation("torch")
    computed: list[int] = []
    real = tvl1_pair.flow
    monkeypatch.setattr(tvl1_pair, "flow", lambda *pair: computed.append(1) or real(*pair))
    comparison = compare(files["plain"], files["zero"], reextract=reextraction.load(files["plain"], None, []))
    (line,) = [line for line in comparison.diagnosis if line.startswith("flow: B")]
    assert "A re-extracted with zeros beyond the clip's ends" in line
    assert 0 < len(computed) <= FRAMES - 1
