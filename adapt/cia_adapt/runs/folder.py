"""The folder of a run: runs/<setup>/<method>/<source>-<target>/seed<k>/. It is complete, or it does not exist.

config.json          set-up, method, modalities, classes        stamp.json        who, what, with which features
metrics.jsonl        one line an epoch                          result.json       last, selected, oracle
last.safetensors     the model after the last epoch             selected.safetensors
predictions.csv      each target validation clip                scores.safetensors  probabilities and features
backbone-rgb.safetensors, -flow   where clips trained it: for cia-extract --weights rgb=…
state.safetensors    to continue with more epochs (not a sweep's) done              written last: checksums of all these
events.out.tfevents.*  with --tensorboard

While a run trains, and after an interrupt, `.seed<k>.unfinished/` beside that folder has the last state that was written.
"""

import json
from pathlib import Path
from typing import Any, Final

from cia_extract.common import writes

Result = dict[str, Any]

ROOM: Final = "make room or choose another --runs folder"


def unfinished_folder(folder: Path) -> Path:
    """Where the state of the run lies until it is finished, given the run's own folder."""
    return folder.with_name(f".{folder.name}.unfinished")


def folder_of(result: Result, root: Path) -> Path:
    """Where the finished run of a result lies below `root`."""
    return root / result["setup"] / result["method"] / f"{result['source']}-{result['target']}" / f"seed{result['seed']}"


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all. Raises OSError."""
    writes.text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
