"""`cia-adapt check`: what may be wrong with features before anything is trained on them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from cia_extract import manifest

from cia_adapt import label_sets, splits
from cia_adapt.data import Dataset, Domain, find_domains
from cia_adapt.relabel import parse

SHOWN: Final = 3  # clip ids in a message


@dataclass(frozen=True)
class Finding:
    """A fault spoils results; a note is worth knowing."""

    severity: Literal["fault", "note"]
    domain: str
    message: str


@dataclass(frozen=True)
class Protocol:
    """Which clips train and are evaluated, and the label columns: what `--train-split`, `--val-split` and `--labels` say."""

    train_splits: frozenset[str] = frozenset({"train"})
    """Each must have clips."""
    val_splits: frozenset[str] = frozenset()
    """Likewise; empty: val or test."""
    labels: tuple[str, ...] = ("label",)

    @classmethod
    def of(cls, train: str, val: str | None, labels: str) -> "Protocol":
        """From the values of the flags. Raises UsageError."""
        trains = splits.merged("--train-split", "train", train)
        vals = "" if val is None else splits.merged("--val-split", val if "=" not in val else "val", val)
        names = [
            frozenset(splits.of_role(value, role) for role in splits.ROLES) if value else frozenset() for value in (trains, vals)
        ]
        return cls(names[0], names[1], tuple(column.strip() for column in labels.split(",")))


def check(path: Path, mapping: Sequence[str], manifests: Sequence[str], protocol: Protocol = Protocol()) -> list[Finding]:
    """Read every finished row once. `manifests`: `[DOMAIN=]FILE` of the clips that should be there. Raises UsageError,
    DataError.
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
    for entry in entries:
        chosen, path = parse(entry, domains)
        expected = set(manifest.read(path).columns["clip"])
        have = {str(clip) for n in chosen for clip in domains[n].dataset.columns["clip"][domains[n].rows]}
        where = ", ".join(chosen)
        if expected - have:
            yield Finding("fault", where, f"{len(expected - have)} clips of {path} are missing: {_some(expected - have)}")
        if have - expected:
            yield Finding("note", where, f"{len(have - expected)} clips are not in {path}: {_some(have - expected)}")


def _splits(name: str, domain: Domain, protocol: Protocol) -> Iterator[Finding]:
    have = sorted(set(domain.split_names.tolist()) - {""})
    missing = [split for split in sorted(protocol.train_splits | protocol.val_splits) if split not in (*have, splits.ALL)]
    if not protocol.val_splits and not {"val", "test"} & set(have):
        missing.append("val")
    if missing:
        yield Finding(
            "fault",
            name,
            f"splits are {', '.join(have) or 'none'}; adaptation needs {' and '.join(missing)}: put clips into it with a "
            "--manifest, or give --train-split and --val-split other names, or all for every clip",
        )


def _classes(domains: Mapping[str, Domain], column: str) -> Iterator[Finding]:
    """Classes that one domain has and another lacks, and classes of one domain that look like one class."""
    classes = {name: domain.classes(domain.rows, column) for name, domain in domains.items()}
    for name, names in classes.items():
        for line in label_sets.variants(names):
            yield Finding("note", name, f"{column}: the classes {line}; is it one class?")
    for first, second in combinations(classes, 2):
        compared = label_sets.compare(first, classes[first], second, classes[second])
        if compared.same or not classes[first] or not classes[second]:
            continue
        certain = compared.cause or not compared.shared
        yield Finding("fault" if certain else "note", f"{first}, {second}", f"{column}: the classes differ: {compared.text}")


def _columns(name: str, domain: Domain) -> Iterator[Finding]:
    dataset, rows = domain.dataset, domain.rows
    unfinished = int((~dataset.done()).sum())
    if unfinished:
        yield Finding("note", name, f"{unfinished} clips of '{dataset.name}' are not extracted and left out")
    clips = [str(clip) for clip in dataset.columns["clip"][rows]]
    twice = {clip for clip in clips if clips.count(clip) > 1} if len(set(clips)) < len(clips) else set()
    if twice:
        yield Finding("fault", name, f"{len(twice)} clip ids occur twice: {_some(twice)}")
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


def _values(name: str, domain: Domain) -> Iterator[Finding]:
    """NaN and infinity, frames of zeros, clips with the same features, types."""
    dataset = domain.dataset
    for array_name in sorted(r for r in dataset.regions if r.split("/")[-1] in ("maps", "pooled")):
        array = dataset.array(array_name)
        if array.dtype not in (np.float16, np.float32):
            yield Finding("note", name, f"{array_name} is {array.dtype}; float16 or float32 is enough")
        masked = _silent(dataset, array_name)
        broken, empty, same = [], [], defaultdict(list)
        for row in domain.rows.tolist():
            values, clip = np.asarray(array[row]), str(dataset.columns["clip"][row])
            if not np.isfinite(values).all():
                broken.append(clip)
            zero = ~values.reshape(len(values), -1).any(1)
            if (zero & ~masked[row]).any() if masked is not None else zero.any():
                empty.append(clip)
            elif values.any():
                same[hashlib.sha256(values.tobytes()).digest()].append(clip)
        alike = [clips for clips in same.values() if len(clips) > 1]
        if broken:
            yield Finding("fault", name, f"{array_name}: {len(broken)} clips have values that are not finite: {_some(broken)}")
        if empty:
            yield Finding("fault", name, f"{array_name}: {len(empty)} clips have frames of zeros only: {_some(empty)}")
        if alike:
            yield Finding(
                "note",
                name,
                f"{array_name}: {len(alike)} groups of clips have equal features, such as {', '.join(alike[0][:SHOWN])}",
            )


def _silent(dataset: Dataset, array_name: str) -> Any:
    """[N, T] where sound is known to be missing, and zeros are right."""
    mask = array_name.replace("/pooled", "/mask")
    return np.asarray(dataset.array(mask)) == 0 if array_name.startswith("audio/") and mask in dataset.regions else None


def _some(clips: Any) -> str:
    listed = sorted(clips)
    return ", ".join(listed[:SHOWN]) + (", …" if len(listed) > SHOWN else "")
