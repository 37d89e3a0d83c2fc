"""TranSVAE's sequential autoencoder: what a clip's frames share is split from what changes, and the latter alone tells the class.

Wei, Kong, Qu, Ren, Xu, Jiang and Yin, "Unsupervised Video Domain Adaptation for Action Recognition: A Disentanglement
Perspective", NeurIPS 2023, https://arxiv.org/abs/2208.07365; sizes as in ldkong1205/TranSVAE@5879721. A bidirectional LSTM over
the frames gives q(f|x), static; an RNN over its states gives q(z_t|x), dynamic; an LSTM gives the prior p(z_t|z_<t); [f, z_t] is
decoded to frame t. The clip's feature is TA3N's weighted sum of relations (there too) of z: of samples in training, of means in
evaluation. Discriminators see the relations and each z_t behind a gradient reversal; `adversarial` has their loss, levels
"relation" and "latent". The objective `disentanglement` has the autoencoder's.

RECONSTRUCTED: it sees what the shared layer gives, in place of its own first layer of 1,024, and decodes to that. The prior goes
on from samples of q(z_t|x), as the bound on the likelihood asks (the code by default from its own). The released code takes means
for samples and log-variances for log σ; here they are what they are called.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

import cia_adapt.parts.temporal.ta3n as ta3n
from cia_adapt.parts.layers.gradient_reversal import GradientReversal
from cia_adapt.parts.layers.heads import discriminator
from cia_adapt.parts.ranges import Count

REVERSED: Final = ("strength", "latent_strength")


@dataclass(frozen=True)
class Options:
    """Settings of the temporal part `transvae`."""

    width: Count = 256
    """Features of each relation, and of the clip."""
    latent: Count = 256
    """Features of f and of each z_t."""
    hidden: Count = 256
    """States of each recurrent network (of each direction of the first)."""
    decoder: Count = 1024
    """Width of the decoder's hidden layer."""
    strength: float = 0.75
    """β, by which the relation discriminators' reversed gradient is multiplied."""
    latent_strength: float = 0.5
    """β, by which the reversed gradient of the discriminator of each z_t is multiplied."""


class Gaussian(nn.Module):
    """A normal distribution with independent features: mean and log-variance by one layer each from `inputs` features."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean, self.log_variance = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[…, inputs] → mean and log-variance [2 × …, outputs], in float32."""
        return self.mean(x).float(), self.log_variance(x).float()


class SequentialAutoencoder(nn.Module):
    """Clips of S frames with D = `inputs` features."""

    def __init__(self, inputs: int, segments: int, options: Options) -> None:
        super().__init__()
        self.width = options.width
        self.states = nn.LSTM(inputs, options.hidden, batch_first=True, bidirectional=True)
        self.static = Gaussian(2 * options.hidden, options.latent)
        self.changes = nn.RNN(2 * options.hidden, options.hidden, batch_first=True)
        self.dynamic = Gaussian(options.hidden, options.latent)
        self.prior_states = nn.LSTM(options.latent, options.hidden, batch_first=True)
        self.prior = Gaussian(options.hidden, options.latent)
        self.decoder = nn.Sequential(
            nn.Linear(2 * options.latent, options.decoder), nn.ReLU(), nn.Linear(options.decoder, inputs)
        )
        self.relations = ta3n.AttendedRelations(options.latent, segments, ta3n.Options(options.width, options.strength))
        self.reverse = GradientReversal("latent", options.latent_strength)
        self.discriminators = nn.ModuleList([discriminator(options.latent, 0)])

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Frames [B, S, D] → (clip [B, width], domain logits, latents for `disentanglement`; these in training alone).

        Domain logits: "relation" [B, S − 1, 2] and "latent" [B, S, 2].
        """
        states, ends = self._states(frames)
        z_mean, z_log_variance = self.dynamic(self.changes(states)[0])  # [B, S, latent] each
        z = sampled(z_mean, z_log_variance) if self.training else z_mean
        clip, logits = self.relations(z)
        logits = logits | {"latent": self.discriminators[0](self.reverse(z))}
        if not self.training:
            return clip, logits, {}
        f_mean, f_log_variance = self.static(ends)  # [B, latent] each
        f = sampled(f_mean, f_log_variance)
        before = torch.cat([torch.zeros_like(z[:, :1]), z[:, :-1]], 1)  # z_0 = 0, z_1, …
        prior_mean, prior_log_variance = self.prior(in_float32_on_cpus(self.prior_states, before)[0])
        shuffled = frames[:, torch.randperm(frames.shape[1], device=frames.device)]
        return (
            clip,
            logits,
            {
                "f": f,
                "f_mean": f_mean,
                "f_log_variance": f_log_variance,
                "f_shuffled": self.static(self._states(shuffled)[1])[0],
                "z": z,
                "z_mean": z_mean,
                "z_log_variance": z_log_variance,
                "prior_mean": prior_mean,
                "prior_log_variance": prior_log_variance,
                "decoded": self.decoder(torch.cat([f[:, None].expand_as(z), z], 2)),  # [B, S, D]
            },
        )

    def _states(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Of both directions: at every frame [B, S, 2·hidden], and each at its last frame [B, 2·hidden]."""
        states, (last, _) = in_float32_on_cpus(self.states, frames)
        return states, torch.cat([last[0], last[1]], 1)


def in_float32_on_cpus(lstm: nn.LSTM, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """What the LSTM says of x [B, S, D]. Under autocast oneDNN has an LSTM for some CPUs only, and fails on those with AVX2."""
    if x.device.type != "cpu":
        return lstm(x)
    with torch.autocast("cpu", enabled=False):
        return lstm(x.float())


def sampled(mean: Tensor, log_variance: Tensor) -> Tensor:
    """One sample of each normal distribution, through which gradients pass to both."""
    return mean + (log_variance / 2).exp() * torch.randn_like(mean)


def build(width: int, segments: int, options: Options) -> nn.Module:
    """The part for clips of `segments` frames with `width` features. Raises UsageError for too few or too many segments."""
    return SequentialAutoencoder(width, segments, options)
