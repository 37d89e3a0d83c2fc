"""The command line of stage one, and the same as a function. All is imported late: `main` catches signals before that."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cia_extract.common import entry

if TYPE_CHECKING:
    from cia_extract.cli.application import app
    from cia_extract.cli.calls import extract

__all__ = ["app", "extract", "main"]
_LATE = {"app": "application", "extract": "calls"}


def main() -> None:
    """Run `cia-extract` and exit with its code."""
    entry.run(lambda: import_module("cia_extract.cli.application").app, "cia-extract")


def __getattr__(name: str) -> Any:
    """Import what is first asked for."""
    if name not in _LATE:
        raise AttributeError(f"module 'cia_extract.cli' has no attribute {name!r}")
    return getattr(import_module(f"cia_extract.cli.{_LATE[name]}"), name)
