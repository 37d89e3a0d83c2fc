"""Evaluation: fixed frames, no dropout. Accuracies on the target open its labels here.

The labels are opened in two more places, which training cannot reach: `runs` writes them beside the predictions, and `directions`
reads the names of the test classes before a run, to say which ones the source lacks. A run's stamp counts every opening.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from cia_extract.common.errors import DivergedError
from torch import Tensor

import cia_adapt.training.together as together
from cia_adapt.data import Clips, Positions, SealedLabels, Task, centre_frames, test_frames, to_device
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Described, Output

BATCH = 64  # clips
FRAME_BYTES = 64 << 20  # of a batch of frames, whose way through a backbone takes some hundred times as much
TOP = 5


@dataclass(frozen=True)
class Prediction:
    """Of N clips: probabilities [N, K] for each label, and features [N, D] (streams side by side)."""

    probabilities: tuple[Tensor, ...]
    features: Tensor

    def accuracy(self, labels: npt.NDArray[np.int64]) -> float:
        """Top-1 in percent, labels [N, L]: all labels of a clip right (verb and noun: the action)."""
        return 100 * float(self._right(labels, 1).all(1).mean())

    def by_label(self, labels: npt.NDArray[np.int64], columns: Sequence[str]) -> dict[str, float]:
        """Top-1 and top-5 in percent by label; with two labels also of the action, ranked by products of probabilities."""
        return {
            f"{name}@{k}": 100 * float(right.mean())
            for k in (1, TOP)
            for name, right in self.right_by_label(labels, columns, k).items()
        }

    def right_by_label(self, labels: npt.NDArray[np.int64], columns: Sequence[str], k: int) -> dict[str, npt.NDArray[np.bool_]]:
        """{label: [N], whether it is among the k likeliest}; with two labels also of the action, by products of probabilities.

        EPIC-KITCHENS-100's definition (github.com/epic-kitchens/C1-Action-Recognition) ranks the 100 largest products, among
        which the k ≤ 100 largest are.
        """
        by_column = self._right(labels, k)
        right = {column: by_column[:, i] for i, column in enumerate(columns)}
        return right | ({"action": self._actions(labels, k)} if len(columns) == 2 else {})

    def _right(self, labels: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.bool_]:
        """[N, L]."""
        columns = []
        for i, p in enumerate(self.probabilities):
            best = p.topk(min(k, p.shape[1]), dim=1).indices.numpy()
            columns.append((best == labels[:, i, None]).any(1))
        return np.stack(columns, axis=1)

    def _actions(self, labels: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.bool_]:
        """[N]: the pair is among the k largest products. A pair in the top k has both its labels in their top k."""
        (verbs, verb_ids), (nouns, noun_ids) = (p.topk(min(k, p.shape[1]), dim=1) for p in self.probabilities)
        products = (verbs[:, :, None] * nouns[:, None, :]).flatten(1)
        best = products.topk(min(k, products.shape[1]), dim=1).indices
        verb, noun = verb_ids.gather(1, best // nouns.shape[1]), noun_ids.gather(1, best % nouns.shape[1])
        right = (verb == torch.from_numpy(labels[:, :1])) & (noun == torch.from_numpy(labels[:, 1:]))
        return right.any(1).numpy()


def batches(
    clips: Clips, frames: Positions, device: torch.device, trained: bool = False, shared: bool = False
) -> Iterator[tuple[Positions, dict[str, Tensor]]]:
    """(positions, inputs) of all clips in their order, at these frames [S].

    `trained`: they go through a backbone first. `shared`: only this process's batches, of those that train together.
    """
    size = max(1, min(BATCH, FRAME_BYTES // (clips.bytes * len(frames)))) if trained else BATCH
    for number, first in enumerate(range(0, len(clips), size)):
        if not shared or number % together.size() == together.rank():
            positions = np.arange(first, min(first + size, len(clips)))
            yield positions, to_device(clips.batch(positions, np.tile(frames, (len(positions), 1))), device)


@torch.inference_mode()
def predict(
    model: VideoModel, clips: Clips, segments: int, device: torch.device, precision: str = "fp32", samplings: int = 1
) -> Prediction:
    """Predict every clip at its centre frames, or the mean over several equidistant samplings, in the order of `clips`.

    Raises DivergedError for values that are not finite.
    """
    seen = [_predict(model, clips, frames, device, precision) for frames in test_frames(clips.frames, segments, samplings)]
    if samplings == 1:
        return seen[0]
    by_label = zip(*(one.probabilities for one in seen), strict=True)
    means = tuple(torch.stack(probabilities).mean(0) for probabilities in by_label)
    return Prediction(means, torch.stack([one.features for one in seen]).mean(0))


def _predict(model: VideoModel, clips: Clips, frames: Positions, device: torch.device, precision: str) -> Prediction:
    own = [
        (first, ([p.float().cpu() for p in output.probabilities()], features_of(output).float().cpu()))
        for first, output in _outputs(model, clips, frames, device, precision, shared=True)
    ]
    outputs = together.all_of(own)
    probabilities = tuple(torch.cat(parts) for parts in zip(*(probabilities for probabilities, _ in outputs), strict=True))
    _check_finite(probabilities)
    return Prediction(probabilities, torch.cat([features for _, features in outputs]))


@torch.inference_mode()
def describe(model: VideoModel, clips: Clips, segments: int, device: torch.device) -> Described:
    """What `predict` says of the clips, and the streams' logits, on the device. Raises DivergedError as `predict` does."""
    frames = centre_frames(clips.frames, segments)
    outputs = [(features_of(x), x.probabilities(), x.logits) for _, x in _outputs(model, clips, frames, device, "fp32")]
    features, by_label, by_stream = zip(*outputs, strict=True)
    probabilities = tuple(torch.cat(of_label) for of_label in zip(*by_label, strict=True))
    _check_finite(probabilities)
    logits = {stream: torch.cat([logits[stream] for logits in by_stream]) for stream in by_stream[0]}
    return Described(torch.cat(features), probabilities, logits)


def _outputs(
    model: VideoModel, clips: Clips, frames: Positions, device: torch.device, precision: str, shared: bool = False
) -> Iterator[tuple[int, Output]]:
    """(position of the first clip, what the model says) of each batch."""
    model.eval()
    for positions, inputs in batches(clips, frames, device, model.trunk is not None, shared):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            output: Output = model(inputs)
        yield int(positions[0]), output


def _check_finite(probabilities: Sequence[Tensor]) -> None:
    if not all(torch.isfinite(p).all() for p in probabilities):
        raise DivergedError(
            "the model predicts values that are not finite; lower --lr, or check the file with cia-extract verify"
        )


def features_of(output: Output) -> Tensor:
    """[B, D]: the streams' clip features side by side."""
    return torch.cat(list(output.videos.values()), dim=1)


@dataclass(frozen=True)
class Evaluator:
    """Scores a model on the validation clips of both domains. Training is handed this, never the labels inside."""

    task: Task
    target_labels: SealedLabels
    segments: int
    device: torch.device
    precision: str = "fp32"
    samplings: int = 1
    """Equidistant samplings of a clip's frames whose predictions are averaged."""

    def predict(self, model: VideoModel, clips: Clips) -> Prediction:
        """What the model says of these clips, at their centre frames or averaged over samplings."""
        return predict(model, clips, self.segments, self.device, self.precision, self.samplings)

    def source_accuracy(self, prediction: Prediction) -> float:
        """Top-1 in % on the source's validation clips."""
        return prediction.accuracy(self.task.source_val.labels)

    def accuracy_by_source(self, prediction: Prediction) -> dict[str, float]:
        """{source: top-1 in % on its validation clips} where there are several sources, else empty."""
        labels, by_label = self.task.source_val.labels, prediction.probabilities
        return {
            name: Prediction(tuple(p[rows] for p in by_label), prediction.features[rows]).accuracy(labels[rows])
            for name, rows in self.task.source_val_by_domain.items()
        }

    def target_accuracy(self, prediction: Prediction) -> float:
        """Top-1 in % on the target's validation clips; opens their labels."""
        return prediction.accuracy(self.target_labels.open("accuracy of each epoch, for the curve and the oracle"))

    def target_scores(self, prediction: Prediction) -> Mapping[str, float]:
        """Top-1 and top-5 in % by label on the target's validation clips; opens their labels."""
        return prediction.by_label(self.target_labels.open("top-1 and top-5 by label"), tuple(self.task.classes))
