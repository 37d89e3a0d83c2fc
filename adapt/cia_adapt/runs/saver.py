"""Keeping a run's state while it trains, so that an interrupt or a failure costs an epoch at most."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cia_extract.common.console import Say
from cia_extract.common.errors import CiaError, DivergedError, UsageError
from cia_extract.common.outcomes import first_line

from cia_adapt.runs.folder import unfinished_folder
from cia_adapt.runs.key import RunKey
from cia_adapt.runs.resume import Packed, save_state
from cia_adapt.training import Outcome

SAVE_EVERY_S = 15.0
COMPLAIN_EVERY_S = 600.0  # of a state that cannot be saved


class Saver:
    """Keeps the state after the latest epoch in memory, and on the disk every now and then.

    Args:
        pack: the run's state as it is now (`resume.pack`).
    """

    def __init__(self, folder: Path, key: RunKey, pack: Callable[[Outcome], Packed], say: Say) -> None:
        self.folder, self.key, self.pack, self.say = folder, key, pack, say
        self.latest: Packed | None = None
        self.written_at = self.complain_at = time.monotonic()

    def after_epoch(self, outcome: Outcome) -> None:
        """Pack the state; write it where the last writing is a while ago."""
        self.latest = self.pack(outcome)
        if time.monotonic() - self.written_at > SAVE_EVERY_S and self.latest.epoch < self.key.setup.epochs:
            try:
                self.write_latest()
            except UsageError as error:  # a full disk may have room again at the end
                if time.monotonic() >= self.complain_at:
                    self.complain_at = time.monotonic() + COMPLAIN_EVERY_S
                    self.say(f"note: training goes on, its state is not saved: {error}")
            self.written_at = time.monotonic()

    def write_latest(self) -> int:
        """Write the latest state; returns its epoch, 0 where there is none. Raises UsageError when the disk says no."""
        if self.latest is None:
            return 0
        save_state(self.folder, self.key, self.latest)
        return self.latest.epoch

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Write the latest state where training diverges, is interrupted or fails, and say where it is. What is raised stays what
        it was, also where the state cannot be written.

        The latest state is whole whatever fails: it is packed between two epochs, and nothing changes it.
        """
        try:
            yield
        except DivergedError as error:
            raise self._diverged(error) from error
        except (KeyboardInterrupt, Exception) as error:
            self.keep("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise

    def keep(self, what: str) -> None:
        """Write the latest state of a run that was `what`, interrupted or failed, and say where it is, or why it is not there."""
        try:
            if epoch := self.write_latest():
                self.say(f"{self.folder}: {what}, kept up to epoch {epoch}; the same command with --resume goes on")
        except Exception as error:  # what failed before may fail the writing too: no memory, a file system that has gone
            self.say(f"note: what came after the last state that was saved is lost: {_reason(error)}")

    def _diverged(self, error: DivergedError) -> DivergedError:
        try:
            epoch = self.write_latest()
        except Exception as full:
            return DivergedError(f"{error}; the last good state is not saved: {_reason(full)}")
        if not epoch:
            return error
        return DivergedError(f"{error}; the last good state, after epoch {epoch}, is in {unfinished_folder(self.folder)}")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, CiaError) else first_line(error)
