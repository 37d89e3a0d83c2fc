"""`make test-gpu`: on a GPU every tier, precision and part, compiled (CUDA graphs) or not, trains to one and the same loss.

`make test-gpu-all` compiles every method.
"""

import pytest
import torch
from cia_adapt import config
from cia_adapt.data import domains as data_domains
from cia_adapt.data import task as data_task
from cia_adapt.data.readers import Stores
from cia_adapt.parts import registry
from cia_adapt.training.trainer import Trainer

from benchmarks.gpu.quick import covering
from tests.adapt.runs_of import chosen, quick_first, trainer_of

METHODS = config.names("methods")
QUICK = covering(METHODS)  # the other methods have the same parts in other combinations


def trainer_on(device: torch.device, file, method: str, tier="ram", **options) -> Trainer:
    """From here to there with batches of 5 clips, of which the last is smaller."""
    domains = data_domains.find_domains(file)
    picked = chosen(method, batch=5, dropout=0.0)
    resolved = picked.for_pair("here", "there")
    task, _ = data_task.make_task(
        domains["here"], domains["there"], ("rgb", "flow"), resolved.needs_maps, picked.setup, Stores(device, tier),
        resolved.supervision,
    )  # fmt: skip
    trainer = Trainer(task, picked.setup, resolved, 0, device, **options)
    assert len(task.source_train.clips) % trainer.batch
    return trainer


def losses(trainer: Trainer) -> list[float]:
    """Of two epochs; a second phase without the source has none."""
    return [trainer.epoch().get("class_loss", 0.0) for _ in range(2)]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tier", ["hdf5", "ram", "device"])
def test_every_tier_trains_as_the_cpu_does(gpu, small_file, tier, precision):
    if gpu.type == "cpu" and tier == "device":
        pytest.skip("a tier of GPUs")
    expected, _ = trainer_of(small_file, "cia", batch=5, dropout=0.0)
    tolerance = 0.01 if precision == "fp32" else 0.05
    assert losses(trainer_on(gpu, small_file, "cia", tier, precision=precision)) == pytest.approx(losses(expected), rel=tolerance)


def test_the_quick_methods_have_every_part():
    used = {part for method in QUICK for part in config.load("demo", method, {}).method.used_parts()}
    assert used == {(kind, name) for kind in registry.KINDS for name in registry.names(kind)}
    assert len(QUICK) == len(set(QUICK)) < len(METHODS) / 2


@pytest.mark.gpu
@pytest.mark.parametrize("method", quick_first(METHODS))
def test_every_method_trains_compiled_as_it_does_eagerly(gpu, small_file, method):
    """With a ragged last batch, which runs eagerly; second views and second phases are among the methods."""
    torch._dynamo.reset()
    eager, compiled = (losses(trainer_on(gpu, small_file, method, compiled=way)) for way in (False, True))
    assert compiled == pytest.approx(eager, rel=0.01)
