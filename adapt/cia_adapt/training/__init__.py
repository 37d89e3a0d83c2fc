"""One run: the trainer, the loop over its epochs, evaluation, validators and health."""

from cia_adapt.training import together
from cia_adapt.training.evaluate import Evaluator, Prediction, predict
from cia_adapt.training.health import Advice
from cia_adapt.training.loop import Outcome, Snapshot, best_epoch, train
from cia_adapt.training.optimisers import reached_by
from cia_adapt.training.phases import build_objectives, check_fits, counted
from cia_adapt.training.pilot import pilot_epochs
from cia_adapt.training.trainer import Metrics, Trainer
from cia_adapt.training.validators import NAMES as VALIDATORS

__all__ = [
    "VALIDATORS",
    "Advice",
    "Evaluator",
    "Metrics",
    "Outcome",
    "Prediction",
    "Snapshot",
    "Trainer",
    "best_epoch",
    "build_objectives",
    "check_fits",
    "counted",
    "pilot_epochs",
    "predict",
    "reached_by",
    "together",
    "train",
]
