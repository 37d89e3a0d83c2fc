"""Grad-CAM of the maps before and after the refinement and behind SC: where the evidence for a class lies.

Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, ICCV 2017, https://arxiv.org/abs/1610.02391 (eq. 1 and 2):

    α_k = mean over cells i of ∂y / ∂A_k(i);   L(i) = ReLU(Σ_k α_k A_k(i))

y is the class's logit, summed over the streams that decide. A are the maps of one modality and frame: as they are stored ("rgb"),
and as the refinement (MC) gives them ("refined rgb"). Behind SC ("fused") A are the weighed maps of all modalities side by side,
A_mk(i) = S(i) F̂_mk(i). Their sum over the cells is what SC gives, f_mk, so that α_mk = ∂y/∂f_mk. Gradients that training
reverses (TA3N, TADA) are not reversed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import JOINT, Output
from cia_adapt.parts.layers import Feature, GradientReversal, Pooled

FUSED = "fused"
CONSENSUS = "consensus"


@dataclass(frozen=True)
class Explanation:
    """What a model says of one clip, and where it sees that."""

    probabilities: tuple[Tensor, ...]
    """[K] of each label."""
    maps: Mapping[str, Tensor]
    """{panel: [S, H, W]}, in the order of the paper's figure: rgb, refined rgb, flow, refined flow, fused, consensus."""


@torch.enable_grad()
def explain(model: VideoModel, inputs: Mapping[str, Tensor], label: int, number: int) -> Explanation:
    """Grad-CAM for class `number` of the `label`-th label, on one clip.

    Args:
        inputs: {modality: maps [1, S, C, H, W] or vectors [1, S, C]}; vectors have no panel.

    The panels of a modality that is not refined, and those of SC, are left out where the method has none.
    """
    stored = {m: x.detach().float().requires_grad_() for m, x in inputs.items()}
    refines = next(model.refinement.parameters(), None) is not None
    refined: dict[str, Tensor] = {}
    pooled: list[Pooled] = []

    def spread(module: nn.Module, args: Any, output: Mapping[str, Feature]) -> dict[str, Feature]:
        refined.update({m: feature.dense() for m, feature in output.items()})  # [S, C, H, W]
        return {m: Feature(x) for m, x in refined.items()}

    reversals = [module for module in model.modules() if isinstance(module, GradientReversal)]
    hooks = [
        model.refinement.register_forward_hook(spread),
        model.pooling.register_forward_hook(lambda module, args, output: pooled.append(output)),
        *(reversal.register_forward_hook(lambda module, args, output: args[0]) for reversal in reversals),
    ]
    try:
        output: Output = model(stored)
    finally:
        for hook in hooks:
            hook.remove()
    with_maps = [m for m, x in stored.items() if x.ndim == 5]
    vectors = pooled[0].vectors
    wanted = [*(stored[m] for m in with_maps), *(refined[m] for m in with_maps), *(vectors[m] for m in with_maps)]
    score = _score(output, label, number)
    gradients = torch.autograd.grad(score, wanted)  # in the order of `wanted`
    count, maps = len(with_maps), {}
    for i, m in enumerate(with_maps):
        maps[m] = grad_cam(stored[m][0], gradients[i][0])
        if refines:
            maps[f"refined {m}"] = grad_cam(refined[m], gradients[count + i])
    if output.consensus is not None:
        consensus = output.consensus[0]  # [S, H, W]
        behind = gradients[2 * count :]  # ∂y/∂f [S, C]: that of every cell of A, since f is their sum
        weighed = [consensus[:, None] * refined[m] * g[:, :, None, None] for m, g in zip(with_maps, behind, strict=True)]
        maps[FUSED] = torch.stack([x.sum(1) for x in weighed]).sum(0).relu()
        maps[CONSENSUS] = consensus
    return Explanation(tuple(p[0].detach() for p in output.probabilities()), {name: x.detach() for name, x in maps.items()})


def grad_cam(maps: Tensor, gradient: Tensor) -> Tensor:
    """ReLU(Σ_k α_k A_k), α_k the gradient's mean over the cells: maps and gradient [S, C, H, W] → [S, H, W]."""
    return (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()


def _score(output: Output, label: int, number: int) -> Tensor:
    """The class's logit, summed over the streams by which `Output.probabilities` decides."""
    streams = [output.logits[JOINT]] if JOINT in output.logits else list(output.logits.values())
    score: Tensor = torch.stack([output.split(logits)[label][0, number] for logits in streams]).sum()
    return score


@torch.no_grad()
def changed_by_pooling(model: VideoModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """How much average pooling in place of the model's own would change each clip's probabilities, [B], 0 … 1.

    It is the total variation distance, ½ Σ_k |p_k − q_k|, the largest over the labels.
    """
    own: Output = model(inputs)

    def average(module: nn.Module, args: tuple[Mapping[str, Feature]], output: Pooled) -> Pooled:
        return Pooled({m: feature.average() for m, feature in args[0].items()}, domain_logits=output.domain_logits)

    hook = model.pooling.register_forward_hook(average)
    try:
        averaged: Output = model(inputs)
    finally:
        hook.remove()
    both = zip(own.probabilities(), averaged.probabilities(), strict=True)
    return torch.stack([(p - q).abs().sum(1) / 2 for p, q in both]).amax(0)
