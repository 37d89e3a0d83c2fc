"""Label-free validators: what an epoch may be chosen by without target labels. All are oriented so that larger is better.

Compared in Musgrave et al., "Three New Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain Adaptation",
https://arxiv.org/abs/2208.07360. p are the target's softmaxes [N, K]; with several labels a validator is the mean over them.

    source_val   accuracy on the source's validation clips
    entropy      −mean H(p)
    im           information maximisation, H(mean p) − mean H(p)
    snd          soft neighbourhood density (Saito et al., ICCV 2021, https://arxiv.org/abs/2108.10860)
    bnm          nuclear norm of p over N (Cui et al., CVPR 2020, https://arxiv.org/abs/2003.12237)
    ami          ClassAMI: adjusted mutual information of predicted classes and k-means clusters of the features
    dev          deep embedded validation (You et al., ICML 2019), the negative of its risk; on request
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

NAMES: Final = ("source_val", "entropy", "im", "snd", "bnm", "ami")
MOST: Final = 2000  # clips that pairwise validators look at, drawn once by a fixed seed


def of_target(probabilities: Sequence[Tensor], features: Tensor) -> dict[str, float]:
    """The validators that look at the target's training clips: probabilities [N, K] for each label, features [N, D]."""
    rows = sample(len(features))
    by_label = [
        {
            "entropy": -float(row_entropy(p).mean()),
            "im": information_maximisation(p),
            "snd": soft_neighbourhood_density(p[rows]),
            "bnm": float(torch.linalg.matrix_norm(p, "nuc")) / len(p),
            "ami": class_ami(p[rows], features[rows]),
        }
        for p in probabilities
    ]
    return {name: float(np.mean([values[name] for values in by_label])) for name in by_label[0]}


def sample(count: int) -> Tensor:
    """Rows to look at: all, or `MOST` of them, the same each time."""
    if count <= MOST:
        return torch.arange(count)
    return torch.from_numpy(np.sort(np.random.default_rng(0).permutation(count)[:MOST]))


def row_entropy(p: Tensor) -> Tensor:
    """[N, K] → [N] nats.

    >>> row_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    return torch.special.entr(p).sum(1)


def information_maximisation(p: Tensor) -> float:
    """H(mean p) − mean H(p): sure of each clip and fair to all classes.

    >>> round(information_maximisation(torch.eye(4)), 4)  # ln 4
    1.3863
    """
    return float(row_entropy(p.mean(0, keepdim=True)).sum() - row_entropy(p).mean())


def soft_neighbourhood_density(p: Tensor, temperature: float = 0.05) -> float:
    """Mean entropy of each clip's softmax of cosine similarities to the others: dense neighbourhoods of alike predictions."""
    if len(p) < 2:
        return 0.0
    unit = F.normalize(p, dim=1)
    similarity = (unit @ unit.T / temperature).fill_diagonal_(-torch.inf)
    return float(row_entropy(similarity.softmax(1)).mean())


def class_ami(p: Tensor, features: Tensor) -> float:
    """Do clusters of the features, as many as classes, agree with the predictions? 1: entirely, 0: as by chance."""
    clusters = min(p.shape[1], len(features))
    with threadpool_limits(1):
        cluster = KMeans(clusters, n_init=1, max_iter=100, random_state=0).fit_predict(features.double().numpy())
    return float(adjusted_mutual_info_score(p.argmax(1).numpy(), cluster))


def deep_embedded_validation(source_train: Tensor, target_train: Tensor, source_val: Tensor, loss: Tensor) -> float:
    """−(risk on the source's validation clips, weighted by how likely the target is, with a control variate).

    Features [N, D] of the three sets; `loss` [N_val], of the validation clips.
    """
    x = torch.cat([source_train, target_train]).double().numpy()
    y = np.repeat([0, 1], [len(source_train), len(target_train)])
    with threadpool_limits(1):
        target_share = LogisticRegression(max_iter=1000).fit(x, y).predict_proba(source_val.double().numpy())[:, 1]
    ratio = target_share / np.maximum(1 - target_share, 1e-6) * len(source_train) / len(target_train)
    weighted = ratio * loss.double().numpy()
    if len(weighted) < 2:
        return -float(weighted.mean())  # one clip has no covariance, so no control variate
    covariance = np.cov(weighted, ratio, ddof=1)
    eta = -covariance[0, 1] / covariance[1, 1] if covariance[1, 1] > 0 else 0.0
    return -float(weighted.mean() + eta * ratio.mean() - eta)
