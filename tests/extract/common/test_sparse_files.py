"""A file that is almost all hole is refused before its zeros fill the memory; one that leaves out pages of zeros is not."""

import os

import pytest
from cia_extract.common import sparse_files
from cia_extract.common.errors import DataError


@pytest.mark.parametrize("places", [[], [0], [1 << 20], [0, 1 << 20, 3 << 20]])
def test_a_file_may_be_32_times_its_bytes_on_the_disk_and_64_mib_more(tmp_path, places):
    path = tmp_path / "x"
    with path.open("wb") as file:
        for place in places:
            file.seek(place)
            file.write(b"x" * (1 << 16))
    most = (64 << 20) + 32 * len(places) * (1 << 16)
    os.truncate(path, most)
    sparse_files.check(path)
    os.truncate(path, most + 1)
    with pytest.raises(DataError, match=rf"^has {most + 1:,} bytes and takes {len(places) * (1 << 16):,} on the disk; it is dam"):
        sparse_files.check(path)


def test_a_file_system_that_knows_no_holes_is_believed(tmp_path, monkeypatch):
    """Linux then says that all bytes up to the end are data."""
    (tmp_path / "x").touch()
    os.truncate(tmp_path / "x", 1 << 30)
    monkeypatch.setattr(os, "lseek", lambda file, place, how: place if how == os.SEEK_DATA else 1 << 30)
    sparse_files.check(tmp_path / "x")
