"""How a command ends where a signal was swallowed, and what came of it is another error."""

import subprocess
import sys

import pytest

SWALLOWED = """
import contextlib, os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a script ignores it, and so would the command
from cia_extract.common import entry
def broken(**_):
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.{name})
    {then}
entry.run({load}, "cia-test", "")
"""
IMPORT = 'raise ImportError("cannot load module more than once per process")'


def ended(**parts: str) -> tuple[int, str]:
    """(exit code, stderr)"""
    run = subprocess.run([sys.executable, "-c", SWALLOWED.format(**parts)], capture_output=True, text=True)
    return run.returncode, run.stderr


@pytest.mark.parametrize("load", ["broken", "lambda: broken"])
@pytest.mark.parametrize(("name", "word"), [("SIGINT", "interrupted"), ("SIGTERM", "terminated (SIGTERM)")])
def test_an_error_after_a_signal_is_the_interrupt(load, name, word):
    assert ended(load=load, name=name, then=IMPORT) == (130, f"cia-test: {word}; what is finished is kept\n")


def test_a_mistake_that_the_user_can_mend_is_told_all_the_same():
    then = "from cia_extract.common.errors import DataError; raise DataError('f.h5: cut')"
    assert ended(load="lambda: broken", name="SIGTERM", then=then) == (3, "cia-test: f.h5: cut\n")


def test_without_a_signal_the_error_is_reported():
    code, told = ended(load="lambda: broken", name="SIGCONT", then=IMPORT)
    assert code == 1 and told.startswith("cia-test: unexpected ImportError: cannot load module more than once per process;")
