"""STCDA: contrastive self-supervision of clips and videos, and class-wise contrastive alignment of the domains.

Song, Zhao, Yang, Yue, Xu, Hu and Chai, "Spatio-temporal Contrastive Domain Adaptation for Action Recognition", CVPR 2021.
RECONSTRUCTED, feature-level: neither text nor code was at hand. Here

    clip level    InfoNCE between a clip's features at two samplings of its frames, each modality
    video level   InfoNCE between its modalities
    alignment     contrastive domain discrepancy (Kang et al., "Contrastive Adaptation Network", CVPR 2019,
                  https://arxiv.org/abs/1901.00976, eq. 3-5, with the distance of class means instead of kernels): classes of
                  both domains come closer, different classes part; target classes by spherical k-means from the source's class
                  means, confident clips only, found anew each epoch
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cia_adapt.parts.interface import Described, Objective, Output, Sizes, Step, Term
from cia_adapt.parts.layers.contrastive import info_nce
from cia_adapt.parts.registry import check_positive

KMEANS_ROUNDS = 20


@dataclass(frozen=True)
class Options:
    """Of the three losses."""

    clip: float = 0.1
    """Weight."""
    video: float = 0.1
    """Weight; for a head per modality."""
    alignment: float = 0.5
    """Weight; 0 without target clips."""
    temperature: float = 0.1
    """τ of InfoNCE."""
    radius: float = 0.5
    """A target clip is confident within this cosine distance, 1 − cos, of its cluster's centre."""


class SpatioTemporalContrast(Objective):
    """The three losses on the clips' features; `cluster` is called before each epoch."""

    second_view = True
    clusters = True
    pseudo: Tensor

    def __init__(self, target_clips: int, options: Options) -> None:
        super().__init__()
        check_positive("spatio_temporal", options, "temperature")
        self.options = options
        self.register_buffer("pseudo", torch.full((target_clips,), -1))

    def cluster(self, source: Described, labels: Tensor, target: Described) -> None:
        """Give the target's training clips pseudo-classes, from the source's classes [N_s] and both domains' features."""
        classes, distances = spherical_kmeans(source.features, labels, target.features)
        self.pseudo.copy_(torch.where(distances <= self.options.radius, classes, -1))

    def forward(self, output: Output, step: Step) -> Term:
        assert step.second is not None
        domains = [rows for rows in (~step.is_target, step.is_target) if int(rows.sum()) > 1]
        tau = self.options.temperature
        zero = next(iter(output.videos.values())).sum() * 0  # where no domain has two clips
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
            pseudo = self.pseudo[step.target_positions]
            features = torch.cat([F.normalize(v, dim=1) for v in output.videos.values()], dim=1)
            gap = contrastive_discrepancy(features[~step.is_target], step.labels[:, 0], features[step.is_target], pseudo)
            loss = loss + self.options.alignment * gap
            metrics |= {"discrepancy": gap.detach(), "pseudo_labelled": 100 * (pseudo >= 0).float().mean()}
        return Term(loss, metrics)


def contrastive_discrepancy(source: Tensor, source_classes: Tensor, target: Tensor, target_classes: Tensor) -> Tensor:
    """Mean squared distance of the domains' means of one class, minus that of different classes. Classes absent from either side
    take no part; 0 where none is in both. [B, D], [B] int64 with −1 for none.
    """
    common = sorted(set(source_classes.tolist()) & set(target_classes.tolist()) - {-1})
    if not common:
        return source.sum() * 0
    means = [
        torch.stack([x[classes == k].mean(0) for k in common])
        for x, classes in ((source, source_classes), (target, target_classes))
    ]
    distances = torch.cdist(means[0], means[1]).square()  # [common, common]
    same = distances.diagonal().mean()
    if len(common) == 1:
        return same
    return same - (distances.sum() - distances.diagonal().sum()) / (len(common) * (len(common) - 1))


def spherical_kmeans(source: Tensor, labels: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Clusters of the target that start at the source's class means: (class [N_t], cosine distance to its centre [N_t])."""
    target = F.normalize(target, dim=1)
    present = labels.unique()
    centres = F.normalize(torch.stack([F.normalize(source[labels == k], dim=1).mean(0) for k in present]), dim=1)
    for _ in range(KMEANS_ROUNDS):
        nearest = (target @ centres.T).argmax(1)
        members = F.one_hot(nearest, len(present)).to(target)  # [N_t, K]
        sums = members.T @ target
        updated = torch.where(members.sum(0)[:, None] > 0, F.normalize(sums, dim=1), centres)
        if torch.equal(updated, centres):
            break
        centres = updated
    similarity, nearest = (target @ centres.T).max(1)
    return present[nearest], 1 - similarity


def needs_target(options: Options) -> bool:
    return options.alignment > 0


def build(sizes: Sizes, options: Options) -> Objective:
    return SpatioTemporalContrast(sizes.target_train_clips, options)
