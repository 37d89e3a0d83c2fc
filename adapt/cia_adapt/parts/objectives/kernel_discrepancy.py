"""DAN and JAN: the distance of the domains' mean embeddings under Gaussian kernels becomes small.

Long, Cao, Wang and Jordan, "Learning Transferable Features with Deep Adaptation Networks", ICML 2015,
https://arxiv.org/abs/1502.02791 (DAN: MK-MMD of features); Long, Zhu, Wang and Jordan, "Deep Transfer Learning with Joint
Adaptation Networks", ICML 2017, https://arxiv.org/abs/1605.06636 (JAN: the kernels of features and predictions are multiplied).

Kernels as in the authors' code: Σ_{i<n} exp(−d²/(b·2^i)), where b is the mean squared distance of different clips of both domains
over 2^⌊n/2⌋, without gradient; DAN has n = 5 on features, JAN 2 on features and 5 on the softmax. Domains of unlike size are
averaged over their own pairs. The estimate is the biased one, which is never negative; the linear-time one and the learnt mix of
kernels of the papers are left out. Here one layer of features, the clip's, is aligned.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.ranges import Count


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `kernel_discrepancy`."""

    weight: float = 1.0
    """By what the squared distance of the mean embeddings is multiplied in the total loss."""
    kernels: Count = 5
    """Number of Gaussian kernels on the clip features, each twice as wide as the one before (DAN has 5, JAN 2)."""
    prediction_kernels: int = 0
    """Number of kernels on the class probabilities, which multiply those of the features (JAN has 5); 0: features alone (DAN)."""


def gaussian_kernels(features: Tensor, kernels: int) -> Tensor:
    """The sum of `kernels` Gaussian kernels between all clips: [N, D] → [N, N]."""
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").square()
    clips = len(features)
    mean = distances.detach().sum() / (clips * clips - clips)
    narrowest = (mean / 2 ** (kernels // 2)).clamp_min(1e-12)  # where all clips are alike, all kernels are 1
    return torch.stack([(-distances / (narrowest * 2**i)).exp() for i in range(kernels)]).sum(0)


def mean_embedding_distance(kernel: Tensor, is_target: Tensor) -> Tensor:
    """mean XX + mean YY − 2 mean XY of a kernel between all clips [N, N], whose domains `is_target` [N] tells → no dimension.

    >>> clips = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1], [2, 1], [1, 3]])
    >>> is_target = torch.arange(6) >= 3
    >>> dan = mean_embedding_distance(gaussian_kernels(clips, 5), is_target)
    >>> p = torch.tensor([[2.0, 0], [1, 0], [0, 1], [0, 2], [1, 1], [0, 0]]).softmax(1)
    >>> jan = mean_embedding_distance(gaussian_kernels(clips, 2) * gaussian_kernels(p, 5), is_target)
    >>> round(float(dan), 4), round(float(jan), 4)
    (2.808, 6.5841)
    """
    target = is_target.to(kernel.dtype)
    source = 1 - target
    signed = target / target.sum() - source / source.sum()  # [N], the weight of each clip in the difference of the means
    return (signed[:, None] * kernel * signed[None, :]).sum()


class KernelDiscrepancy(Objective):
    """The squared distance, the mean over streams (with kernels on predictions: and over labels), times the weight."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over all B clips."""
        distances = []
        for stream, features in output.videos.items():
            kernel = gaussian_kernels(features.float(), self.options.kernels)
            joint = [kernel]
            if self.options.prediction_kernels:
                probabilities = [part.float().softmax(1) for part in output.split(output.logits[stream])]
                joint = [kernel * gaussian_kernels(p, self.options.prediction_kernels) for p in probabilities]
            distances += [mean_embedding_distance(k, step.is_target) for k in joint]
        loss = torch.stack(distances).mean()
        return Term(self.options.weight * loss, {"kernel_discrepancy": loss.detach()})


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective, which is the same for all sizes."""
    return KernelDiscrepancy(options)
