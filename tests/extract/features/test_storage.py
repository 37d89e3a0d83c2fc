"""Damage that ended a process, or that the HDF5 library read for ever, is one line."""

import zlib

import h5py
import numpy as np
import pytest
from cia_extract import features
from cia_extract.common.errors import DataError
from cia_extract.features import storage

from tests.conftest import make_dataset

WHOLE = 4000  # bytes of a chunk


def test_a_sector_of_zeros_among_texts_is_one_line(tmp_path):
    """The library takes zeros for a free piece of no bytes, and goes on behind it for ever. No signal ends that."""
    path = tmp_path / "f.h5"
    make_dataset(path, "d", seed=1, clips_per_class=1, frames=1, modalities=("rgb",))
    sound = path.read_bytes()
    heap = sound.index(storage.HEAP)
    size = int.from_bytes(sound[heap + 8 : heap + 16], "little")
    refused = 0
    for begin in range(heap // 512 * 512, heap + size, 512):
        data = bytearray(sound)
        data[begin : begin + 512] = bytes(512)
        path.write_bytes(data)
        try:
            features.open_features(path)
        except DataError:
            refused += 1
    assert refused >= 2


def test_a_free_piece_that_leads_back_is_one_line(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["x"] = ["a text of any length"] * 3
    data = bytearray(path.read_bytes())
    place = data.index(storage.HEAP) + storage.HEADER
    data[place : place + 2] = bytes(2)
    data[place + 8 : place + 16] = (-16 % (1 << 64)).to_bytes(8, "little")
    path.write_bytes(data)
    with features.opened(path) as file, pytest.raises(DataError, match="the texts at byte"):
        storage.check(path, file)


def test_the_remains_of_a_heap_that_nobody_reads_are_no_damage(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = ["a text of any length"] * 3
    with path.open("r+b") as raw:
        raw.write(storage.HEAP + bytes([1, 0, 0, 0]) + (512).to_bytes(8, "little"))  # and zeros for objects
    with features.opened(path) as file:
        storage.check(path, file)


# {what is wrong: (the chunk's bytes, the filters that it went through, the array's)}
CHUNKS: dict[str, tuple[bytes, int, dict[str, object]]] = {
    "fewer bytes than its checksum": (b"abc", 0b01, {"compression": "gzip", "fletcher32": True}),
    "not packed, and short": (b"a" * 10, 0b1, {"compression": "gzip"}),
    "not packed, and long": (b"a" * 2 * WHOLE, 0b1, {"compression": "gzip"}),
    "packed, and short": (zlib.compress(b"a" * 10), 0, {"compression": "gzip"}),
    "packed, and shuffled, and short": (zlib.compress(b"a" * 10), 0, {"compression": "gzip", "shuffle": True}),
    "a bomb": (zlib.compress(bytes(1 << 26)), 0, {"compression": "gzip"}),
}


@pytest.mark.parametrize("fault", CHUNKS)
def test_a_chunk_of_another_size_is_refused_before_the_library_reads_beyond_it(tmp_path, fault):
    data, skipped, options = CHUNKS[fault]
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        array = file.create_dataset("x", (2, WHOLE // 4), "f4", chunks=(1, WHOLE // 4), **options)
        array[0] = 1
        array.id.write_direct_chunk((1, 0), data, filter_mask=skipped)
    with features.opened(path) as file, pytest.raises(DataError, match=r"x is damaged: its chunk \(1, 0\)"):
        storage.check(path, file)
        storage.check_row(f"{path}: x", file["x"], 0)
        storage.check_row(f"{path}: x", file["x"], 1)


def test_chunks_that_would_fill_the_memory_are_refused(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("x", (4, 1 << 28), "f4", chunks=(2, 1 << 28))
    with (
        features.opened(tmp_path / "f.h5") as file,
        pytest.raises(DataError, match=r"chunks of 2\.1 GB, read whole for each clip"),
    ):
        storage.check(tmp_path / "f.h5", file)


OPTIONS: list[dict[str, object]] = [
    {},
    {"chunks": (2, 3)},
    {"chunks": (2, 3), "compression": "gzip", "shuffle": True, "fletcher32": True},
    {"chunks": (3, 9), "compression": "lzf"},
    {"chunks": (2, 3), "maxshape": (None, 9), "scaleoffset": 3},
]


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_sound_files_pass(tmp_path, libver):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", libver=libver) as file:
        for number, options in enumerate(OPTIONS):
            file.create_dataset(f"x{number}", data=np.arange(63, dtype="f4").reshape(7, 9), **options)
            file[f"x{number}"].attrs["about"] = "text" * 500 * number
        file.create_dataset("unwritten", (7, 9), "f4", chunks=(2, 3), compression="gzip")
        file["texts"] = ["a", "longer", ""] * 1000
        del file["texts"]
        file["again"] = ["a", "longer", "x" * 5000] * 1000
        file["group/itself"] = file.create_group("group")
        file["no size"] = h5py.Empty("f4")
    with features.opened(path) as file:
        storage.check(path, file)
        for row in range(7):
            for number in range(len(OPTIONS)):
                storage.check_row("x", file[f"x{number}"], row) if file[f"x{number}"].chunks else None
            storage.check_row("unwritten", file["unwritten"], row)
