"""SHOT: the classifier that the source trained is kept, and the target's features move to where it is certain of them.

Liang, Hu and Feng, "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised Domain Adaptation",
ICML 2020, https://arxiv.org/abs/2002.08546. Source-free: after the first phase the classifiers are frozen and

    mean H(p) − H(mean p) + 0.3 · cross-entropy with pseudo-labels                                                     (eq. 3-7)

trains the rest. Before each epoch every target clip gets the class whose centroid is nearest by cosine: features f with a 1
appended, of norm 1; centroids are means weighted by p, then once more means of the clips just labelled. A class that no clip is
predicted to be has no centroid. Weights and details as in tim-learn/SHOT@f7d555a.

RECONSTRUCTED, feature-level: the original trains the network below, with batch normalisation before and weight normalisation in
the classifier, and with learning rates of their own; here everything between the stored features and the classifiers trains, as
the set-up says. With several streams f are the streams' features side by side, p is the method's prediction, and each stream
learns the one label.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from cia_adapt.parts.interface import Described, Objective, Output, Sizes, Step, Term
from cia_adapt.parts.objectives.information_maximisation import information_maximisation

MINIMISES: Final = ("im", "entropy")


@dataclass(frozen=True)
class Options:
    """Settings of the objective `source_hypothesis`."""

    certainty: float = 1.0
    """By what information maximisation is multiplied in the loss."""
    pseudo: float = 0.3
    """By what the cross-entropy with the pseudo-labels is multiplied in the loss."""


def centroid_labels(features: Tensor, probabilities: Tensor) -> Tensor:
    """The class of the nearest centroid: features [N, D], probabilities [N, K] → classes [N].

    >>> f = torch.tensor([[1, 0], [0.9, 0.1], [0, 1], [0.2, 0.9]])
    >>> p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.55, 0.45]])
    >>> p.argmax(1).tolist(), centroid_labels(f, p).tolist()
    ([0, 0, 1, 0], [0, 0, 1, 1])
    """
    f = F.normalize(F.pad(features, (0, 1), value=1.0), dim=1)  # [N, D + 1]
    labels, weights = probabilities.argmax(1), probabilities
    for _ in range(2):
        classes = labels.unique()
        centroids = F.normalize((weights.T @ f)[classes], dim=1)  # a sum points where the mean does
        labels = classes[(f @ centroids.T).argmax(1)]
        weights = F.one_hot(labels, probabilities.shape[1]).to(f)
    return labels


class SourceHypothesis(Objective):
    """Both losses on the target's clips, each the mean over streams and labels.

    Args:
        target_clips: number N_t of the target's training clips.
        labels: number L of labels a clip.
    """

    source_free = True
    freezes = ("classifiers",)
    clusters = True
    pseudo: Tensor

    def __init__(self, target_clips: int, labels: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("pseudo", torch.zeros(target_clips, labels, dtype=torch.int64))

    def relabel(self, target: Described) -> None:
        """Give the target's training clips new pseudo-classes."""
        self.pseudo.copy_(torch.stack([centroid_labels(target.features, p) for p in target.probabilities], dim=1))

    def forward(self, output: Output, step: Step) -> Term:
        """The loss; metrics: both parts, and the entropy of the mean prediction."""
        pseudo = self.pseudo[step.target_positions]  # [B_t, L]
        parts = [
            (*information_maximisation(part[step.is_target]), F.cross_entropy(part[step.is_target], pseudo[:, i]))
            for logits in output.logits.values()
            for i, part in enumerate(output.split(logits))
        ]
        certainty, spread, labelled = (torch.stack(column).mean() for column in zip(*parts, strict=True))
        metrics = {
            "information_maximisation_loss": certainty.detach(),
            "prediction_diversity": spread.detach(),
            "pseudo_label_loss": labelled.detach(),
        }
        return Term(self.options.certainty * certainty + self.options.pseudo * labelled, metrics)


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model that adapts to so many target clips."""
    return SourceHypothesis(sizes.target_train_clips, len(sizes.heads), options)
