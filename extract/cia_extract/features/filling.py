"""Filling rows of a dataset while nobody else lays it out anew."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import h5py

from cia_extract.common.errors import MismatchError
from cia_extract.features.claims import Claims
from cia_extract.features.journal import wait_for_writer
from cia_extract.features.reader import DatasetFeatures
from cia_extract.features.structure import opened
from cia_extract.features.writer import RowWriter


@contextmanager
def to_fill(dataset: DatasetFeatures, warn: Callable[[str], None] = lambda _: None) -> Iterator[tuple[Claims, RowWriter]]:
    """Claim and write rows of a dataset in here. Another process' --overwrite of it is refused meanwhile.

    Raises MismatchError where one has begun since `dataset` was read: its rows lie elsewhere now, or are of other weights.
    """
    path, name = dataset.path, dataset.name
    with Claims(path, name, warn=warn) as claims, RowWriter(dataset) as rows:
        if not claims.entered or not _as_it_was(dataset):
            raise MismatchError(f"{path}: another process has begun '{name}' anew meanwhile; run the same command again")
        yield claims, rows


def tidy(dataset: DatasetFeatures) -> None:
    """Delete the file of claims once all rows are done: nobody will claim one any more."""
    if dataset.done().all():
        with suppress(OSError):
            Claims.path_of(dataset.path, dataset.name).unlink(missing_ok=True)


def _as_it_was(dataset: DatasetFeatures) -> bool:
    """Whether the file has this dataset's provenance and places still. Its columns, which may be a million, are not read."""
    wait_for_writer(dataset.path)
    with opened(dataset.path) as file:
        group = file.get(dataset.name)
        if not isinstance(group, h5py.Group) or json.loads(group.attrs["recipe"]) != dataset.provenance:
            return False
        return all(_offset(group, key) == region.offset for key, region in dataset.regions.items())


def _offset(group: h5py.Group, key: str) -> int | None:
    array = group.get(key)
    return int(array.id.get_offset() or 0) if isinstance(array, h5py.Dataset) else None
