"""The feature file, schema 1: what it holds, reading, writing, checking and merging it."""

from cia_extract.common.modalities import MODALITIES
from cia_extract.features import collection, failures, merging, storage, writer
from cia_extract.features.claims import Claims
from cia_extract.features.collection import Array, ClipFeatures, Collection, from_dataset, from_folder
from cia_extract.features.failures import failures_path, write_failures
from cia_extract.features.filling import tidy, to_fill
from cia_extract.features.journal import journal_path
from cia_extract.features.reader import DatasetFeatures, open_features
from cia_extract.features.schema import (
    DONE,
    FAILED,
    SCHEMA,
    TO_DO,
    Provenance,
    differences,
    lay_out,
    provenance_sha256,
    row_bytes,
    row_crc32c,
    write_columns,
)
from cia_extract.features.structure import opened, readable, written
from cia_extract.features.writer import RowWriter

__all__ = [
    "DONE",
    "FAILED",
    "MODALITIES",
    "SCHEMA",
    "TO_DO",
    "Array",
    "Claims",
    "ClipFeatures",
    "Collection",
    "DatasetFeatures",
    "Provenance",
    "RowWriter",
    "collection",
    "differences",
    "failures",
    "failures_path",
    "from_dataset",
    "from_folder",
    "journal_path",
    "lay_out",
    "merging",
    "open_features",
    "opened",
    "provenance_sha256",
    "readable",
    "row_bytes",
    "row_crc32c",
    "storage",
    "tidy",
    "to_fill",
    "write_columns",
    "write_failures",
    "writer",
    "written",
]
