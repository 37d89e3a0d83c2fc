"""STCDA: contrastive self-supervision of clips and videos, and class-wise contrastive alignment of the domains.

Song, Zhao, Yang, Yue, Xu, Hu and Chai, "Spatio-temporal Contrastive Domain Adaptation for Action Recognition", CVPR 2021.
RECONSTRUCTED, feature-level: neither text nor code was at hand. Here

    clip level    InfoNCE between a clip's features at two samplings of its frames, for each modality
    video level   InfoNCE between the modalities of a clip
    alignment     contrastive domain discrepancy (Kang et al., "Contrastive Adaptation Network", CVPR 2019,
                  https://arxiv.org/abs/1901.00976, eq. 3-5, with the distance of class means instead of kernels): the same class
                  of both domains moves together, different classes move apart. The target's pseudo-classes come from spherical
                  k-means that starts at the source's class means, anew each epoch; clips far from their centre have none.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.nn import functional as F

from cia_adapt.parts.interface import Described, Objective, Output, Sizes, Step, Term
from cia_adapt.parts.layers.contrastive import info_nce
from cia_adapt.parts.ranges import Positive

KMEANS_ROUNDS = 20


@dataclass(frozen=True)
class Options:
    """Settings of the objective `spatio_temporal`."""

    clip: float = 0.1
    """By what the contrast of two samplings of a clip's frames is multiplied in the total loss."""
    video: float = 0.1
    """By what the contrast of a clip's modalities is multiplied in the total loss; needs a head for each modality."""
    alignment: float = 0.5
    """By what the discrepancy of the domains' classes is multiplied in the total loss; 0 trains without target clips."""
    temperature: Positive = 0.1
    """τ, which divides the cosines of both contrasts; the smaller, the more the nearest negatives count."""
    radius: Annotated[float, Meta(ge=0, le=2)] = 0.5
    """A target clip gets a pseudo-class within this cosine distance, 1 − cos, 0 … 2, of its centre; the larger, the more do."""


class SpatioTemporalContrast(Objective):
    """The three losses on the clips' features. The training loop calls `cluster` before each epoch.

    Args:
        target_clips: number N_t of the target's training clips.
    """

    second_view = True
    clusters = True
    pseudo: Tensor

    def __init__(self, target_clips: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("pseudo", torch.full((target_clips,), -1))

    def cluster(self, source: Described, labels: Tensor, target: Described) -> None:
        """Give the target's training clips new pseudo-classes.

        Args:
            source, target: features of all training clips, [N_s, D] and [N_t, D].
            labels: the source's classes [N_s].
        """
        classes, distances = spherical_kmeans(source.features, labels, target.features)
        self.pseudo.copy_(torch.where(distances <= self.options.radius, classes, -1))

    def forward(self, output: Output, step: Step) -> Term:
        """The three losses, weighted; metrics: each loss, and the share of target clips with a pseudo-class in %."""
        assert step.second is not None
        domains = [rows for rows in (~step.is_target, step.is_target) if int(rows.sum()) > 1]
        tau = self.options.temperature
        zero = next(iter(output.videos.values())).sum() * 0  # the loss where no domain has two clips
        second = step.second.videos
        clips = [info_nce(v[rows], second[s][rows], tau) for s, v in output.videos.items() for rows in domains]
        clip = torch.stack(clips).mean() if clips else zero
        loss, metrics = self.options.clip * clip, {"clip_contrast": clip.detach()}
        first, *others = output.videos.values()
        if others:
            videos = [info_nce(first[rows], other[rows], tau) for other in others for rows in domains]
            video = torch.stack(videos).mean() if videos else zero
            loss, metrics = loss + self.options.video * video, metrics | {"video_contrast": video.detach()}
        if self.options.alignment and step.is_target.any():
            pseudo = self.pseudo[step.target_positions]  # [B_t]
            features = torch.cat([F.normalize(v, dim=1) for v in output.videos.values()], dim=1)  # [B, ΣD]
            gap = contrastive_discrepancy(features[~step.is_target], step.labels[:, 0], features[step.is_target], pseudo)
            loss = loss + self.options.alignment * gap
            metrics |= {"discrepancy": gap.detach(), "pseudo_labelled": 100 * (pseudo >= 0).float().mean()}
        return Term(loss, metrics)


def contrastive_discrepancy(source: Tensor, source_classes: Tensor, target: Tensor, target_classes: Tensor) -> Tensor:
    """Mean squared distance between the domains' means of the same class, minus that between means of different classes.

    Args:
        source, target: features, [B_s, D] and [B_t, D].
        source_classes, target_classes: int64, [B_s] and [B_t], −1 for a clip without a class.

    Classes that only one side has take no part; the result is 0 where no class is in both.
    """
    common = sorted(set(source_classes.tolist()) & set(target_classes.tolist()) - {-1})
    if not common:
        return source.sum() * 0
    means = [
        torch.stack([x[classes == k].mean(0) for k in common])
        for x, classes in ((source, source_classes), (target, target_classes))
    ]  # [common, D] each
    distances = torch.cdist(means[0], means[1]).square()  # [common, common]
    same = distances.diagonal().mean()
    if len(common) == 1:
        return same
    return same - (distances.sum() - distances.diagonal().sum()) / (len(common) * (len(common) - 1))


def spherical_kmeans(source: Tensor, labels: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cluster the target's features [N_t, D] from the class means of the source's [N_s, D], whose classes are `labels` [N_s].

    Returns (class of each target clip [N_t], cosine distance 1 − cos to that cluster's centre [N_t]).
    """
    target = F.normalize(target, dim=1)
    present = labels.unique()
    centres = F.normalize(torch.stack([F.normalize(source[labels == k], dim=1).mean(0) for k in present]), dim=1)  # [K, D]
    for _ in range(KMEANS_ROUNDS):
        nearest = (target @ centres.T).argmax(1)
        members = F.one_hot(nearest, len(present)).to(target)  # [N_t, K]
        sums = members.T @ target  # [K, D]
        updated = torch.where(members.sum(0)[:, None] > 0, F.normalize(sums, dim=1), centres)
        if torch.equal(updated, centres):
            break
        centres = updated
    similarity, nearest = (target @ centres.T).max(1)
    return present[nearest], 1 - similarity


def needs_target(options: Options) -> bool:
    """Whether the objective looks at target clips with these settings."""
    return options.alignment > 0


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model that adapts to so many target clips."""
    return SpatioTemporalContrast(sizes.target_train_clips, options)
