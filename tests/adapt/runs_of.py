"""Training small runs without the command line, for tests."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cia_adapt import config
from cia_adapt.data import domains as data_domains
from cia_adapt.data import task as data_task
from cia_adapt.data.readers import Stores
from cia_adapt.runs import resume, state
from cia_adapt.training.evaluate import Evaluator
from cia_adapt.training.loop import Outcome, train
from cia_adapt.training.trainer import Trainer

from benchmarks.gpu.quick import covering

CPU = torch.device("cpu")
SOURCE_FREE = ("shot-fl", "cia-shot", "cleanadapt-fl", "cleanadapt-fl-ts")  # they need an epoch in each of two phases
SMALL = {
    "sc": ["sc.embedding=16"],
    "tada": ["tada.hidden=4"],
    "disentanglement": ["disentanglement.information=1"],  # the published 50 wants hundreds of epochs
    "gradient_blend": ["gradient_blend.epochs=2", "gradient_blend.held_out=0.5"],
}


def quick_first(methods: Sequence[str]) -> list[Any]:
    """For parametrize: all methods, of which the quick suite takes those that have, together, every part."""
    quick = covering(methods)
    return [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in methods if name not in quick)]


def chosen(method: str, sets: tuple[str, ...] = (), **overrides) -> config.Chosen:
    """A method in set-up demo, with small parts where it has them, unless `sets` says otherwise."""
    plain = config.load("demo", method, overrides)
    small = [s for part, settings in SMALL.items() for s in settings if part in {name for _, name in plain.method.used_parts()}]
    return config.load("demo", method, {"epochs": 2, "batch": 6} | overrides, [*small, *sets])


def trainer_of(
    file: Path,
    method: str,
    seed: int = 0,
    modalities=("rgb", "flow"),
    garbage: bool = False,
    sets=(),
    tier=None,
    pair=("here", "there"),
    **overrides,
) -> tuple[Trainer, Evaluator]:
    """From the first of `pair` to the second. `garbage`: the target's labels are replaced before anything has read them."""
    domains = data_domains.find_domains(file)
    source, target = (domains[name] for name in pair)
    if garbage:
        labels = target.dataset.columns["label"]
        labels[:] = [{"jump": "run", "run": "", "wave": "nonsense"}[label] for label in labels]
    picked = chosen(method, sets, **overrides)
    resolved = picked.for_pair(*pair)
    task, labels = data_task.make_task(
        source,
        target,
        modalities,
        resolved.needs_maps,
        picked.setup,
        Stores(CPU, tier),
        resolved.supervision,
    )
    return Trainer(task, picked.setup, resolved, seed, CPU), Evaluator(task, labels, picked.setup.segments, CPU)


def run(file: Path, method: str, **options) -> tuple[Trainer, Outcome]:
    """`trainer_of`, trained."""
    trainer, evaluator = trainer_of(file, method, **options)
    return trainer, train(trainer, evaluator, lambda metrics: None)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def copied(runs: Path, place: Path) -> Path:
    """A copy of finished runs without checksums, which would be met first: what is edited in it reaches the later checks."""
    shutil.copytree(runs, place)
    for done in place.glob("**/done"):
        done.write_text("")
    return place


def trained_and_resumed(file: Path, method: str, folder: Path, **options) -> list[dict]:
    """Two epochs' history. Their last batches hold one clip of each domain; going on after the first gives the same bits."""
    options = {"batch": 11} | options
    trainer, evaluator = trainer_of(file, method, **options)
    assert len(trainer.draws()[-1].source) == 1
    trainer, evaluator = trainer_of(file, method, **options)
    path, packed = folder / "state.safetensors", []
    straight = train(
        trainer,
        evaluator,
        lambda metrics: None,
        after_epoch=lambda outcome: packed.append(resume.pack(trainer, outcome, evaluator.target_labels, {})),
    )
    state.save(path, packed[0].tensors, packed[0].rest)
    again, evaluator = trainer_of(file, method, **options)
    outcome = resume.unpack(resume.Packed(*state.load(path)), again, evaluator.target_labels)
    resumed = train(again, evaluator, lambda metrics: None, outcome)
    assert resumed.history == straight.history and equal(resumed.last.state, straight.last.state)
    assert equal(dict(again.objectives.state_dict()), dict(trainer.objectives.state_dict()))
    return straight.history
