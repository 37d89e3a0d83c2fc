"""What all sections measure with: where, how large, how long."""

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cia_extract.common.errors import CiaError

Row = tuple[str, str]  # (what, figures); figures that begin with WRONG fail the script
WRONG = "WRONG: "


@dataclass(frozen=True)
class Bench:
    """What is measured, where, and how large."""

    device: torch.device
    weights: str
    folder: Path
    ends: float
    """time.monotonic() at which no further row begins."""

    @property
    def small(self) -> bool:
        """A CPU only shows that the script works."""
        return self.device.type == "cpu"

    def seconds(self, action: Callable[[], object], times: int = 5) -> float:
        """Median of some calls after one that warms up, each to the end of the device's work."""
        action()
        taken = []
        for _ in range(1 if self.small else times):
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

    def row(self, what: str, measured: Callable[[], str]) -> Row:
        """A row of the table: figures and the most memory of the device that they took, or why there are none."""
        if self.small:
            memory = ""
        else:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            figures = measured()
        except Exception as error:
            if not isinstance(error, CiaError):
                traceback.print_exc()
            return what, f"{WRONG}{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if not self.small:
            memory = f", {torch.cuda.max_memory_allocated(self.device) / 1e9:.1f} GB"
        return what, figures + memory


def note(message: str) -> None:
    """Say on stderr what goes on: stdout is for the table."""
    print(message, file=sys.stderr, flush=True)
