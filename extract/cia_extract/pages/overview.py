"""A feature file at a glance: coverage, outcomes, failed clips, ranges of values, dead channels, nearest clips across domains.

Memory stays bounded: of each domain at most `MOST_CLIPS` clips are read, one at a time, and of each a vector is kept.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

import cia_extract.pages.html as html
from cia_extract.common.console import Say
from cia_extract.features import FAILED, DatasetFeatures, failures, open_features, row_bytes

MOST_CLIPS: Final = 4000  # of a domain, drawn at random where it has more: 33 MB of vectors for two modalities
MOST_MAPS: Final = 40  # clips of a domain whose maps are read
MOST_LINES: Final = 200  # of a table
NEAREST: Final = 10
BLOCK: Final = 512  # clips whose similarities are computed at a time

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Domain:
    """The clips of one domain: a dataset, or one value of its column `domain`."""

    name: str
    dataset: DatasetFeatures
    rows: Rows
    """All of them."""
    done: Rows
    """Those whose modalities are all finished."""


@dataclass(frozen=True)
class Coverage:
    """Clips of each class by split."""

    splits: list[str]
    rows: list[tuple[str, list[str]]]
    """(class, clips in each split: "12", or "10 of 12" where some are not finished)."""


@dataclass(frozen=True)
class Values:
    """Vectors of one modality over the clips that were read."""

    modality: str
    clips: int
    channels: int
    low: float
    mean: float
    high: float
    dead: int
    """Channels that are 0 in all of them."""
    highest_cell: float | None
    """Largest value in the maps of some of them; None without maps."""


@dataclass(frozen=True)
class Read:
    """What reading a domain's clips gives."""

    rows: Rows
    """The clips that were read, [n]."""
    vectors: Floats
    """Their vectors: the mean over frames, of length 1 in each modality and side by side, [n, ΣC]."""
    values: list[Values]


@dataclass(frozen=True)
class Pair:
    """Two clips of different domains."""

    similarity: float
    """Cosine of their vectors, the mean over modalities."""
    first: str
    first_class: str
    second: str
    second_class: str


def write(path: Path, out: Path, say: Say) -> None:
    """Write the page about a feature file. Raises DataError for a file that is none, UsageError where `out` cannot be written."""
    datasets = open_features(path)
    domains = [domain for dataset in datasets.values() for domain in domains_of(dataset)]
    read = {}
    for domain in domains:
        if len(domain.done):
            say(f"reading {min(len(domain.done), MOST_CLIPS)} of {len(domain.done)} finished clips of {domain.name}")
            read[domain.name] = read_clips(domain)
    neighbours = {
        (a.name, b.name): nearest(a, read[a.name], b, read[b.name])
        for a, b in combinations(domains, 2)
        if a.name in read and b.name in read and _comparable(read[a.name], read[b.name])
    }
    failed = {name: failures.entries(dataset, FAILED) for name, dataset in datasets.items()}
    html.write(
        out,
        "overview.html",
        file=path.name,
        datasets={name: _facts(dataset) for name, dataset in datasets.items()},
        outcomes={name: failures.counts(dataset) for name, dataset in datasets.items()},
        failed={name: entries[:MOST_LINES] for name, entries in failed.items() if entries},
        more_failed={name: max(len(entries) - MOST_LINES, 0) for name, entries in failed.items()},
        damaged={name: damaged for name, dataset in datasets.items() if (damaged := failures.damaged(dataset))},
        failures_file=failures.failures_path(path).name,
        coverage={domain.name: coverage_of(domain) for domain in domains},
        values={name: one.values for name, one in read.items()},
        neighbours=neighbours,
        most_clips=MOST_CLIPS,
        most_maps=MOST_MAPS,
    )


def domains_of(dataset: DatasetFeatures) -> list[Domain]:
    """The domains of a dataset; one that has a column `domain` has a domain for each of its values."""
    column = dataset.columns.get("domain")
    values = np.full(len(dataset), "") if column is None else column
    done = dataset.done()
    return [
        Domain(dataset.name if column is None else f"{dataset.name}.{value}", dataset, rows, rows[done[rows]])
        for value in sorted(set(values.tolist()))
        for rows in [np.flatnonzero(values == value)]
    ]


def coverage_of(domain: Domain) -> Coverage:
    """Clips of each class by split, and how many of them are finished."""
    columns = domain.dataset.columns

    def counted(rows: Rows) -> Mapping[tuple[str, str], int]:
        return Counter(zip(columns["label"][rows].tolist(), columns["split"][rows].tolist(), strict=True))

    total, done = counted(domain.rows), counted(domain.done)
    splits = sorted({split for _, split in total}, key=lambda split: (split != "train", split))
    lines = []
    for label in sorted({label for label, _ in total}):
        numbers = [(done.get((label, split), 0), total.get((label, split), 0)) for split in splits]
        lines.append((label, [f"{have}" if have == all_ else f"{have} of {all_}" for have, all_ in numbers]))
    return Coverage(splits, lines)


def read_clips(domain: Domain) -> Read:
    """Read the vectors of at most `MOST_CLIPS` finished clips, and the maps of some."""
    dataset, rows = domain.dataset, domain.done
    if len(rows) > MOST_CLIPS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_CLIPS, replace=False))
    vectors, values = [], []
    for modality in dataset.modalities:
        pooled = dataset.array(f"{modality}/pooled")  # mapped, [N, T, C]
        channels = pooled.shape[2]
        means = np.empty((len(rows), channels), np.float32)
        low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
        for i, row in enumerate(rows.tolist()):
            clip = np.asarray(pooled[row])  # [T, C]
            means[i] = clip.mean(0)
            low, high = np.minimum(low, clip.min(0)), np.maximum(high, clip.max(0))
        highest = None
        if f"{modality}/maps" in dataset.regions:
            maps, some = dataset.array(f"{modality}/maps"), rows[:: -(-len(rows) // MOST_MAPS)]
            highest = max(float(np.max(maps[row])) for row in some.tolist())
        dead = int(((low == 0) & (high == 0)).sum())
        bounds = float(low.min()), float(means.mean(dtype=np.float64)), float(high.max())
        values.append(Values(modality, len(rows), channels, *bounds, dead, highest))
        vectors.append(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12))
    return Read(rows, np.concatenate(vectors, axis=1), values)


def nearest(a: Domain, read_a: Read, b: Domain, read_b: Read, count: int = NEAREST) -> list[Pair]:
    """The most similar clips of two domains, the most similar first; each clip of the first at most once.

    A near-duplicate in both domains makes adaptation look better than it is.
    """
    partners, best = [], []
    for first in range(0, len(read_a.vectors), BLOCK):
        similarities = read_a.vectors[first : first + BLOCK] @ read_b.vectors.T / len(read_a.values)  # [block, n_b]
        partners.append(similarities.argmax(1))
        best.append(similarities.max(1))
    partner, similarity = np.concatenate(partners), np.concatenate(best)
    pairs = []
    for i in np.argsort(-similarity, kind="stable")[:count].tolist():
        (clip, label), (other, other_label) = _told(a, read_a.rows[i]), _told(b, read_b.rows[partner[i]])
        pairs.append(Pair(float(similarity[i]), clip, label, other, other_label))
    return pairs


def _comparable(a: Read, b: Read) -> bool:
    """Whether both have the same modalities and channels."""
    return [(x.modality, x.channels) for x in a.values] == [(x.modality, x.channels) for x in b.values]


def _told(domain: Domain, row: int) -> tuple[str, str]:
    """(id, class) of a clip."""
    columns = domain.dataset.columns
    return str(columns["clip"][row]), str(columns["label"][row])


def _facts(dataset: DatasetFeatures) -> dict[str, str]:
    """What was extracted, and how."""
    provenance = dataset.provenance
    preprocessing, weights = provenance.get("preprocessing"), provenance.get("weights")
    recipe = preprocessing if isinstance(preprocessing, Mapping) else {}
    return {
        "clips": f"{len(dataset)}, {int(dataset.done().sum())} finished",
        "classes": f"{len(set(dataset.columns['label'].tolist()))}",
        "modalities": ", ".join(dataset.modalities),
        "frames a clip": f"{dataset.frames}",
        "backbone": f"{provenance.get('backbone', 'not said')}",
        "recipe": f"{recipe.get('name', 'not said')}, version {recipe.get('version', 'not said')}",
        "weights": _weights(weights, dataset.modalities),
        "size": f"{len(dataset) * row_bytes(dataset.frames, dataset.modalities) / 1e9:.3g} GB",
    }


def _weights(weights: object, modalities: Sequence[str]) -> str:
    """The name of each modality's weights."""
    told = weights if isinstance(weights, Mapping) else {}
    names = [told[m].get("name", "not said") if isinstance(told.get(m), Mapping) else "not said" for m in modalities]
    return ", ".join(f"{m} {name}" for m, name in zip(modalities, names, strict=True))
