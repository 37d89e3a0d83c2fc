"""Reading the files of runs, which may be damaged, of another version, or somebody else's: what is wrong is one DataError."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from cia_extract.common import spreadsheets
from cia_extract.common.errors import DataError, UsageError
from safetensors.torch import load_file

MOST_BYTES: Final = 256 << 20  # of a text file of a run; a run of 10,000 epochs has 10 MB
AGAIN: Final = "train the run again with --overwrite, or leave it out"

# What the commands read, and the type of each; a tuple's first entry is the type of every element or value.
RESULT: Final = {
    **dict.fromkeys(("source", "target", "method", "setup"), str),
    **dict.fromkeys(("last", "selected", "oracle", "source_val"), float),
    **dict.fromkeys(("seed", "target_val_clips"), int),
}
CONFIG: Final = {
    **dict.fromkeys(("source", "target", "features", "precision"), str),
    "seed": int,
    "modalities": [str],
    "setup": {"name": str, "epochs": int, "segments": int},
    "method": {"name": str, "paper": str, "reconstructed": str, "pooling": str, "published": (float,)},
}
STAMP: Final = {"feature_file": str, "device": str}
METRICS: Final = dict.fromkeys(("source_val_accuracy", "target_val_accuracy", "class_loss"), float)


def find(paths: Sequence[Path]) -> list[Path]:
    """All finished runs at or below the given folders, sorted. Raises UsageError when there is none."""
    try:
        folders = sorted({done.parent for path in paths for done in path.glob("**/done") if not done.parent.name.startswith(".")})
    except OSError as error:
        raise UsageError(f"{', '.join(map(str, paths))}: {error.strerror or error}") from error
    if not folders:
        raise UsageError(f"no finished run in {', '.join(map(str, paths))}; train one with cia-adapt --features feats.h5")
    return folders


def read(folder: Path) -> dict[str, Any]:
    """The result of a finished run. Raises DataError."""
    result = read_json(folder / "result.json")
    check(folder / "result.json", result, RESULT)
    if not isinstance(result.get("advice") or "", str):
        raise DataError(f"{folder / 'result.json'}: 'advice' is no text; {AGAIN}")
    return result


def read_config(folder: Path) -> dict[str, Any]:
    """What a run is of; a finished one's has `classes`, {label column: names}. Raises DataError."""
    path = folder / "config.json"
    config = read_json(path)
    check(path, config, CONFIG)
    if "classes" in config:
        check(path, config, {"classes": ([str],)})
    return config


def read_stamp(folder: Path) -> dict[str, Any]:
    """The circumstances of a run. Raises DataError."""
    stamp = read_json(folder / "stamp.json")
    check(folder / "stamp.json", stamp, STAMP)
    return stamp


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """One object an epoch. Raises DataError."""
    path = folder / "metrics.jsonl"
    history = [_object(path, line) for line in _text(path).splitlines()]
    if not history:
        raise DataError(f"{path}: empty; {AGAIN}")
    for metrics in history:
        check(path, metrics, METRICS)
        wrong = [k for k, v in metrics.items() if k != "advice" and not isinstance(v, int | float | None)]
        if wrong:
            raise DataError(f"{path}: '{wrong[0]}' is no number; {AGAIN}")
    return history


def read_predictions(folder: Path) -> list[dict[str, str]]:
    """The rows of predictions.csv, as they were before they were made safe for spreadsheets. Raises DataError."""
    path = folder / "predictions.csv"
    try:
        lines = [list(map(spreadsheets.plain, cells)) for cells in csv.reader(_text(path).splitlines(keepends=True), strict=True)]
    except csv.Error as error:
        raise DataError(f"{path}: damaged ({error}); {AGAIN}") from error
    if len(lines) < 2 or any(len(cells) != len(lines[0]) for cells in lines):
        raise DataError(f"{path}: damaged (no rows, or rows of different lengths); {AGAIN}")
    return [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]]


def load_model(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The state dict of `last` or `selected`. Raises DataError."""
    return _tensors(folder / f"{name}.safetensors")


def load_scores(folder: Path) -> dict[str, torch.Tensor]:
    """Probabilities and features, the features [clips, D] and finite, of one D in both domains. Raises DataError."""
    path = folder / "scores.safetensors"
    scores = _tensors(path)
    both = [scores.get(f"selected/{domain}_features") for domain in ("source", "target")]
    for features in both:
        if features is None or features.ndim != 2 or not features.is_floating_point() or 0 in features.shape:
            raise DataError(f"{path}: has no features of both domains' clips; {AGAIN}")
        if not torch.isfinite(features).all():
            raise DataError(f"{path}: has features that are not finite; {AGAIN}")
    if both[0].shape[1] != both[1].shape[1]:  # type: ignore[union-attr]
        raise DataError(f"{path}: the domains' features differ in length; {AGAIN}")
    return scores


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises DataError."""
    return _object(path, _text(path))


def check(path: Path, value: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raises DataError where a field is missing or of another type. Numbers must be finite."""
    for name, kind in fields.items():
        if name not in value:
            raise DataError(f"{path}: '{name}' is missing, damaged or of another version; {AGAIN}")
        if not _fits(value[name], kind):
            raise DataError(f"{path}: '{name}' has a wrong value, damaged or of another version; {AGAIN}")


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(name in value and _fits(value[name], inner) for name, inner in kind.items())
    if isinstance(kind, list):
        return isinstance(value, list) and all(_fits(inner, kind[0]) for inner in value)
    if isinstance(kind, tuple):
        return isinstance(value, dict) and all(_fits(inner, kind[0]) for inner in value.values())
    if kind is str:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return False
    return abs(value) < 1 << 53 if isinstance(value, int) else math.isfinite(value)


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged ({error}); {AGAIN}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: damaged (no JSON object); {AGAIN}")
    return value


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise DataError(f"{path}: missing; {AGAIN}")
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: larger than any file of a run; {AGAIN}")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {AGAIN}") from error


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        if not path.is_file():
            raise DataError(f"{path}: missing; {AGAIN}")
        return load_file(path)
    except DataError:
        raise
    except Exception as error:  # safetensors has its own kinds
        raise DataError(f"{path}: damaged ({error}); {AGAIN}") from error
