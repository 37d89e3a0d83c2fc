"""`cia-adapt check`: read a whole feature file and report what would spoil or disturb training on it."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from cia_extract.datasets import manifest
from cia_extract.features import DatasetFeatures

import cia_adapt.data.label_sets as label_sets
from cia_adapt.config import splits
from cia_adapt.data.domains import Domain, find_domains
from cia_adapt.data.relabel import parse

SHOWN: Final = 3  # clip ids in a message


@dataclass(frozen=True)
class Finding:
    """One line of `cia-adapt check`."""

    severity: Literal["fault", "note"]
    """A fault spoils results; a note is worth knowing."""
    domain: str
    """Name of the domain that it concerns, or names, separated by commas."""
    message: str
    """What is wrong and, where it is not plain, how to fix it."""


@dataclass(frozen=True)
class Protocol:
    """Which clips train, which are evaluated, and by which labels: `--train-split`, `--val-split` and `--labels`."""

    train_splits: frozenset[str] = frozenset({"train"})
    """Names of the splits that train; each must have clips in every domain."""
    val_splits: frozenset[str] = frozenset()
    """Names of the splits that are evaluated; each must have clips in every domain. Empty: val or test must have."""
    labels: tuple[str, ...] = ("label",)
    """Names of the label columns."""

    @classmethod
    def of(cls, train: str, val: str | None, labels: str) -> "Protocol":
        """From the values of the three flags (`val` None: not given). Raises UsageError for a value that cannot be read."""
        trains = splits.merged("--train-split", "train", train)
        vals = "" if val is None else splits.merged("--val-split", val if "=" not in val else "val", val)
        names = [
            frozenset(splits.of_role(value, role) for role in splits.ROLES) if value else frozenset() for value in (trains, vals)
        ]
        return cls(names[0], names[1], tuple(column.strip() for column in labels.split(",")))


def check(path: Path, mapping: Sequence[str], manifests: Sequence[str], protocol: Protocol = Protocol()) -> list[Finding]:
    """Read every finished row of a feature file once and return what is wrong, domain by domain.

    Args:
        path: the feature file.
        mapping: `--map` entries that name the arrays of a foreign file (`foreign.parse`).
        manifests: `[DOMAIN=]FILE` entries, manifests of the clips that a domain should have.

    Raises:
        UsageError: a mapping or manifest does not fit the file.
        DataError: the file or a manifest cannot be read.
    """
    domains = find_domains(path, mapping)
    findings = list(_against_manifests(domains, manifests))
    for column in protocol.labels:
        findings += _classes(domains, column)
    for name, domain in domains.items():
        findings += _splits(name, domain, protocol)
        findings += _columns(name, domain)
        findings += _values(name, domain)
    return findings


def _against_manifests(domains: Mapping[str, Domain], entries: Sequence[str]) -> Iterator[Finding]:
    """Clips of a manifest that its domains lack, and clips of the domains that it does not list."""
    for entry in entries:
        names, path = parse(entry, domains)
        expected = set(manifest.read(path, needs_path=False).columns["clip"])
        have = {str(clip) for name in names for clip in domains[name].dataset.columns["clip"][domains[name].rows]}
        where = ", ".join(names)
        if expected - have:
            yield Finding("fault", where, f"{len(expected - have)} clips of {path} are missing: {_some(expected - have)}")
        if have - expected:
            yield Finding("note", where, f"{len(have - expected)} clips are not in {path}: {_some(have - expected)}")


def _splits(name: str, domain: Domain, protocol: Protocol) -> Iterator[Finding]:
    """Splits of the protocol without clips."""
    have = sorted(set(domain.split_names.tolist()) - {""})
    missing = [split for split in sorted(protocol.train_splits | protocol.val_splits) if split not in (*have, splits.ALL)]
    if not protocol.val_splits and not {"val", "test"} & set(have):
        missing.append("val")
    if missing:
        yield Finding(
            "fault",
            name,
            f"splits are {', '.join(have) or 'none'}; adaptation needs {' and '.join(missing)}: put clips into it with a "
            "--manifest, or name other splits with --train-split and --val-split (all: every clip)",
        )


def _classes(domains: Mapping[str, Domain], column: str) -> Iterator[Finding]:
    """Classes that one domain has and another lacks, and classes of one domain that look like one class."""
    classes = {name: domain.classes(domain.rows, column) for name, domain in domains.items()}
    for name, names in classes.items():
        for line in label_sets.variants(names):
            yield Finding("note", name, f"{column}: the classes {line}; are they one class?")
    for first, second in combinations(classes, 2):
        compared = label_sets.compare(first, classes[first], second, classes[second])
        if compared.same or not classes[first] or not classes[second]:
            continue
        certain = compared.cause or not compared.shared
        yield Finding("fault" if certain else "note", f"{first}, {second}", f"{column}: the classes differ: {compared.text}")


def _columns(name: str, domain: Domain) -> Iterator[Finding]:
    """What the columns say: clips that are unfinished, listed twice, without a label, or shorter than the frames described."""
    dataset, rows = domain.dataset, domain.rows
    unfinished = int((~dataset.done()).sum())
    if unfinished:
        yield Finding("note", name, f"{unfinished} clips of '{dataset.name}' are not extracted yet and are left out")
    clips = [str(clip) for clip in dataset.columns["clip"][rows]]
    repeated = [clip for clip, count in Counter(clips).items() if count > 1]
    if repeated:
        yield Finding("fault", name, f"{len(repeated)} clip ids occur twice: {_some(repeated)}")
    unlabelled = [c for c, label in zip(clips, dataset.columns["label"][rows], strict=True) if not label]
    if unlabelled:
        yield Finding("note", name, f"{len(unlabelled)} clips have no label: {_some(unlabelled)}")
    if "clips/n_frames" in dataset.regions:
        lengths = np.asarray(dataset.array("clips/n_frames"))[rows]
        short = [clip for clip, length in zip(clips, lengths, strict=True) if 0 < length < dataset.frames]
        if short:
            yield Finding(
                "note", name, f"{len(short)} clips are shorter than {dataset.frames} frames, which repeat: {_some(short)}"
            )


@dataclass
class _Tally:
    """Clip ids with something wrong in one array."""

    infinite: list[str] = field(default_factory=list)
    """Clips with NaN or infinity."""
    empty: list[str] = field(default_factory=list)
    """Clips with a frame of zeros that is not silence."""
    same: dict[bytes, list[str]] = field(default_factory=lambda: defaultdict(list))
    """{SHA-256 of the values: clips that have them}."""

    def add(self, clip: str, values: npt.NDArray[Any], silent: Any) -> None:
        """Count in the values [T, …] of a clip; where `silent` [T] is true, zeros are right."""
        if not np.isfinite(values).all():
            self.infinite.append(clip)
        if (~values.reshape(len(values), -1).any(1) & ~silent).any():
            self.empty.append(clip)
        elif values.any():
            self.same[hashlib.sha256(values.tobytes()).digest()].append(clip)


def _values(name: str, domain: Domain) -> Iterator[Finding]:
    """What the features themselves show: checksums that do not match, and for each array what `_findings` reports."""
    dataset = domain.dataset
    for modality in dataset.modalities:
        damaged: list[str] = []
        tallies: dict[str, _Tally] = defaultdict(_Tally)
        for row, arrays, mismatch in _rows(domain, modality):
            clip, mask = str(dataset.columns["clip"][row]), arrays.pop("mask", None)
            if mismatch:
                damaged.append(clip)
            for kind, values in arrays.items():
                tallies[f"{modality}/{kind}"].add(clip, values, mask == 0 if mask is not None else np.bool_(False))
        if damaged:
            yield Finding(
                "fault",
                name,
                f"{modality}: {len(damaged)} clips do not match their checksums: {_some(damaged)}; reset them with "
                "cia-extract verify --redo, then extract them again",
            )
        for array_name, tally in sorted(tallies.items()):
            yield from _findings(name, array_name, dataset.regions[array_name].dtype, tally)


def _rows(domain: Domain, modality: str) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]], str]]:
    """(row, {array: values [T, …]}, how it differs from what was written or "") of each finished row, read once."""
    dataset = domain.dataset
    if isinstance(dataset, DatasetFeatures):
        with open(dataset.path, "rb") as file:
            for row in domain.rows.tolist():
                arrays = dataset.row(row, modality, file.fileno())
                fault = dataset.mismatch(row, modality, arrays, file.fileno()) or dataset.clip_fault(row, file.fileno())
                yield row, arrays, fault
        return
    kinds = [kind for kind in ("maps", "pooled") if f"{modality}/{kind}" in dataset.regions]
    for row in domain.rows.tolist():
        yield row, {kind: np.asarray(dataset.array(f"{modality}/{kind}")[row]) for kind in kinds}, ""


def _findings(name: str, array_name: str, dtype: Any, tally: _Tally) -> Iterator[Finding]:
    """An array's type, NaN and infinity, frames of zeros, and clips with equal features."""
    if dtype not in (np.float16, np.float32):
        yield Finding("note", name, f"{array_name} is {dtype}; float16 or float32 is enough")
    for clips, fault in ((tally.infinite, "values that are not finite"), (tally.empty, "frames of zeros only")):
        if clips:
            yield Finding("fault", name, f"{array_name}: {len(clips)} clips have {fault}: {_some(clips)}")
    alike = [clips for clips in tally.same.values() if len(clips) > 1]
    if alike:
        groups = f"{len(alike)} groups of clips have equal features"
        yield Finding("note", name, f"{array_name}: {groups}, such as {', '.join(alike[0][:SHOWN])}")


def _some(clips: Any) -> str:
    """The first clip ids, for a message."""
    listed = sorted(clips)
    return ", ".join(listed[:SHOWN]) + (", …" if len(listed) > SHOWN else "")
