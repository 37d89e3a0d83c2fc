"""AFN: the features of both domains grow in norm, step by step; features of large norm transfer better.

Xu, Li, Yang and Lin, "Larger Norm More Transferable: An Adaptive Feature Norm Approach for Unsupervised Domain Adaptation", ICCV
2019, https://arxiv.org/abs/1811.07456 (stepwise AFN): (‖f‖ − (‖f‖ without gradient + Δr))², Δr = 1, weight 0.05. The loss's value
is Δr² for every clip; only its gradient says something.

Here f is the clip's feature before the classifier. Under `--normalise` all frames have one norm before the ReLU, so that a clip's
can grow only as far as its frames become alike.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `feature_norm`."""

    weight: float = 0.05
    """By what both domains' losses are multiplied in the total loss."""
    increase: float = 1.0
    """Δr, by how much every clip's norm shall grow."""


def feature_norm(features: Tensor, increase: float = 1.0) -> Tensor:
    """Mean over clips of (‖f‖ − (‖f‖ without gradient + Δr))²: features [B, D] → no dimension.

    >>> features = torch.tensor([[3.0, 4]], requires_grad=True)
    >>> feature_norm(features).backward(); features.grad
    tensor([[-1.2000, -1.6000]])
    """
    norms = features.norm(dim=1)  # [B]
    return (norms - (norms.detach() + increase)).square().mean()


class FeatureNorm(Objective):
    """The losses of source and target summed, the mean over streams, times the weight."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over all B clips; metrics: the mean norm of each domain's clip features over clips and streams."""
        domains = {"source": ~step.is_target, "target": step.is_target}
        of_domains = [[x[rows] for x in output.videos.values()] for rows in domains.values()]
        losses = [torch.stack([feature_norm(x, self.options.increase) for x in streams]).mean() for streams in of_domains]
        norms = [torch.stack([x.detach().norm(dim=1).mean() for x in streams]).mean() for streams in of_domains]
        metrics = {f"{domain}_feature_norm": norm for domain, norm in zip(domains, norms, strict=True)}
        return Term(self.options.weight * torch.stack(losses).sum(), metrics)


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective, which is the same for all sizes."""
    return FeatureNorm(options)
