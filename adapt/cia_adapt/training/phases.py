"""A method's objectives and the phases they train in: on the source, then, where one is source-free, on the target alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from cia_extract.common.errors import UsageError
from torch import nn

from cia_adapt import parts
from cia_adapt.config import Method, Setup
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import BETA1, Objective, Reaching


def build_objectives(method: Method, model: VideoModel) -> nn.ModuleDict:
    """{name: module} of the losses beside the source's cross-entropy, in the method's order. Raises UsageError."""
    built = {}
    for name in method.objectives:
        options = parts.options("objectives", name, method.option(name))
        built[name] = parts.find("objectives", name).build(model.sizes, options)
        if isinstance(options, Reaching):
            built[name].reaches = options.reaches
    return nn.ModuleDict(built)


def source_epochs(setup: Setup, objectives: Sequence[Objective]) -> int:
    """Number of epochs that train on the source: all, or where an objective is source-free those of the first phase."""
    if not any(objective.source_free for objective in objectives):
        return setup.epochs
    return setup.source_epochs or setup.epochs // 2


def check_fits(setup: Setup, objectives: Sequence[Objective]) -> None:
    """Raise UsageError for a set-up that leaves a phase without an epoch, reads the source in the second, has no teacher, or
    whose optimiser has no β₁ to set.
    """
    for objective in objectives:
        if setup.optimiser == "sgd" and objective.beta1 != BETA1:
            raise UsageError(
                f"--set {type(objective).__module__.rsplit('.', 1)[-1]}.beta1={objective.beta1:g}: is Adam's, and sgd has none; "
                f"take --optimiser adam, or leave it at {BETA1}"
            )
    if any(objective.teacher for objective in objectives) and not setup.average:
        raise UsageError("--average 0: the method's teacher is the average of the weights; take --average 0.99")
    first = source_epochs(setup, objectives)
    if not any(objective.source_free for objective in objectives):
        return
    if not 1 <= first < setup.epochs:
        raise UsageError(
            f"--epochs {setup.epochs} --source-epochs {setup.source_epochs}: a source-free method needs an epoch with the source "
            "and one without it; raise --epochs, or take --source-epochs 0 for half of them"
        )
    if setup.select == "dev":
        raise UsageError(
            "--select dev: reads the source's training clips, which a source-free method has left; take --select last, im or bnm"
        )


def counted(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The epochs among which one is selected: of a source-free run those of the second phase, once it has begun."""
    return [metrics for metrics in history if metrics.get("source_free")] or list(history)
