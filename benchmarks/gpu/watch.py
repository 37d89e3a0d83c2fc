"""Run a section in a process of its own, which is ended with all that it started when its time is over."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

Row = tuple[str, str]  # (what, figures); figures that begin with WRONG fail the script
WRONG = "WRONG: "


def rows_of(section: str, command: Sequence[str], log: Path, seconds: float) -> list[Row]:
    """The rows that a command has written to `log` (measuring.Bench.log), and what became of one that it had only begun."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)  # a session: the signal reaches its children
    try:
        code = process.wait(seconds)
        end = f"its process was ended by signal {-code}" if code < 0 else f"its process ended with exit code {code}"
    except subprocess.TimeoutExpired:
        code, end = None, f"not done after {time.monotonic() - began:.0f} s, its process was ended"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)  # until the device's memory is free again
    rows: dict[str, str | None] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        with suppress(ValueError):  # torn by the signal
            what, figures = json.loads(line)
            rows[what] = figures
    if code != 0 and None not in rows.values():
        rows[section] = None
    return [(what, f"{WRONG}{end}" if figures is None else figures) for what, figures in rows.items()]
