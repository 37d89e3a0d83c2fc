"""Reading the files of runs. They may be damaged, of another version, or somebody else's; whatever is wrong is one DataError."""

import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from cia_extract.common import sparse_files, spreadsheets, text_files
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.json_objects import json_object
from safetensors.torch import load_file

import cia_adapt.runs.checksums as checksums

MOST_BYTES: Final = 256 << 20  # of a text file of a run; a run of 10,000 epochs has 10 MB
MOST_JSON: Final = 8 << 20  # bytes of a JSON file of a run, parsed whole; E100's have 20 KB, and MOST_CLASSES names fit
MOST_VALUES: Final = 6_000_000  # of a JSON file of a run; 100,000 epochs with 50 metrics have 5 million
MOST_EPOCHS: Final = 100_000  # as --epochs
MOST_CLIPS: Final = 2_000_000  # in predictions.csv, read whole: of the target's validation
MOST_CLASSES: Final = 100_000  # of all label columns of a run; EPIC-KITCHENS-100 has 397
LONGEST_CLASS: Final = 1000  # characters of a class's name
AGAIN: Final = "train the run again with --overwrite, or leave it out"  # how the messages of this file end

# The fields that commands read, and their types. [type] is a list of that type, (type,) an object with values of that type.
IF_LABELLED: Final = float | None  # an accuracy on the target: null where its clips have no labels
RESULT: Final = {
    **dict.fromkeys(("source", "target", "method", "setup"), str),
    **dict.fromkeys(("last", "selected", "oracle"), IF_LABELLED),
    "source_val": float,
    **dict.fromkeys(("seed", "target_val_clips"), int),
}
CONFIG: Final = {
    **dict.fromkeys(("source", "target", "features", "precision"), str),
    "seed": int,
    "modalities": [str],
    "setup": {"name": str, "epochs": int, "segments": int},
    "method": {"name": str, "paper": str, "reconstructed": str, "pooling": str, "published": (float,)},
}
# Those that a method's dataclass has a default for, where the file has them.
PARTS: Final = {"refinement": str, "temporal": str, "objectives": [str], "options": ({},), "searched": (str,)}
SEARCHED: Final = dict.fromkeys(("trial", "by", "settings"), str)  # of the winner of a search
STAMP: Final = {"feature_file": str, "device": str}
OF_CLIPS: Final = {"clips": [dict.fromkeys(("clips", "root", "frame_cache", "flow"), str)]}  # of a run that trained on clips
METRICS: Final = {"source_val_accuracy": float, "target_val_accuracy": IF_LABELLED}
WITH_SOURCE: Final = METRICS | {"class_loss": float}


def find(paths: Sequence[Path]) -> list[Path]:
    """The folders of all finished runs at or below `paths`, sorted. Raises UsageError where there is none."""
    try:
        folders = sorted({done.parent for path in paths for done in path.glob("**/done") if not done.parent.name.startswith(".")})
    except OSError as error:
        raise UsageError(f"{', '.join(map(str, paths))}: {error.strerror or error}") from error
    if not folders:
        raise UsageError(f"no finished run in {', '.join(map(str, paths))}; train one with cia-adapt --features feats.h5")
    return folders


def find_one(path: Path) -> Path:
    """The folder of the one finished run at or below `path`. Raises UsageError where there are several or none."""
    folders = find([path])
    if len(folders) > 1:
        raise UsageError(f"{path}: holds {len(folders)} runs; name one, such as {folders[0]}")
    return folders[0]


def read(folder: Path) -> dict[str, Any]:
    """result.json of a finished run, as `writing.result_of` gives it: accuracies in %. Raises DataError."""
    result = read_json(folder / "result.json")
    check(folder / "result.json", result, RESULT)
    if len({result[name] is None for name in ("last", "selected", "oracle")}) > 1:  # all are null where the target has no labels
        raise DataError(f"{folder / 'result.json'}: lacks some accuracies on the target and has others; {AGAIN}")
    if not isinstance(result.get("advice") or "", str):
        raise DataError(f"{folder / 'result.json'}: 'advice' is not text; {AGAIN}")
    return result


def read_config(folder: Path) -> dict[str, Any]:
    """config.json: the fields of a run's `RunKey`, and of a finished run `classes`, {label column: names}. Raises DataError."""
    path = folder / "config.json"
    config = read_json(path)
    check(path, config, CONFIG)
    if "classes" in config:
        check(path, config, {"classes": ([str],)})
        _check_classes(path, config["classes"])
    method = {f"method.{name}": value for name, value in config["method"].items()}
    check(path, method, {f"method.{name}": kind for name, kind in PARTS.items() if f"method.{name}" in method})
    if method.get("method.searched"):
        check(path, method, {"method.searched": SEARCHED})
    return config


def _check_classes(path: Path, classes: Mapping[str, Sequence[str]]) -> None:
    """Raise DataError for a label column without classes, and for so many or so long names that they are not those of a run."""
    if any(not names for names in classes.values()):
        raise DataError(f"{path}: 'classes' has a label column without classes; {AGAIN}")
    if sum(map(len, classes.values())) > MOST_CLASSES:
        raise DataError(f"{path}: 'classes' has more than {MOST_CLASSES:,} names; {AGAIN}")
    if any(len(name) > LONGEST_CLASS for column, names in classes.items() for name in (column, *names)):
        raise DataError(f"{path}: 'classes' has a name of more than {LONGEST_CLASS:,} characters; {AGAIN}")


def read_stamp(folder: Path) -> dict[str, Any]:
    """stamp.json: the circumstances of a finished run, such as its feature file and device. Raises DataError."""
    stamp = read_json(folder / "stamp.json")
    check(folder / "stamp.json", stamp, STAMP)
    if "clips" in stamp:
        check(folder / "stamp.json", stamp, OF_CLIPS)
    return stamp


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl: the metrics of each epoch, in order. Raises DataError."""
    path = folder / "metrics.jsonl"
    text, history = _text(path), []
    _check_values(path, text)
    for number, line in enumerate(re.finditer(r"[^\n]*\n|[^\n]+", text), 1):
        if number > MOST_EPOCHS:
            raise DataError(f"{path}: has more than {MOST_EPOCHS:,} lines, one an epoch; {AGAIN}")
        metrics = json_object(line[0], f"{path}: line {number}", AGAIN)
        check_metrics(path, metrics)
        wrong = [k for k, v in metrics.items() if k != "advice" and not isinstance(v, int | float | None)]
        if wrong:
            raise DataError(f"{path}: '{wrong[0]}' is not a number; {AGAIN}")
        history.append({sys.intern(key): value for key, value in metrics.items()})  # the names once, not each epoch
    if not history:
        raise DataError(f"{path}: empty; {AGAIN}")
    return history


def check_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Raise DataError where an epoch's metrics lack what commands read; there is no class loss after the source has been left."""
    check(path, metrics, METRICS if metrics.get("source_free") else WITH_SOURCE)


def read_predictions(folder: Path) -> list[dict[str, str]]:
    """predictions.csv: a row for each target validation clip, as it was before spreadsheets.cell. Raises DataError."""
    path = folder / "predictions.csv"
    text, header = _text(path), list[str]()
    rows: list[dict[str, str]] = []
    if text.count("\n") + text.count("\r") > MOST_CLIPS:
        raise DataError(f"{path}: has more than {MOST_CLIPS:,} lines; {AGAIN}")
    for _, cells in text_files.table(path, text, "CSV", AGAIN):
        cells = list(map(spreadsheets.plain, cells))
        if not header:
            header = cells
            _check_header(path, header)
        elif len(cells) != len(header):
            raise DataError(f"{path}: damaged (rows of different lengths); {AGAIN}")
        else:
            rows.append(dict(zip(header, cells, strict=True)))
    if not rows:
        raise DataError(f"{path}: damaged (no rows); {AGAIN}")
    return rows


def _check_header(path: Path, header: Sequence[str]) -> None:
    """Raise DataError where predictions.csv has other columns than `writing` gives it: a clip, and three a label."""
    labels = header[1::3]
    columns = [f"{label}_{epoch}" if len(labels) > 1 else epoch for label in labels for epoch in ("", "last", "selected")]
    columns[::3] = labels
    if list(header) != ["clip", *columns] or not labels or len(set(header)) < len(header):
        raise DataError(f"{path}: damaged (its columns are not clip, and a label with its last and selected); {AGAIN}")


def values(text: str | bytes) -> int:
    """Commas and opening brackets of a JSON text: about as many as it has values, each of about 100 bytes once it is parsed.

    >>> values('{"epoch": 1, "advice": ""}'), values(b"[[], []]")
    (2, 4)
    """
    if isinstance(text, str):
        return sum(map(text.count, ",[{"))
    return sum(map(text.count, (b",", b"[", b"{")))


def _check_values(path: Path, text: str) -> None:
    """Raise DataError where a JSON text has so many values that it is not a run's."""
    if values(text) > MOST_VALUES:
        raise DataError(f"{path}: has more than {MOST_VALUES:,} values, more than a run's; {AGAIN}")


def load_model(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The state dict of the model `name`, "last" or "selected". Raises DataError."""
    return _tensors(folder / f"{name}.safetensors")


def load_scores(folder: Path) -> dict[str, torch.Tensor]:
    """scores.safetensors: class probabilities, and the clips' features of both domains, [N_s, D] and [N_t, D], all finite.

    Raises DataError.
    """
    path = folder / "scores.safetensors"
    scores = _tensors(path)
    both = [scores.get(f"selected/{domain}_features") for domain in ("source", "target")]
    for features in both:
        if features is None or features.ndim != 2 or not features.is_floating_point() or 0 in features.shape:
            raise DataError(f"{path}: has no features of both domains' clips; {AGAIN}")
        if not torch.isfinite(features).all():
            raise DataError(f"{path}: has features that are not finite; {AGAIN}")
    if both[0].shape[1] != both[1].shape[1]:  # type: ignore[union-attr]
        raise DataError(f"{path}: the domains' features have different widths; {AGAIN}")
    return scores


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a run. Raises DataError."""
    return json_object(_text(path, MOST_JSON), f"{path}:", AGAIN)


def check(path: Path, value: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise DataError where one of `fields`, {name: type}, is missing or has another type in `value`. Numbers must be finite."""
    for name, kind in fields.items():
        if name not in value:
            raise DataError(f"{path}: '{name}' is missing; the file is damaged or of another version; {AGAIN}")
        if not _fits(value[name], kind):
            raise DataError(f"{path}: '{name}' has a wrong value; the file is damaged or of another version; {AGAIN}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value out of JSON has the type `kind`, written as in `CONFIG`."""
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(name in value and _fits(value[name], inner) for name, inner in kind.items())
    if isinstance(kind, list):
        return isinstance(value, list) and all(_fits(inner, kind[0]) for inner in value)
    if isinstance(kind, tuple):
        return isinstance(value, dict) and all(_fits(inner, kind[0]) for inner in value.values())
    if kind == IF_LABELLED:
        return value is None or _fits(value, float)
    if kind is str:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return False
    return abs(value) < 1 << 53 if isinstance(value, int) else math.isfinite(value)


def _text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a run's file of at most so many bytes. Raises DataError."""
    try:
        _check_file(path)
        if path.stat().st_size > most:
            raise DataError(f"{path}: larger than a run's {path.name} can be, {most >> 20} MiB; {AGAIN}")
        checksums.check(path)
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {AGAIN}") from error


def _check_file(path: Path) -> None:
    """Raise DataError where no regular file lies at `path`, or one that is almost all hole. Raises OSError."""
    if not path.is_file():  # a pipe would be waited for
        raise DataError(f"{path}: {'is no file' if path.exists() else 'missing'}; {AGAIN}")
    try:
        sparse_files.check(path)
    except DataError as error:
        raise DataError(f"{path}: {error}; {AGAIN}") from error


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's safetensors file. Raises DataError."""
    try:
        _check_file(path)
        checksums.check(path)
        return load_file(path)
    except DataError:
        raise
    except Exception as error:  # safetensors has its own kinds
        raise DataError(f"{path}: damaged ({error}); {AGAIN}") from error
