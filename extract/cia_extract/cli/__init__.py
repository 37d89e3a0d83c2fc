"""The command line of stage one, and the same as a function."""

from cia_extract.cli.application import app, main
from cia_extract.cli.calls import extract

__all__ = ["app", "extract", "main"]
