"""The command line of stage two, and the same as functions."""

from cia_adapt.cli.application import app, main
from cia_adapt.cli.calls import predict_clips, train_method

__all__ = ["app", "main", "predict_clips", "train_method"]
