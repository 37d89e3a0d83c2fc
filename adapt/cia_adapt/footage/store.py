"""Decoded frames of one dataset and modality on the disk, read by memory map.

    <cache>/<dataset>/rgb.npy         [N, T, H, W, C] uint8, as np.load reads it
    <cache>/<dataset>/rgb.state.npy   [N] int64: 0 where a row is to do, else 2³² + the CRC32C of its bytes
    <cache>/<dataset>/rgb.json        what decides the pixels (`Pictures.knobs`), and the clips' digest

A row's frames are written, synced, and only then marked by one write of eight bytes: a kill leaves no torn row.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt
from cia_extract.common import differences, names, text_files, writes
from cia_extract.common.errors import DataError, MismatchError, UsageError
from cia_extract.common.json_objects import json_object
from cia_extract.datasets import Manifest

from cia_adapt.footage.pictures import Pictures, Pixels

DONE: Final = 1 << 32
DECIDING: Final = ("clip", "path", "start", "stop", "rate", "flow_path", "flow_rate", "flow_bound")
"""Columns of a manifest that decide a clip's pixels; labels and splits may change."""
MOST_BYTES: Final = 1 << 20  # of what the frames are of, which has 2 KB
ADVICE: Final = "delete that folder, or give another --frame-cache"


@dataclass(frozen=True)
class Store:
    """The files of one dataset (a folder) and modality."""

    folder: Path
    modality: str

    @property
    def frames(self) -> Path:
        """[N, T, H, W, C] uint8."""
        return self.folder / f"{self.modality}.npy"

    @property
    def marks(self) -> Path:
        """[N] int64."""
        return self.folder / f"{self.modality}.state.npy"

    @property
    def about(self) -> Path:
        """What the frames are of: `_contents`."""
        return self.folder / f"{self.modality}.json"

    def begin_or_continue(self, pictures: Pictures, rows: Manifest) -> None:
        """Make the files; or check that those which lie here are of these pictures and clips.

        Raises MismatchError, DataError, and UsageError for an array that is a link: rows would be written wherever it leads.
        """
        for path in (self.frames, self.marks):
            refuse_link(path)
        if self.about.is_file():
            self.check(pictures, rows)
            return
        for path, (shape, kind) in self._arrays(pictures, rows).items():
            path.unlink(missing_ok=True)
            np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
        contents = json.dumps(self._contents(pictures, rows), indent=2)
        writes.text(self.about, contents + "\n")  # last: without it all is made anew

    def check(self, pictures: Pictures, rows: Manifest) -> None:
        """Check that the files are of these pictures and clips. Raises MismatchError, DataError."""
        wanted = self._contents(pictures, rows)
        if self.about.stat().st_size > MOST_BYTES:
            raise DataError(f"{self.about}: is larger than {MOST_BYTES >> 20} MiB; {ADVICE}")
        held = json_object(text_files.read_text(self.about, "JSON file", ADVICE), f"{self.about}:", ADVICE)
        pictured = held.get("pictures")
        if differing := differences.between(pictured if isinstance(pictured, dict) else {}, wanted["pictures"]):
            raise MismatchError(f"{self.frames}: holds frames of another recipe ({differences.listed(differing)}); {ADVICE}")
        if held.get("clips") != wanted["clips"]:
            raise MismatchError(f"{self.frames}: holds the frames of other clips than {rows.source} lists; {ADVICE}")
        for path, (shape, kind) in self._arrays(pictures, rows).items():
            array = _mapped(path)
            if (array.shape, array.dtype, array.flags.c_contiguous) != (shape, kind, True):
                raise DataError(f"{path}: is an array {list(array.shape)} of {array.dtype}, not {list(shape)}; {ADVICE}")

    def _contents(self, pictures: Pictures, rows: Manifest) -> dict[str, Any]:
        return {"pictures": pictures.knobs(self.modality), "clips": clips_digest(rows.columns)}

    def _arrays(self, pictures: Pictures, rows: Manifest) -> dict[Path, tuple[tuple[int, ...], type]]:
        """{file: (shape, type)}."""
        return {self.frames: ((len(rows), *pictures.shape(self.modality)), np.uint8), self.marks: ((len(rows),), np.int64)}

    def map(self) -> npt.NDArray[np.uint8]:
        """The frames as a read-only memory map [N, T, H, W, C]. Raises DataError."""
        return _mapped(self.frames)

    def states(self) -> npt.NDArray[np.int64]:
        """[N], as they are now. Raises DataError."""
        return np.array(_mapped(self.marks))

    def checksums(self) -> npt.NDArray[np.int64]:
        """[N]: the CRC32C of the frames of each row that is done. Raises DataError."""
        return self.states() - DONE

    @contextmanager
    def writer(self) -> Iterator["Writer"]:
        """Open for writing rows. Raises OSError, also where an array has become a link."""
        with _opened_to_write(self.frames) as frames, _opened_to_write(self.marks) as marks:
            yield Writer(frames.fileno(), _mapped(self.frames).offset, marks.fileno(), _mapped(self.marks).offset)


@dataclass(frozen=True)
class Writer:
    """Writes rows of one modality; each is marked only once it is on the disk."""

    frames: int
    """File descriptor of the frames, and where their first byte lies."""
    first_frame: int
    marks: int
    first_mark: int

    def write(self, row: int, pixels: Pixels) -> None:
        """Write the frames [T, H, W, C] of a row. Raises OSError."""
        data = pixels.tobytes()
        _write_all(self.frames, data, self.first_frame + row * len(data))
        os.fsync(self.frames)
        mark = np.int64(DONE + google_crc32c.value(data)).tobytes()
        _write_all(self.marks, mark, self.first_mark + row * len(mark))


def clips_digest(columns: Mapping[str, Sequence[str]]) -> str:
    """SHA-256 of the columns that decide which frames a clip has."""
    held = {name: list(map(str, columns[name])) for name in DECIDING if name in columns}
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def refuse_link(path: Path) -> None:
    """Raise UsageError where a folder or file of the cache is a link, which may lead to anybody's files."""
    if path.is_symlink():
        raise UsageError(f"{path}: is a link; remove it, or give another --frame-cache")


def _opened_to_write(path: Path) -> IO[bytes]:
    return open(path, "r+b", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW))


def _mapped(path: Path) -> Any:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise FileNotFoundError("no such file")
        with np.errstate(over="ignore"), warnings.catch_warnings(action="ignore"):  # of a size that no file has, or an odd header
            return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # the header is Python's text of a dictionary: it may be anything
        why = names.printable(" ".join(str(error).split())[:200])
        raise DataError(f"{path}: is no array of frames, or was cut short ({why}); {ADVICE}") from error


def _write_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
