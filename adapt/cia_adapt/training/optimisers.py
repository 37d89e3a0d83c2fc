"""What a training phase's optimiser changes, and how fast."""

from typing import Any

import torch
from torch import nn

from cia_adapt.config import Setup
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import BETA1, Objective, Reach


def lr_factor(progress: float) -> float:
    """(1 + 10p)^−0.75, DANN's schedule.

    >>> round(lr_factor(0.1), 6), round(lr_factor(1.0), 6)
    (0.594604, 0.16556)
    """
    return float((1 + 10 * progress) ** -0.75)


def rate(setup: Setup, step: int, steps: int) -> float:
    """By what the learning rate is multiplied at a step, 0 … `steps` − 1, of a phase: its decay, and its warm-up."""
    decay = lr_factor(step / steps) if setup.lr_decay else 1.0
    return decay * min(1.0, (step + 1) / max(1.0, setup.warm_up * steps))


def set_rate(optimiser: torch.optim.Optimizer, setup: Setup, step: int, steps: int) -> None:
    """Give each of the optimiser's groups its learning rate at this step."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * rate(setup, step, steps)


def discriminators(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of discriminators that parts of the model own."""
    return {p for name, p in model.named_parameters() if "discriminators" in name.split(".")}


def reached(model: VideoModel, objectives: nn.Module, reach: Reach) -> list[nn.Parameter]:
    """The parameters that the gradient of a loss trains. A part's own discriminators stand behind the gradient's reversal."""
    inside = discriminators(model)
    shut = {"everything": (), "all_but_pooling": ("pooling",), "shared": ("trunk", "refinement", "pooling")}[reach]
    trained = [p for name, p in model.named_parameters() if name.split(".")[0] not in shut or p in inside]
    return [p for p in (*trained, *objectives.parameters()) if p.requires_grad]


def reached_by(model: VideoModel, reach: Reach) -> set[str]:
    """The model's modules of which the gradient of a loss trains something, by their names."""
    trained = set(reached(model, nn.Module(), reach))
    return {name.split(".")[0] for name, p in model.named_parameters() if p in trained}


def is_particular(objective: Objective) -> bool:
    """Whether discriminators have a rate or a β₁ of their own."""
    return objective.lr_factor != 1 or objective.beta1 != BETA1


def optimiser_of(model: VideoModel, objectives: list[Objective], setup: Setup) -> torch.optim.Optimizer:
    """Over the model, its backbone with a rate of its own, and the objectives, each with its factor of the rate and its β₁.

    Discriminators inside the model go with the objective that has a factor or a β₁ of its own.
    """
    trunk = set() if model.trunk is None else set(model.trunk.parameters())
    moved = discriminators(model) if any(map(is_particular, objectives)) else set()
    inside = [p for p in model.parameters() if p.requires_grad and p in moved]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.requires_grad and p not in trunk | moved], "initial_lr": setup.lr},
        {
            "params": [p for p in model.parameters() if p.requires_grad and p in trunk],
            "initial_lr": setup.backbone_lr or setup.lr,
        },
    ]
    for objective in objectives:
        own: dict[str, Any] = {"params": list(objective.parameters()), "initial_lr": setup.lr * objective.lr_factor}
        own["params"] += inside if is_particular(objective) else []
        if setup.optimiser == "adam":
            own["betas"] = objective.beta1, 0.999
        groups.append(own)
    groups = [group | {"lr": group["initial_lr"]} for group in groups if group["params"]]
    if setup.optimiser == "sgd":
        return torch.optim.SGD(groups, setup.lr, momentum=0.9, nesterov=True, weight_decay=setup.weight_decay)
    return torch.optim.Adam(groups, setup.lr, weight_decay=setup.weight_decay)
