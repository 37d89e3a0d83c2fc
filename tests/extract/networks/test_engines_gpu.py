"""`make test-gpu`: every engine and precision on a GPU gives the numbers of the CPU's eager float32."""

import pytest
import torch
from cia_extract import recipes
from cia_extract.networks import engines, streams, weights

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("precision", engines.PRECISIONS)
def test_windows_of_a_batch_are_described_as_on_the_cpu(gpu, engine, precision):
    """I3D on a GPU; TBN's smaller trunk, and no TF32, where these tests are tried on a CPU."""
    name, recipe = ("i3d", recipes.load("kinetics")) if gpu.type == "cuda" else ("tbn", recipes.load("tbn-epic55"))
    if gpu.type == "cpu" and precision == "tf32":
        pytest.skip("TF32 exists on NVIDIA GPUs only")
    network = weights.build(name, "rgb", weights.load(name, "rgb", "random", print)).fold()
    window = streams.example(recipe, "rgb")
    windows = torch.cat([window, window.flip(-1), 0.5 * window])
    expected = engines.build(network, recipe, window, torch.device("cpu"), "eager").run(windows)
    built = engines.build(network, recipe, window, gpu, engine, precision, batch=3)
    described = built.run(windows.to(gpu))
    assert described.device.type == gpu.type and described.dtype == torch.float32
    for one, other in zip(described.cpu().flatten(1), expected.flatten(1), strict=True):
        assert torch.cosine_similarity(one, other, dim=0) >= engines.ENOUGH[precision]
