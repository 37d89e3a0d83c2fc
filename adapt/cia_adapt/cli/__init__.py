"""The command line of stage two."""

from cia_adapt.cli.adapt import app, main

__all__ = ["app", "main"]
