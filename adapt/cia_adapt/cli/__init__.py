"""The command line of stage two, and the same as a function."""

from cia_adapt.cli.application import app, main
from cia_adapt.cli.calls import train_method

__all__ = ["app", "main", "train_method"]
