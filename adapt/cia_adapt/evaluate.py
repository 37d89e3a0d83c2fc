"""Evaluation: fixed frames, no dropout, and the only place where target labels are opened."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from cia_extract.errors import DivergedError
from torch import Tensor

from cia_adapt.data import Clips, SealedLabels, Task, centre_frames
from cia_adapt.model import VideoModel

BATCH = 64  # clips


@dataclass(frozen=True)
class Prediction:
    """Probabilities [N, K] and features of the clips [N, D] (streams side by side)."""

    probabilities: Tensor
    features: Tensor

    def accuracy(self, labels: npt.NDArray[np.int64]) -> float:
        """Top-1 accuracy in percent."""
        return 100 * float((self.probabilities.argmax(1).numpy() == labels).mean())


@torch.inference_mode()
def predict(model: VideoModel, clips: Clips, segments: int, device: torch.device) -> Prediction:
    """Predict every clip at its centre frames, in the order of `clips`."""
    model.eval()
    frames = centre_frames(clips.frames, segments)
    probabilities, features = [], []
    for first in range(0, len(clips), BATCH):
        positions = np.arange(first, min(first + BATCH, len(clips)))
        inputs = clips.batch(positions, np.tile(frames, (len(positions), 1)))
        output = model({m: x.to(device) for m, x in inputs.items()})
        probabilities.append(output.probabilities().cpu())
        features.append(torch.cat(list(output.videos.values()), dim=1).cpu())
    prediction = Prediction(torch.cat(probabilities), torch.cat(features))
    if not torch.isfinite(prediction.probabilities).all():
        raise DivergedError(
            "the model predicts values that are not finite; lower --lr, or check the file with cia-extract verify"
        )
    return prediction


@dataclass(frozen=True)
class Evaluator:
    """Scores a model on the validation clips of both domains. Training is handed this, never the labels inside."""

    task: Task
    target_labels: SealedLabels
    segments: int
    device: torch.device

    def source(self, model: VideoModel) -> tuple[Prediction, float]:
        prediction = predict(model, self.task.source_val.clips, self.segments, self.device)
        return prediction, prediction.accuracy(self.task.source_val.labels)

    def unknown_labels(self) -> int:
        """Target clips whose class the source does not have."""
        return int((self.target_labels.open("counting classes that the source lacks") < 0).sum())

    def target(self, model: VideoModel) -> tuple[Prediction, float]:
        prediction = predict(model, self.task.target_val, self.segments, self.device)
        return prediction, prediction.accuracy(self.target_labels.open("accuracy of each epoch, for the curve and the oracle"))
