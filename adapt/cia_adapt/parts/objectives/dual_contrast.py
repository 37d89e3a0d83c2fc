"""CO2A: contrastive losses within and across the domains, on clips and on frames, and one that ties both heads together.

da Costa, Zara, Rota, Oliveira-Santos, Sebe, Murino and Ricci, "Dual Contrastive Domain Adaptation for Video Action Recognition",
WACV 2022. Losses and numbers (those of UCF-HMDB) as in vturrisi/CO2A@7930584, `src/loss.py` and `bash_scripts/run.sh`. Beside the
source's cross-entropy, with cosines over τ = 0.5:

    1 · source clips of one class  +  2 · clips of one class in the other domain, by pseudo-labels where H(p) < ln K / 4
    + 0.2 · two views of a target clip  +  0.2 · two views of a target frame
    + 0.02 · cross-entropy of [cos(h_t, h_s) > 0.5] by sigmoid(z_t · z_s): what the contrastive head holds for alike (h), the
             classifier's logits (z) shall as well

RECONSTRUCTED, feature-level: two samplings of frames for two augmentations of the target; a frame's negatives are other clips'
frames. Left out: the network's training, the weighing of frames by an MLP (the method's temporal part stands there), SGD with a
cosine schedule. Each stream has heads of its own; losses by class are means over labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cia_adapt.parts.interface import Objective, Output, Sizes, Step, Term
from cia_adapt.parts.layers.contrastive import masked_nce
from cia_adapt.parts.layers.entropy import entropy
from cia_adapt.parts.ranges import Count, Positive, Share


@dataclass(frozen=True)
class Options:
    """Settings of the objective `dual_contrast`."""

    source: float = 1.0
    """Weight of the contrast between source clips by class."""
    across: float = 2.0
    """Weight of the contrast between source and target clips by class and pseudo-class."""
    clip_views: float = 0.2
    """Weight of the contrast between two views of a target clip."""
    frame_views: float = 0.2
    """Weight of the contrast between two views of a target frame."""
    consistency: float = 0.02
    """Weight of the agreement of classifier and contrastive head."""
    temperature: Positive = 0.5
    """τ, by which cosines are divided; larger contrasts more softly."""
    alike: Share = 0.5
    """Cosine above which the contrastive head holds two clips for alike, 0 … 1."""
    certain: Positive = 4.0
    """A target clip has a pseudo-label where its entropy is below ln K over this."""
    hidden: Count = 256
    """Width of the contrastive head's two layers."""
    width: Count = 128
    """Features of what is contrasted."""


def cosines(features: Tensor, temperature: float) -> Tensor:
    """All cosines of [n, D] over τ: [n, n]."""
    unit = F.normalize(features, dim=1)
    return unit @ unit.T / temperature


def by_class(features: Tensor, classes: Tensor, domains: Tensor | None, temperature: float) -> Tensor:
    """The contrast by class of clips [n, D] with classes [n]; −1 takes no part.

    Args:
        domains: [n]: anchors are compared with the other domain's clips; None: with all others.

    >>> features, classes = torch.tensor([[1.0, 0], [1, 0], [0, 1]]), torch.tensor([0, 0, 1])
    >>> round(float(by_class(features, classes, None, 1.0)), 6)  # ln(1 + 1/e)
    0.313262
    """
    known = classes >= 0
    allowed = known[:, None] & known[None, :]
    if domains is None:
        allowed = allowed & ~torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    else:
        allowed = allowed & (domains[:, None] != domains[None, :])
    return masked_nce(cosines(features, temperature), allowed & (classes[:, None] == classes[None, :]), allowed)


def by_view(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The contrast of two views of B clips with S places each, [B, S, D]: what a place of a view has for a positive is the same
    place of the other, and all places of other clips for negatives.

    >>> eye = torch.eye(2)[:, None]
    >>> round(float(by_view(eye, eye, 1.0)), 6)  # ln(1 + 2/e)
    0.551445
    """
    clips, places = first.shape[:2]
    clip = torch.arange(clips, device=first.device).repeat_interleave(places).repeat(2)  # [2·B·S]
    place = torch.arange(clips * places, device=first.device).repeat(2)
    positive = (place[:, None] == place[None, :]) & ~torch.eye(len(place), dtype=torch.bool, device=first.device)
    similar = cosines(torch.cat([first.flatten(0, 1), second.flatten(0, 1)]), temperature)
    return masked_nce(similar, positive, positive | (clip[:, None] != clip[None, :]))


class DualContrast(Objective):
    """All five losses, the mean over streams.

    Args:
        frames, videos: {stream: D} of the frame and of the clip features.
    """

    second_view = True

    def __init__(self, frames: Mapping[str, int], videos: Mapping[str, int], options: Options) -> None:
        super().__init__()
        self.options = options
        self.heads, self.projections, self.frame_projections = (nn.ModuleDict() for _ in range(3))
        for stream, width in videos.items():
            self.heads[stream] = nn.Sequential(
                nn.Linear(width, options.hidden), nn.ReLU(), nn.Linear(options.hidden, options.hidden), nn.ReLU()
            )
            self.projections[stream] = projection(options.hidden, options.width)
            self.frame_projections[stream] = projection(frames[stream], options.width)

    def forward(self, output: Output, step: Step) -> Term:
        """The weighted sum; metrics: each of the five losses, and the share of the target's clips with a pseudo-label in %."""
        assert step.second is not None
        views = output, step.second
        of_streams = [self._of_stream(stream, views, step) for stream in output.videos]
        losses = {name: torch.stack([losses[name] for losses in of_streams]).mean() for name in of_streams[0]}
        labelled = torch.stack([(classes >= 0).float().mean() for view in views for classes in self._pseudo(view, step)]).mean()
        total = torch.stack([getattr(self.options, name) * loss for name, loss in losses.items()]).sum()
        metrics = {f"contrast_{name}": loss.detach() for name, loss in losses.items()}
        return Term(total, metrics | {"pseudo_labelled": 100 * labelled})

    def _of_stream(self, stream: str, views: tuple[Output, Output], step: Step) -> dict[str, Tensor]:
        """The source's clips are those of the first view, the target's those of both."""
        source, target, tau = ~step.is_target, step.is_target, self.options.temperature
        held = torch.cat([views[0].videos[stream][source], *(view.videos[stream][target] for view in views)])
        held = self.heads[stream](held)  # [B_s + 2·B_t, hidden]
        z = self.projections[stream](held)  # [B_s + 2·B_t, width]
        count = len(step.labels)
        domains = torch.arange(len(z), device=z.device) >= count
        pseudo = [torch.cat(classes) for classes in zip(*(self._pseudo(view, step) for view in views), strict=True)]
        classes = [torch.cat([step.labels[:, i], of_target]) for i, of_target in enumerate(pseudo)]
        frames, again = (self.frame_projections[stream](view.frames[stream][target]) for view in views)  # [B_t, S, width]
        first, second = z[count:, None].chunk(2)  # [B_t, 1, width] each
        logits = torch.cat([views[0].logits[stream][source], *(view.logits[stream][target] for view in views)])
        return {
            "source": torch.stack([by_class(z[:count], y[:count], None, tau) for y in classes]).mean(),
            "across": torch.stack([by_class(z, y, domains, tau) for y in classes]).mean(),
            "clip_views": by_view(first, second, tau),
            "frame_views": by_view(frames, again, tau),
            "consistency": consistency(held[count:], held[:count], logits[count:], logits[:count], self.options.alike),
        }

    def _pseudo(self, view: Output, step: Step) -> list[Tensor]:
        """[B_t] for each label: the most likely class of the target's clips, −1 where the prediction is not certain."""
        classes = []
        for p in view.probabilities():
            of_target = p.detach()[step.is_target]
            certain = entropy(of_target.clamp_min(1e-12).log()) < log(p.shape[1]) / self.options.certain
            classes.append(of_target.argmax(1).where(certain, -1))
        return classes


def consistency(target: Tensor, source: Tensor, target_logits: Tensor, source_logits: Tensor, alike: float) -> Tensor:
    """Binary cross-entropy in nats of z_t · z_s against [cos(h_t, h_s) > alike], the mean over all pairs.

    Args:
        target, source: h, [n, D] and [m, D]; no gradient passes them, since the comparison has none.
        target_logits, source_logits: z, [n, ΣK] and [m, ΣK].

    >>> h = torch.tensor([[1.0, 0]])
    >>> round(float(consistency(h, h, h, h, 0.5)), 6)  # ln(1 + 1/e)
    0.313262
    """
    same = (F.normalize(target, dim=1) @ F.normalize(source, dim=1).T > alike).to(target_logits.dtype)
    return F.binary_cross_entropy_with_logits(target_logits @ source_logits.T, same)


def projection(inputs: int, width: int) -> nn.Sequential:
    """FC, ReLU, FC from `inputs` features to `width`."""
    return nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, width))


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model with these sizes."""
    return DualContrast(sizes.frames, sizes.videos, options)
