"""A run's metrics for those who watch runs in TensorBoard: `--tensorboard`. https://www.tensorflow.org/tensorboard"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cia_extract.common import writes
from cia_extract.common.errors import UsageError

from cia_adapt.runs.folder import ROOM, unfinished_folder

FILES: Final = "events.out.tfevents.*"


def check_installed() -> None:
    """Raise UsageError where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UsageError("--tensorboard: TensorBoard is not installed; pip install 'cia-video[tensorboard]'") from None


class Board:
    """The metrics of metrics.jsonl as TensorBoard's event file: numbers as scalars, advice as text; the step is the epoch.

    While the run trains, the file lies with its unfinished state; `keep` puts it into the finished folder. A run that goes on
    writes its history anew, so that no epoch is there twice.

    Args:
        folder: the run's own. The folder of the unfinished run must exist.
        history: the epochs before, where the run goes on.

    Raises:
        UsageError: TensorBoard is not installed, or the disk refuses.
    """

    def __init__(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        check_installed()
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.working = folder, unfinished_folder(folder)
        with writes.translated(str(folder), ROOM):
            _remove(self.working)
            self._writer = SummaryWriter(str(self.working))
        for metrics in history:
            self.add(metrics)

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Write an epoch's metrics. Raises UsageError where the disk refuses."""
        epoch = metrics["epoch"]
        with writes.translated(str(self.folder), ROOM):
            for name, value in metrics.items():
                if isinstance(value, str):
                    if value:
                        self._writer.add_text(name, value, epoch)
                elif value is not None and name != "epoch":  # None: an accuracy on a target without labels
                    self._writer.add_scalar(name, value, epoch)
            self._writer.flush()

    def keep(self) -> None:
        """Put the file into the folder of the finished run, in the place of an older one. Raises UsageError."""
        with writes.translated(str(self.folder), ROOM):
            self._writer.close()
            _remove(self.folder)
            for path in self.working.glob(FILES):
                path.rename(self.folder / path.name)


def _remove(folder: Path) -> None:
    for path in folder.glob(FILES):
        path.unlink()
