"""The run directory: runs/<setup>/<method>/<source>-<target>/seed<k>/, complete or not there at all.

config.json          set-up, method, modalities, classes        stamp.json        who, what, with which features
metrics.jsonl        one line an epoch                          result.json       last, selected, oracle
last.safetensors     the model after the last epoch             selected.safetensors
predictions.csv      each target validation clip                scores.safetensors  probabilities and features
state.safetensors    to go on with more epochs (not of a sweep) done                written last

While it trains, and after an interrupt, `.seed<k>.unfinished/` beside it has the last state that was written.
"""

import json
from pathlib import Path
from typing import Any, Final

from cia_extract.common import writes

Result = dict[str, Any]

ROOM: Final = "make room or choose another --runs folder"


def unfinished_folder(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unfinished")


def _write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    writes.text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
