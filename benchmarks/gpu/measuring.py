"""What all sections measure with: where, how large, how long, and within what memory and time."""

import json
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cia_extract
import numpy as np
import torch
from cia_extract.common.errors import CiaError
from watch import WRONG, Row

ROW_SECONDS = 150.0  # a row may take: I3D's compilation is the longest
REPEATING_SECONDS = 20.0  # after which no further repetition begins


class TooLong(BaseException):
    """A row has used up its time. Not an Exception: what goes on after errors, such as a clip's, must not go on after this."""


@dataclass(frozen=True)
class Bench:
    """What is measured, where, and how large."""

    device: torch.device
    weights: str
    folder: Path
    log: Path
    """The rows so far, a line of JSON each: [what, figures], the figures null while the row is being measured."""
    ends: float
    """time.monotonic() at which the row that is being measured ends, and no further one begins."""

    @property
    def small(self) -> bool:
        """A CPU only shows that the script works."""
        return self.device.type == "cpu"

    def seconds(self, action: Callable[[], object], times: int = 5) -> float:
        """Median of some calls after one that warms up, each to the end of the device's work; of fewer where they are slow."""
        action()
        taken: list[float] = []
        while len(taken) < (1 if self.small else times) and sum(taken) < REPEATING_SECONDS:
            self.wait()
            began = time.perf_counter()
            action()
            self.wait()
            taken.append(time.perf_counter() - began)
        return float(np.median(taken))

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if not self.small:
            torch.cuda.synchronize(self.device)

    def row(self, what: str, measured: Callable[[], str], most_gb: float | None = None) -> Row:
        """A row of the table: figures, or why there are none. Too long, and too much of the device's memory, are wrong.

        Args:
            most_gb: what the row may take of the device's memory; None where other processes take it.
        """
        left = min(ROW_SECONDS, self.ends - time.monotonic())
        if left <= 0:
            return what, "not measured: no time left (--minutes)"
        self.write(what, None)
        if not self.small:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        try:
            with limited(left):
                figures = measured()
        except (Exception, TooLong) as error:
            if not isinstance(error, (CiaError, TooLong)):
                traceback.print_exc()
            return what, failure(error)
        if self.small or most_gb is None:
            return what, figures
        taken = (torch.cuda.max_memory_allocated(self.device) - before) / 1e9
        if taken <= most_gb:
            return what, f"{figures}, {taken:.1f} GB"
        return what, f"{WRONG}{figures.removeprefix(WRONG)}, {taken:.1f} GB instead of at most {most_gb:g}"

    def write(self, what: str, figures: str | None) -> None:
        """Keep a row, whatever becomes of this process."""
        with self.log.open("a") as log:
            log.write(json.dumps([what, figures]) + "\n")


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooLong in what goes on for longer, at its next step in Python; what never takes one is ended by `watch`."""

    def ring(*_: object) -> None:
        raise TooLong(f"not done within {seconds:.0f} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def failure(error: BaseException) -> str:
    """Figures of a row that failed: the error in one line."""
    return f"{WRONG}{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def machine(bench: Bench) -> Iterator[Row]:
    """The card, or the processor, and the versions."""
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    card = f"{len(names)} × {names[0]}" if bench.small else torch.cuda.get_device_name(bench.device)
    versions = f"torch {torch.__version__}, Python {platform.python_version()}, cia-video {cia_extract.__version__}"
    yield "machine", f"{card}, {versions}"


def note(message: str) -> None:
    """Say on stderr what goes on: stdout is for the table."""
    print(message, file=sys.stderr, flush=True)
