"""How a command begins and ends. Importing this is quick: signals are caught before the rest is imported."""

import atexit
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from cia_extract.common import processes

if TYPE_CHECKING:
    import typer


def run(load: "Callable[[], typer.Typer]", program: str, after_interrupt: str = ", the same command continues") -> None:
    """Run the command line that `load` imports and exit with its code; a mistake or a signal is one line, never a traceback."""
    with processes.interrupted_by_signals():
        code = _code(load, program)
    if code == 130:  # printed here, where another Ctrl-C no longer interrupts
        print(f"{program}: {processes.ending_word()}; what is finished is kept{after_interrupt}", file=sys.stderr, flush=True)
    atexit.register(processes.ignore_signals)  # what has ended keeps its exit code while the interpreter closes
    sys.exit(code)


def _code(load: "Callable[[], typer.Typer]", program: str) -> int:
    try:
        application = load()
        from cia_extract.common import console

        return console.exit_code(application, program)
    except KeyboardInterrupt:
        return 130
    except Exception:
        if processes.received():  # a library that was interrupted while it was imported says so in its own way
            return 130
        raise
