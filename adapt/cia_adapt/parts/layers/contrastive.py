"""Contrastive losses on unit vectors.

van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", https://arxiv.org/abs/1807.03748
(InfoNCE); Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, https://arxiv.org/abs/2004.11362 (eq. 2, "out").
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """InfoNCE in nats between two views [B, D] of the same B clips; the mean of both directions, a tensor of no dimension.

    Row i of one view is the positive of row i of the other; all other rows are negatives. τ = `temperature` divides the cosines.

    >>> eye = torch.eye(3)
    >>> round(float(info_nce(eye, eye, 1.0)), 4)  # ln(1 + 2/e)
    0.5514
    """
    logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature
    positive = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, positive) + F.cross_entropy(logits.T, positive)) / 2


def same_class_nce(anchors: Tensor, anchor_labels: Tensor, others: Tensor, other_labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss in nats of anchors [B, D] with labels [B] against others [R, D] with labels [R].

    Others of the anchor's label are its positives, others of another label its negatives; others with label −1 take no part. The
    result is the mean over the anchors that have a label (not −1) and a positive, and 0 where there is no such anchor.
    """
    logits = F.normalize(anchors, dim=1) @ F.normalize(others, dim=1).T / temperature  # [B, R]
    logits = logits.masked_fill((other_labels < 0)[None, :], float("-inf"))
    positive = (anchor_labels[:, None] == other_labels[None, :]) & (anchor_labels >= 0)[:, None]
    usable = positive.any(1)
    if not usable.any():
        return anchors.sum() * 0
    logs = logits[usable].log_softmax(1).masked_fill(~positive[usable], 0)
    return -(logs.sum(1) / positive[usable].sum(1)).mean()


def masked_nce(similarities: Tensor, positive: Tensor, allowed: Tensor) -> Tensor:
    """Supervised contrastive loss in nats where each anchor has positives and others of its own; a tensor of no dimension.

    −log(e^{s_ij} / Σ_{k allowed} e^{s_ik}), the mean over an anchor's positives j, then over the anchors i that have one; 0 where
    none has.

    Args:
        similarities: s [n, n], already divided by τ.
        positive: [n, n] bool, which are positives of the row's anchor.
        allowed: [n, n] bool, which stand in its denominator, the positives among them.

    >>> same = torch.tensor([[False, True, False], [True, False, False], [False, False, False]])
    >>> round(float(masked_nce(torch.eye(3), same, ~torch.eye(3, dtype=torch.bool))), 6)  # ln 2
    0.693147
    """
    masked = similarities.masked_fill(~allowed, torch.finfo(similarities.dtype).min / 2)
    logs = masked.log_softmax(1).masked_fill(~positive, 0).sum(1)  # [n]
    counts = positive.sum(1)
    return -(logs / counts.clamp_min(1)).sum() / (counts > 0).sum().clamp_min(1)
