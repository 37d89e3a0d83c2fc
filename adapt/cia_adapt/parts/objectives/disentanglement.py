"""TranSVAE's losses beside class and domains: the autoencoder's bound, a static part that knows its clip, and both independent.

Wei et al., NeurIPS 2023, https://arxiv.org/abs/2208.07365; see the temporal part `transvae`, which this objective needs. Over B
clips, with f of shuffled frames f', and f* of a clip of the other domain:

    Σ(x̂ − x)²/B + KL(q(f|x) ‖ N(0, 1)) + Σ_t KL(q(z_t|x) ‖ p(z_t|z_<t))
    + w₁ Σ_domains mean relu(‖f − f'‖ − ‖f − f*‖ + 1)                                   (of means)
    + w₃ mean_t relu(log q(f, z_t) − log q(f) − log q(z_t))

w₁ and w₃ are 1 and 50 for U→H, 10 and 0.5 for H→U. q without condition is the mixture of the batch's posteriors, each 1/B
(RECONSTRUCTED: the code also divides by the number of clips). x is what the shared layer gives; no gradient passes it here, so
that it cannot become easier to decode.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, pi

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor
from torch.nn import functional as F

from cia_adapt.parts.interface import Objective, Output, Sizes, Step, Term


@dataclass(frozen=True)
class Options:
    """Settings of the objective `disentanglement`."""

    bound: float = 1.0
    """Weight of reconstruction and both divergences."""
    triplet: float = 1.0
    """w₁, weight of the triplets of static parts."""
    information: float = 50.0
    """w₃, weight of the mutual information of static and dynamic parts."""
    margin: float = 1.0
    """By how much another clip's static part shall be farther than that of the shuffled frames."""


def divergence(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor) -> Tensor:
    """KL divergence in nats of one normal distribution from another, all [B, …]: the sum over features, the mean over clips.

    >>> mean, log_variance = torch.tensor([[1.0, 0]]), torch.tensor([[0.0, log(2)]])
    >>> round(float(divergence(mean, log_variance, torch.zeros(1, 2), torch.zeros(1, 2))), 6)
    0.653426
    """
    spread = (log_variance.exp() + (mean - prior_mean).square()) / prior_log_variance.exp()
    return (prior_log_variance - log_variance + spread - 1).sum() / 2 / len(mean)


def log_densities(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(x_i; mean_j, variance_j) of all pairs, the sum over features: three of [B, D] → [B, B], i first."""
    squares = (x[:, None] - mean[None]).square() / log_variance.exp()[None]
    return -(squares + log_variance[None] + log(2 * pi)).sum(2) / 2


def mutual_information(f: Tensor, z: Tensor) -> Tensor:
    """mean relu(log q(f, z) − log q(f) − log q(z)) in nats, from log densities of all pairs, [B, B] and [B, B]: no dimension.

    >>> one_of_two = torch.tensor([[0.0, -100], [-100, 0]])
    >>> round(float(mutual_information(one_of_two, one_of_two)), 6)  # ln 2: f tells z
    0.693147
    >>> round(float(mutual_information(one_of_two, torch.zeros(2, 2))), 6)
    0.0
    """
    logs = [pair.logsumexp(1) - log(len(f)) for pair in (f + z, f, z)]
    return (logs[0] - logs[1] - logs[2]).relu().mean()


class Disentanglement(Objective):
    """The weighted sum, the mean over streams."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over all B clips; metrics: reconstruction, both divergences, triplets and mutual information.

        Raises UsageError where the model has no latents.
        """
        if not output.latents:
            raise UsageError("--objectives disentanglement: needs the latents of --temporal transvae")
        of_streams = [self._of_stream(latents, output.frames[stream], step) for stream, latents in output.latents.items()]
        losses = {name: torch.stack([losses[name] for losses in of_streams]).mean() for name in of_streams[0]}
        bound = losses["reconstruction"] + losses["static_divergence"] + losses["dynamic_divergence"]
        total = self.options.bound * bound + self.options.triplet * losses["triplet"]
        total = total + self.options.information * losses["mutual_information"]
        return Term(total, {f"{name}_loss": loss.detach() for name, loss in losses.items()})

    def _of_stream(self, at: Mapping[str, Tensor], frames: Tensor, step: Step) -> dict[str, Tensor]:
        f, z = (at["f_mean"], at["f_log_variance"]), (at["z_mean"], at["z_log_variance"])
        pairs = log_densities(at["f"], *f)  # [B, B]
        information = [
            mutual_information(pairs, log_densities(at["z"][:, t], z[0][:, t], z[1][:, t])) for t in range(z[0].shape[1])
        ]
        source = len(step.labels)
        halves = [(at["f_mean"][rows], at["f_shuffled"][rows]) for rows in (slice(source), slice(source, None))]
        triplets = []
        for (anchors, positives), (others, _) in ((halves[0], halves[1]), (halves[1], halves[0])):
            negatives = others[torch.arange(len(anchors), device=others.device) % len(others)]
            triplets.append(F.triplet_margin_loss(anchors, positives, negatives, self.options.margin))
        return {
            "reconstruction": (at["decoded"].float() - frames.detach()).square().sum() / len(frames),
            "static_divergence": divergence(*f, torch.zeros_like(f[0]), torch.zeros_like(f[0])),
            "dynamic_divergence": divergence(*z, at["prior_mean"], at["prior_log_variance"]),
            "triplet": torch.stack(triplets).sum(),
            "mutual_information": torch.stack(information).mean(),
        }


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective, which is the same for all sizes."""
    return Disentanglement(options)
