"""The feature file, schema 1: what passes between the two stages. Reading it and laying it out; writing rows is `writer`.

    /                       attrs: schema = 1, created_by
    /<dataset>/             attrs: recipe (the provenance as JSON), recipe_sha256, root (where the clips were; only a hint)
    /<dataset>/clips/…      one 1-D dataset per manifest column (utf-8), n_frames int32, fps float32, indices [N, T] int32
    /<dataset>/rgb/maps     [N, T, 1024, 7, 7] float16      /<dataset>/rgb/pooled   [N, T, 1024] float32     (flow alike)
    /<dataset>/audio/pooled [N, T, 1024] float32            /<dataset>/audio/mask   [N, T] uint8: 1 where there is sound
    /<dataset>/status       [N, M] uint8: 0 to do, 1 done, 2 failed      /<dataset>/crc32c  [N, M] uint32, over a row's arrays
    /<dataset>/outcome      [N, M] uint8, outcomes.OUTCOMES /<dataset>/message      [N, M] bytes (UTF-8): why, for people
    /<dataset>/ledger_crc32c  [N, M] uint32, over a row's status, outcome and message

Arrays are contiguous, so that a reader can map them. This module imports neither torch nor av.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

import cia_extract.features.storage as storage
from cia_extract.common.errors import DataError
from cia_extract.common.version import __version__
from cia_extract.features.journal import journal_path, wait_for_writer
from cia_extract.features.region import Region
from cia_extract.features.schema import (
    CLIP_ARRAYS,
    DONE,
    SCHEMA,
    TO_DO,
    Provenance,
    arrays_of,
    ledger_crc32c,
    provenance_sha256,
    row_crc32c,
)
from cia_extract.features.structure import check_apart, children, opened, read_group, readable


@dataclass(frozen=True)
class DatasetFeatures:
    """One dataset of a feature file. Holds no open file: arrays are mapped on request and see later writes."""

    path: Path
    name: str
    provenance: Provenance
    root: str
    columns: Mapping[str, npt.NDArray[Any]]  # manifest columns [N] str
    regions: Mapping[str, Region]  # by the name inside the group, for example "rgb/maps"
    modalities: tuple[str, ...]

    def __len__(self) -> int:
        return self.regions["status"].shape[0]

    @property
    def frames(self) -> int:
        """Sampled frames T of a clip."""
        return self.regions["clips/indices"].shape[1]

    def array(self, name: str) -> npt.NDArray[Any]:
        """A mapped array by its name inside the group: "rgb/maps", "flow/pooled", "status", "clips/indices", …"""
        return self.regions[name].map(self.path)

    def done(self, modalities: Sequence[str] | None = None) -> npt.NDArray[np.bool_]:
        """[N]: rows in which all the modalities (default: all of the file) are done."""
        columns = [self.modalities.index(m) for m in (modalities or self.modalities)]
        return np.asarray((self.array("status")[:, columns] == DONE).all(axis=1))

    def digest(self) -> str:
        """SHA-256 of the provenance, the manifest columns, the states and the rows' CRCs: changes when any number does."""
        digest = hashlib.sha256(provenance_sha256(self.provenance).encode())
        for name in sorted(self.columns):
            digest.update("\0".join([name, *self.columns[name]]).encode())
        digest.update(np.asarray(self.array("status")).tobytes())
        digest.update((np.asarray(self.array("crc32c")) * (np.asarray(self.array("status")) == DONE)).tobytes())
        return digest.hexdigest()

    def damaged_rows(self, modality: str) -> dict[int, str]:
        """Check every done or failed row of a modality against its checksums; returns {row: "clip: what is wrong"}."""
        lines = {}
        with open(self.path, "rb") as file:
            for row in np.flatnonzero(self.array("status")[:, self.modalities.index(modality)] != TO_DO).tolist():
                fault = self.fault(row, modality, file.fileno())
                if fault:
                    lines[row] = f"{self.columns['clip'][row]}: {fault}"
        return lines

    def row(self, row: int, modality: str, descriptor: int, vectors_only: bool = False) -> dict[str, npt.NDArray[Any]]:
        """{array: a row of it}, read from the open file rather than mapped: maps and vectors, for sound vectors and mask.

        Raises DataError where the file became shorter.
        """
        kinds = [kind for kind in arrays_of(modality, self.frames) if kind != "maps" or not vectors_only]
        present = [kind for kind in kinds if f"{modality}/{kind}" in self.regions]
        return {kind: self.read_row(f"{modality}/{kind}", row, descriptor) for kind in present}

    def read_row(self, name: str, row: int, descriptor: int) -> npt.NDArray[Any]:
        """One row of an array, read from the open file. Raises DataError where it became shorter or the disk fails."""
        try:
            return self.regions[name].read_row(descriptor, row)
        except DataError as error:
            raise DataError(f"{self.path}: {error}; get it again, then run the same command") from error
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}; the disk or the network failed, get the file again") from error

    def mismatch(self, row: int, modality: str, arrays: Mapping[str, npt.NDArray[Any]], descriptor: int) -> str:
        """Why a done row is not what was written, "" if it is. `arrays` are those of `row`.

        Vectors alone have a checksum in files since 2026-11; of older ones nothing is said.
        """
        whole = "maps" in arrays or f"{modality}/maps" not in self.regions
        checksums = "crc32c" if whole else "vectors_crc32c"
        if checksums not in self.regions:
            return ""
        stored = self.read_row(checksums, row, descriptor)[self.modalities.index(modality)]
        return "" if row_crc32c(*arrays.values()) == stored else f"{modality} does not match its CRC32C"

    def fault(self, row: int, modality: str, descriptor: int) -> str:
        """What is wrong with a done or failed row, "" for nothing: checksums and values that are not finite."""
        if self.read_row("status", row, descriptor)[self.modalities.index(modality)] != DONE:
            return self.ledger_fault(row, modality, descriptor)
        arrays = self.row(row, modality, descriptor)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            return self.mismatch(row, modality, arrays, descriptor) or f"{modality} has values that are not finite"
        vectors = {name: array for name, array in arrays.items() if name != "maps"}  # they have a checksum of their own besides
        return (
            self.mismatch(row, modality, arrays, descriptor)
            or self.mismatch(row, modality, vectors, descriptor)
            or self.clip_fault(row, descriptor)
            or self.ledger_fault(row, modality, descriptor)
        )

    def ledger_fault(self, row: int, modality: str, descriptor: int) -> str:
        """Why what the ledger says of a done or failed row is not what was written, "" if it is or has no checksum."""
        if "ledger_crc32c" not in self.regions:
            return ""
        names = ("ledger_crc32c", "status", "outcome", "message")
        stored, status, outcome, message = (
            self.read_row(name, row, descriptor)[self.modalities.index(modality)] for name in names
        )
        never_written = not stored and outcome  # by a version that did not know the checksum
        if never_written or ledger_crc32c(int(status), int(outcome), bytes(message)) == stored:
            return ""
        return f"{modality}'s status, outcome or message do not match their CRC32C"

    def note(self, row: int, column: int) -> tuple[int, bytes]:
        """(outcome, message) of a row's modality; of files made before there was a ledger (0, b"")."""
        if "outcome" not in self.regions:
            return 0, b""
        return int(self.array("outcome")[row, column]), bytes(self.array("message")[row, column])

    def clip_fault(self, row: int, descriptor: int) -> str:
        """Why what decoding told about a clip is not what was written, "" if it is or has no checksum."""
        if "clip_crc32c" not in self.regions:
            return ""
        stored = int(self.read_row("clip_crc32c", row, descriptor))
        if stored in (0, self.clip_crc32c(row, descriptor)):  # 0: never written
            return ""
        return "n_frames, fps or indices do not match their CRC32C"

    def clip_crc32c(self, row: int, descriptor: int) -> int:
        """CRC32C of what decoding told about a clip."""
        return row_crc32c(*(self.read_row(f"clips/{name}", row, descriptor) for name in CLIP_ARRAYS))


def open_features(path: str | Path) -> dict[str, DatasetFeatures]:
    """All datasets of a feature file by name. Raises DataError for anything that is not a file of schema 1, whole."""
    path = Path(path)
    readable(path, f"make it with cia-extract --out {path}")
    if journal_path(path).exists() or path.stat().st_size == 0:
        wait_for_writer(path)  # another process may be adding a dataset at this moment
    if journal_path(path).exists() or path.stat().st_size == 0:
        raise DataError(f"{path}: its creation was interrupted; run the same cia-extract command again to finish it")
    with opened(path) as file:
        storage.check(path, file)
        schema = file.attrs.get("schema", "none")
        if not isinstance(schema, int | np.integer) or schema != SCHEMA:
            raise DataError(f"{path}: schema {str(schema)[:20]}, this version {__version__} reads schema {SCHEMA}")
        datasets = {name: _dataset(path, name, group) for name, group in children(path, file).items()}
    regions = {f"/{name}/{key}": region for name, dataset in datasets.items() for key, region in dataset.regions.items()}
    check_apart(path, regions)
    return datasets


def _dataset(path: Path, name: str, group: h5py.Group) -> DatasetFeatures:
    content = read_group(path, name, group)
    # Files of before 2026-11 have no checksums of columns, and the first of them a digest of other fields.
    if "columns_crc32c" in group.attrs and group.attrs.get("recipe_sha256") != provenance_sha256(content.provenance):
        raise DataError(f"{path}: /{name}'s recipe does not match its SHA-256; the file is damaged, get or make it again")
    root = group.attrs.get("root", "")
    modalities = tuple(content.provenance["modalities"])
    return DatasetFeatures(path, name, content.provenance, str(root), content.columns, content.regions, modalities)
