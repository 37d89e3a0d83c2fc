"""The command line of stage two."""

from cia_adapt.cli.application import app, main

__all__ = ["app", "main"]
