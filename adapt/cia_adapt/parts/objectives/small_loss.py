"""CleanAdapt: of the source model's labels for the target those with a small loss are taken as right and learned.

Dasgupta, Jawahar and Alahari, "Overcoming Label Noise for Source-free Unsupervised Video Domain Adaptation",
https://arxiv.org/abs/2311.18572; numbers and order of steps as in avijit9/CleanAdapt@79fe98b. Source-free: when the source is
left, a target clip gets the class argmax ½(z_rgb + z_flow) of the model as it then is. Before each epoch, within each
pseudo-class, the clips are kept whose CE_rgb + CE_flow is at most the r-th percentile of that class; CE_rgb + CE_flow of these is
trained. With a teacher (`relabels`, and `--average 0.99`) the average of the weights gives the losses, with the labels of the
epoch before, and then new labels.

RECONSTRUCTED, feature-level: the original trains two I3D networks on video, by SGD at 0.01 with steps at epochs 20 and 40 of 100,
in batches of 48; here the layers over stored features train by the set-up's optimiser and schedule. Its student sees strongly
augmented clips; here other frames. A batch is drawn from all target clips and those not kept are left out of its loss, where the
original draws from the kept ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cia_adapt.parts.interface import Described, Objective, Output, Sizes, Step, Term
from cia_adapt.parts.ranges import SomeShare


@dataclass(frozen=True)
class Options:
    """Settings of the objective `small_loss`."""

    kept: SomeShare = 0.5
    """r, the share of each pseudo-class that is kept, those with the smallest loss, above 0 and at most 1."""
    relabels: bool = False
    """Whether labels are given anew before each epoch, by the model that is evaluated; a teacher with `--average`."""


def small_losses(losses: Tensor, classes: Tensor, share: float) -> Tensor:
    """Whether a clip's loss is at most the `share`-th quantile of its class: losses [N], classes [N] → [N] bool.

    >>> small_losses(torch.tensor([0.1, 0.4, 0.2, 0.9, 0.3]), torch.zeros(5), 0.5).nonzero().flatten().tolist()
    [0, 2, 4]
    """
    kept = torch.zeros_like(losses, dtype=torch.bool)
    for k in classes.unique():
        members = classes == k
        kept[members] = losses[members] <= losses[members].quantile(share)
    return kept


class SmallLoss(Objective):
    """The cross-entropy of the kept clips with their pseudo-labels: the sum over streams, the mean over labels and clips.

    Args:
        target_clips: number N_t of the target's training clips.
        heads: classes of each label. Pseudo-classes go by the first label.
    """

    source_free = True
    clusters = True
    pseudo: Tensor
    kept: Tensor

    def __init__(self, target_clips: int, heads: tuple[int, ...], options: Options) -> None:
        super().__init__()
        self.heads, self.options = heads, options
        self.register_buffer("pseudo", torch.full((target_clips, len(heads)), -1))
        self.register_buffer("kept", torch.zeros(target_clips, dtype=torch.bool))

    def relabel(self, target: Described) -> None:
        """Choose the clips to keep, and where labels are lacking or to be renewed, label all."""
        streams = list(target.logits.values())
        labels = torch.stack([z.argmax(1) for z in torch.stack(streams).mean(0).split(self.heads, dim=1)], dim=1)  # [N, L]
        if (self.pseudo < 0).any():
            self.pseudo.copy_(labels)
        losses = self._losses(streams, self.pseudo)
        if self.options.relabels:
            self.pseudo.copy_(labels)
        self.kept.copy_(small_losses(losses, self.pseudo[:, 0], self.options.kept))

    def _losses(self, streams: list[Tensor], labels: Tensor) -> Tensor:
        """[N], of the streams' logits [N, ΣK] with labels [N, L]."""
        losses = [
            F.cross_entropy(z, labels[:, i], reduction="none")
            for stream in streams
            for i, z in enumerate(stream.split(self.heads, dim=1))
        ]
        return torch.stack(losses).sum(0) / len(self.heads)

    def forward(self, output: Output, step: Step) -> Term:
        """The loss, 0 in a batch without kept clips; metrics: the loss, and the share of kept clips in %."""
        kept = self.kept[step.target_positions].float()  # [B_t]
        streams = [z[step.is_target] for z in output.logits.values()]
        losses = self._losses(streams, self.pseudo[step.target_positions])
        loss = (losses * kept).sum() / kept.sum().clamp_min(1)
        return Term(loss, {"pseudo_label_loss": loss.detach(), "pseudo_labelled": 100 * kept.mean()})


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model that adapts to so many target clips."""
    return SmallLoss(sizes.target_train_clips, sizes.heads, options)
