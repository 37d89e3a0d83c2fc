"""`make test-gpu`: extraction on a GPU, TV-L1 there too, fills a file as one on the CPU does."""

import numpy as np
import pytest
from cia_extract import features
from cia_extract.extraction import pipeline

from tests.extract.extraction.test_flow_batches import moving
from tests.extract.extraction.test_pipeline import recipe, settings

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_clips_of_several_lengths_are_described_as_on_the_cpu(gpu, tmp_path, precision):
    """More windows than a batch holds, and a last batch that is not full; flow is the CPU's up to TV-L1's own spread."""
    names = ["c0", "c1", "c2"]
    for name, count in zip(names, (8, 12, 9), strict=True):
        moving(tmp_path / name, count, right=1)
    tbn = {"recipe": recipe(2, "tvl1", "tbn-epic55"), "weights": ("random",), "engine": "eager", "batch": 4}
    for place, changes in (("cpu", {}), ("gpu", {"device": gpu, "precision": precision})):
        summary = pipeline.extract(settings(tmp_path, names, **tbn, **changes, out=tmp_path / f"{place}.h5"), print)
        assert summary.done == len(names) and not summary.failed
    here, there = (features.open_features(tmp_path / f"{place}.h5")["real"] for place in ("cpu", "gpu"))
    for modality, least in (("rgb", 0.9999 if precision == "bf16" else 0.999999), ("flow", 0.98)):
        for a, b in zip(here.array(f"{modality}/pooled"), there.array(f"{modality}/pooled"), strict=True):
            assert float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)) >= least, modality
    assert there.provenance["engine"]["flow_by"] != "" and not there.damaged_rows("rgb")
