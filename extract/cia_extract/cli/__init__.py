"""The command line of stage one."""

from cia_extract.cli.extract import app, main

__all__ = ["app", "main"]
