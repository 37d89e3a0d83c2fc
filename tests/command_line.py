"""The two commands for tests: in a process of its own, as a user starts them, or in this one, which saves seconds of imports."""

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock


def in_a_process(module: str, *arguments: object, cwd: Path | None = None) -> CompletedProcess[str]:
    program = [sys.executable, "-c", f"from {module}.cli import main; main()"]
    return subprocess.run([*program, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


def in_this_process(main: Callable[[], None], *arguments: object, cwd: Path | None = None) -> CompletedProcess[str]:
    """What `main` prints and the code it exits with. What its own workers print is not caught."""
    words = ["x", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    outputs = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with outputs[0], outputs[1], contextlib.chdir(cwd or "."), mock.patch.object(sys, "argv", words):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())


def gone(group: int, within_s: float) -> bool:
    """Whether all processes of a group end in time; Python's own helper processes take a moment to notice."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
