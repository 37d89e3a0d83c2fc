"""Chunks that ended a process are one line; sound ones pass."""

import zlib

import h5py
import numpy as np
import pytest
from cia_extract import features
from cia_extract.common.errors import DataError
from cia_extract.features import storage

WHOLE = 4000  # bytes of a chunk


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
    with features.opened(path) as file:
        checked: dict[storage.Corner, bool] = {}
        storage.check_row(f"{path}: x", file["x"], 0, checked)
        assert checked == {(0, 0): True, (1, 0): False}
        with pytest.raises(DataError, match=r"x is damaged.*: its chunk \(1, 0\)"):
            if skipped or len(data) < 4:
                storage.check(path, file)
            else:
                storage.check_row(f"{path}: x", file["x"], 1, checked)


def test_chunks_that_would_fill_the_memory_are_refused_where_they_are_read(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("x", (4, 1 << 28), "f4", chunks=(2, 1 << 28))
    with features.opened(tmp_path / "f.h5") as file:
        storage.check(tmp_path / "f.h5", file)
        with pytest.raises(DataError, match=r"x has chunks of 2\.1 GB, read whole for each clip"):
            storage.check_size("f.h5: x", file["x"])


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
        compound = np.dtype([("name", h5py.string_dtype()), ("count", "i4")])
        for packed in (None, "gzip"):
            for kind in (h5py.string_dtype(), compound):
                name = f"texts {packed} {kind.names}"
                file.create_dataset(name, (20,), kind, chunks=(10,), maxshape=(None,), compression=packed)
                file[name][:] = [b"text"] * 20 if kind is not compound else np.array([(b"text", 1)] * 20, compound)
        file["group/itself"] = file.create_group("group")
        file["no size"] = h5py.Empty("f4")
    with features.opened(path) as file:
        storage.check(path, file)
        for data in file.values():
            for row in range(7 if isinstance(data, h5py.Dataset) and data.chunks else 0):
                storage.check_row("x", data, row, {})
