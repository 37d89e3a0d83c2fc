"""Damage that the HDF5 library reads for ever is one line. Attacks run in a process of their own, else a failure would hang."""

import os

import h5py
import pytest
from cia_extract import features
from cia_extract.features import heaps, storage

from tests import hostile
from tests.conftest import make_dataset

OPEN = """
import sys
from cia_extract import features
from cia_extract.common.errors import DataError
from cia_extract.features import heaps
heaps.READ_SECONDS = 2
try:
    features.open_features(sys.argv[1])
except DataError as error:
    print(error)
"""


def test_a_sector_of_zeros_among_texts_is_one_line(tmp_path):
    """The library takes zeros for a free piece of no bytes, and goes on behind it for ever. No signal ends that."""
    path = tmp_path / "f.h5"
    make_dataset(path, "d", seed=1, clips_per_class=1, frames=1, modalities=("rgb",))
    sound = path.read_bytes()
    heap = sound.index(heaps.HEAP)
    size = int.from_bytes(sound[heap + 8 : heap + 16], "little")
    said = f"its texts are damaged (the global heap at byte {heap})"
    told = []
    for begin in range((heap // 512 + 1) * 512, heap + size, 512):
        path.write_bytes(sound[:begin] + bytes(512) + sound[begin + 512 :])
        told.append(hostile.in_its_own_process(OPEN, path, memory_gb=4, seconds=60))
        if said in told[-1]:
            return
    raise AssertionError(told)


def test_texts_that_were_never_written_and_those_of_other_files_are_not_read(tmp_path):
    """Beside what looks like a damaged heap: 10⁹ declared texts were 8 GB in the helper, and a pipe was waited for."""
    path = tmp_path / "f.h5"
    os.mkfifo(tmp_path / "pipe.h5")
    with h5py.File(path, "w", userblock_size=512) as file:
        file["texts"] = ["a text of any length"] * 3
        kind = h5py.string_dtype()
        file.create_dataset("declared", (10**9,), kind, chunks=(1000,))
        file.create_dataset("wide", (1, 10**9), kind, chunks=(1, 1000))
        file["one"] = "text"
        layout = h5py.VirtualLayout((3,), kind, maxshape=(None,))
        source = h5py.VirtualSource(tmp_path / "pipe.h5", "x", shape=(3,), dtype=kind, maxshape=(None,))
        layout[0 : h5py.h5s.UNLIMITED] = source[0 : h5py.h5s.UNLIMITED]
        file.create_virtual_dataset("virtual", layout)
    with path.open("r+b") as raw:
        raw.write(heaps.HEAP + bytes([1, 0, 0, 0]) + (4096).to_bytes(8, "little"))
    assert "schema none" in hostile.in_its_own_process(OPEN, path, memory_gb=3, seconds=60)


@pytest.mark.parametrize("more", [0, 4])
def test_the_remains_of_heaps_that_nobody_reads_are_no_damage(tmp_path, more):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", userblock_size=4096) as file:
        file["x"] = ["a text of any length"] * 3
        file["y"] = 1
        # A type that h5py cannot read is no damage either.
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(file["y"].id, b"time", h5py.h5t.UNIX_D32LE, space)
    remains = heaps.HEAP + bytes([1, 0, 0, 0]) + (512).to_bytes(8, "little")  # and zeros for objects
    with path.open("r+b") as raw:
        for number in range(1 + more):
            raw.seek(512 * number)
            raw.write(remains)
    with features.opened(path) as file:
        storage.check(path, file)
