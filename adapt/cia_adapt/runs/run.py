"""A finished run as an object, for notebooks: `cia_adapt.load_run`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from cia_extract.common.errors import UsageError

import cia_adapt.runs.files as files


@dataclass(frozen=True)
class Run:
    """A finished run. `result` and `config` are in memory, everything else is read when it is asked for."""

    folder: Path
    result: dict[str, Any]
    """result.json: `last`, `selected` and `oracle` accuracy on the target in %, epochs, validators, …"""
    config: dict[str, Any]
    """config.json: set-up, method with every setting, domains, modalities, seed, classes."""

    @property
    def metrics(self) -> pd.DataFrame:
        """A row for each epoch: losses, accuracies in %, label-free validators."""
        return pd.DataFrame(files.read_metrics(self.folder))

    @property
    def predictions(self) -> pd.DataFrame:
        """A row for each validation clip of the target: clip, its label, and what the last and the selected model say."""
        return pd.DataFrame(files.read_predictions(self.folder))

    @property
    def scores(self) -> dict[str, torch.Tensor]:
        """Class probabilities of the target's validation clips [N_t, K], and the features of both domains' clips [N, D]."""
        return files.load_scores(self.folder)

    def model(self, which: str = "selected") -> dict[str, torch.Tensor]:
        """The state dict of the trained layers, `selected` or `last`."""
        return files.load_model(self.folder, which)


def load_run(folder: str | Path) -> Run:
    """The finished run in a folder, runs/<setup>/<method>/<source>-<target>/seed<k>.

    Raises UsageError where no finished run is, DataError for one that is damaged.
    """
    folder = Path(folder)
    if not (folder / "done").is_file():
        raise UsageError(f"{folder}: is no finished run; give a folder such as runs/uh/cia/hmdb-ucf/seed0")
    return Run(folder, files.read(folder), files.read_config(folder))
