"""What a finished run predicts for any clips: its model over a feature file, or over frames. No label of theirs is read."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from cia_extract import __version__
from cia_extract.common import spreadsheets, writes
from cia_extract.common.console import Say
from cia_extract.common.differences import listed
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.suggest import did_you_mean
from cia_extract.features import DatasetFeatures, differences, written

from cia_adapt import footage, runs
from cia_adapt.config import splits
from cia_adapt.data import Clips, Domain, Stores, arrays_to_read, find_domains, sizes_of
from cia_adapt.footage import Footage
from cia_adapt.model import restored
from cia_adapt.results.feature_file import filmed, own_clips
from cia_adapt.runs import files
from cia_adapt.training import predict

Epoch = Literal["selected", "last"]

OF_A_DATASET = {"dataset", "manifest_sha256", "imported_from", "modalities"}
"""Fields of a provenance in which two datasets differ that were extracted in the same way."""


@dataclass(frozen=True)
class Asked:
    """Which clips to predict, by which of a run's models, and where it computes."""

    features: Path | None = None
    """The feature file; None: the run's own."""
    mapping: tuple[str, ...] = ()
    """`--map` entries of a foreign file."""
    footage: Footage | None = None
    """Clips, for a run that trained its backbone; None: the run's own."""
    dataset: str | None = None
    """A domain or a dataset of the file; None: the run's target, or the only one of the file."""
    split: str = splits.ALL
    """A split of it, or all."""
    epoch: Epoch = "selected"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"


@dataclass(frozen=True)
class Scores:
    """The probabilities that a model gives to N clips."""

    clips: tuple[str, ...]
    """Their ids."""
    classes: Mapping[str, tuple[str, ...]]
    """{label column: names of its K classes}."""
    probabilities: Mapping[str, npt.NDArray[np.float32]]
    """{label column: [N, K]}; each row sums to 1."""
    not_extracted: tuple[str, ...] = ()
    """Ids of clips that were asked for and have no features yet."""

    @property
    def table(self) -> pd.DataFrame:
        """A row for each clip: clip; of each label the likeliest class and its probability; every class as label=class."""
        columns = list(self.classes)
        table: dict[str, Sequence[str] | npt.NDArray[Any]] = {"clip": self.clips}
        for column in columns:
            name, p = shown_label(column, columns), self.probabilities[column]
            table[name] = np.array(self.classes[column], dtype=object)[p.argmax(1)]
            table[f"{name}_score"] = p.max(1)
        for column in columns:
            scores = self.probabilities[column].T
            table |= {f"{shown_label(column, columns)}={label}": p for label, p in zip(self.classes[column], scores, strict=True)}
        return pd.DataFrame(table)


def shown_label(column: str, columns: Sequence[str]) -> str:
    """A label column's heading. Of two columns `label` is EPIC-KITCHENS-100's verb.

    >>> shown_label("label", ["label", "noun"]), shown_label("label", ["label"])
    ('verb', 'label')
    """
    return "verb" if column == "label" and len(columns) > 1 else column


def scores_of(folder: Path, asked: Asked, say: Say) -> Scores:
    """What the run in `folder` predicts.

    Raises UsageError for a dataset, split or file that is not there, DataError where the features do not fit the run's model.
    """
    config = files.read_config(folder)
    setup, method = runs.setup_of(config, folder), runs.method_of(config, folder)
    classes = {column: tuple(names) for column, names in config.get("classes", {}).items()}
    if not classes:
        raise DataError(f"{folder}/config.json: names no classes; {files.AGAIN}")
    on_clips = setup.input == "clips"
    clips_of = (_filmed if on_clips else _extracted)(folder, asked, config["target"], say)
    path = clips_of.dataset.path
    rows = clips_of.split(asked.split, "--split")
    arrays = arrays_to_read(clips_of, clips_of, config["modalities"], method.needs_maps)
    if clips_of.dataset.frames < setup.segments:
        say(f"note: {path}: has {clips_of.dataset.frames} frames a clip, and the run reads {setup.segments}; they repeat")
    sizes = sizes_of(clips_of, arrays, setup, [len(names) for names in classes.values()], len(rows))
    trunk = footage.unfilled(setup, config["modalities"]) if on_clips else None
    try:
        model = restored(method, sizes, files.load_model(folder, asked.epoch), trunk)
    except RuntimeError as error:
        shapes = ", ".join(f"{name} {clips_of.dataset.regions[name].shape[2:]}" for name in arrays.values())
        raise DataError(
            f"{folder}: its model does not fit {shapes} of {path}; give features like those of its training"
        ) from error
    clips = Clips(clips_of.dataset, rows, arrays, Stores(asked.device, "map"), rows)
    prediction = predict(model.to(asked.device), clips, setup.segments, asked.device, asked.precision, setup.test_clips)
    probabilities = {column: p.numpy() for column, p in zip(classes, prediction.probabilities, strict=True)}
    return Scores(tuple(clips.names), classes, probabilities, _not_extracted(clips_of, asked.split))


def _extracted(folder: Path, asked: Asked, target: str, say: Say) -> Domain:
    """The clips of the feature file that a run over features, adapted to `target`, is asked for. Raises UsageError, DataError."""
    if asked.footage is not None:
        raise UsageError(f"{folder}: trained on features; describe the clips with cia-extract, and name the file with --features")
    trained_on = Path(files.read_stamp(folder)["feature_file"])
    path = asked.features or trained_on
    if asked.features is None and not path.exists():
        raise UsageError(f"{folder}: its feature file {path} is no longer there; name one with --features")
    domain = chosen_domain(find_domains(path, asked.mapping), path, asked.dataset, target)
    if asked.features is not None:
        _note_recipe(domain, path, trained_on, target, say)
    return domain


def _filmed(folder: Path, asked: Asked, target: str, say: Say) -> Domain:
    """The clips that a run which trained its backbone is asked for: its own from its cache, others decoded.

    Raises UsageError, DataError, MismatchError.
    """
    if asked.features is not None:
        raise UsageError(f"{folder}: trained its backbone and sees frames; give --clips MANIFEST in place of --features")
    clips = own_clips(files.read_stamp(folder), "cached") if asked.footage is None else [asked.footage]
    if not clips:
        raise UsageError(f"{folder}: does not say where its clips are; name them with --clips")
    return chosen_domain(filmed(folder, clips, say), clips[0].cache, asked.dataset, target)


def chosen_domain(domains: Mapping[str, Domain], path: Path, name: str | None, default: str) -> Domain:
    """The domain of that name, or all clips of the dataset of that name. Raises UsageError.

    Args:
        domains: those of the file at `path`.
        default: the domain to take where `name` is None and the file has it.
    """
    if name is None:
        if default not in domains and len(domains) > 1:
            raise UsageError(f"--dataset is missing: {path} has no {default}; choose from {', '.join(domains)}")
        name = default if default in domains else next(iter(domains))
    if name in domains:
        return domains[name]
    parts = [domain for domain in domains.values() if domain.dataset.name == name]
    if not parts:
        known = list(dict.fromkeys([*domains, *(domain.dataset.name for domain in domains.values())]))
        raise UsageError(f"--dataset {name}: not in {path}, which has {', '.join(known)}{did_you_mean(name, known)}")
    return Domain(name, parts[0].dataset, np.sort(np.concatenate([part.rows for part in parts])))


def _not_extracted(domain: Domain, split: str) -> tuple[str, ...]:
    """Ids of the clips of a domain's split without features, where the file lists such."""
    columns = domain.dataset.columns
    wanted = ~domain.dataset.done()
    if "domain" in columns:
        wanted &= np.isin(columns["domain"], list(set(columns["domain"][domain.rows].tolist())))
    if split != splits.ALL:
        wanted &= columns["split"] == split
    return tuple(str(clip) for clip in columns["clip"][wanted])


def _note_recipe(predicted: Domain, path: Path, trained_on: Path, target: str, say: Say) -> None:
    """Say so where the features are made otherwise than those that the run was trained on, as far as that can be known."""
    if not trained_on.exists():
        return
    try:
        before = find_domains(trained_on).get(target)
    except DataError:  # it is no longer what it was; the run's model is
        return
    both = [domain.dataset for domain in (before, predicted) if domain is not None]
    provenances = [
        {key: value for key, value in dataset.provenance.items() if key not in OF_A_DATASET}
        for dataset in both
        if isinstance(dataset, DatasetFeatures)
    ]
    if len(provenances) == 2 and (differing := differences(*provenances)):
        say(
            f"note: {path}: '{predicted.name}' was extracted otherwise than the features that the run was trained on "
            f"({listed(differing)}); its predictions mean little"
        )


# --- files --------------------------------------------------------------------------------------------------------------


def write(path: Path, scores: Scores, origin: Mapping[str, Any]) -> None:
    """Write scores as .csv or .h5, by the name's ending, whole or not at all. `origin` says whose they are. Raises UsageError."""
    check_out(path)
    with writes.translated(f"--out {path}", "choose another file"), writes.whole(path) as part:
        (_write_csv if path.suffix == ".csv" else _write_h5)(part, scores, origin)


def check_out(path: Path) -> None:
    """Raise UsageError unless scores can be written to `path`, as far as its name tells."""
    if path.suffix not in (".csv", ".h5"):
        raise UsageError(f"--out {path}: give it the ending .h5 or .csv")
    if path.is_dir():
        raise UsageError(f"--out {path}: is a folder; name a file in it")


def _write_csv(part: Path, scores: Scores, _: Mapping[str, Any]) -> None:
    table = scores.table
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(spreadsheets.cell, table.columns))
        for row in table.itertuples(index=False, name=None):
            writer.writerow(f"{value:.6g}" if isinstance(value, float) else spreadsheets.cell(value) for value in row)


def _write_h5(part: Path, scores: Scores, origin: Mapping[str, Any]) -> None:
    """clip [N]; of each label a group with classes [K], scores [N, K] float32 and predicted [N], the number of the likeliest."""
    text, columns = h5py.string_dtype("utf-8"), list(scores.classes)
    with written(part) as file:
        file.attrs["created_by"] = f"cia-adapt {__version__}"
        file.attrs["origin"] = json.dumps(origin)
        file.create_dataset("clip", data=np.array(scores.clips, dtype=object), dtype=text)
        for column in columns:
            group, p = file.create_group(shown_label(column, columns)), scores.probabilities[column]
            group.create_dataset("classes", data=np.array(scores.classes[column], dtype=object), dtype=text)
            group.create_dataset("scores", data=p)
            group.create_dataset("predicted", data=p.argmax(1).astype(np.int32))
