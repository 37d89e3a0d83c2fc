"""The command line of stage two, and the same as functions. All is imported late: `main` catches signals before that."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cia_extract.common import entry

if TYPE_CHECKING:
    from cia_adapt.cli.application import app
    from cia_adapt.cli.calls import predict_clips, train_method

__all__ = ["app", "main", "predict_clips", "train_method"]
_LATE = {"app": "application", "predict_clips": "calls", "train_method": "calls"}


def main() -> None:
    """Run `cia-adapt` and exit with its code. Runs say themselves how they go on."""
    entry.run(lambda: import_module("cia_adapt.cli.application").app, "cia-adapt", after_interrupt="")


def __getattr__(name: str) -> Any:
    """Import what is first asked for."""
    if name not in _LATE:
        raise AttributeError(f"module 'cia_adapt.cli' has no attribute {name!r}")
    return getattr(import_module(f"cia_adapt.cli.{_LATE[name]}"), name)
