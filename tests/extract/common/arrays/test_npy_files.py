"""Arrays of numpy's own files are what their headers say, no fewer values and no more."""

import zipfile

import numpy as np
import pytest
from cia_extract.common.arrays import npy_files
from cia_extract.common.errors import DataError

VALUES = np.arange(8000, dtype=np.float32).reshape(2000, 4)


def test_a_header_of_fewer_values_than_the_file_has_is_damage(tmp_path):
    """One digit; the checksum of an .npz is compared at the end of what is read, and there was more behind it."""
    for path, save in ((tmp_path / "x.npy", np.save), (tmp_path / "x.npz", lambda path, x: np.savez(path, x=x))):
        save(path, VALUES)
        path.write_bytes(path.read_bytes().replace(b"(2000, 4)", b"(1000, 4)"))
        with pytest.raises(DataError, match=r"is damaged, or followed by other data: 32,000 bytes for float32 \[1000, 4\]"):
            npy_files.npy(path) if path.suffix == ".npy" else npy_files.npz(path)


def test_bytes_behind_an_array_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", VALUES)
    assert (npy_files.npy(tmp_path / "x.npy").read() == VALUES).all()
    with (tmp_path / "x.npy").open("ab") as file:
        np.save(file, VALUES)
    with pytest.raises(DataError, match="followed by other data"):
        npy_files.npy(tmp_path / "x.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_changed_value_of_an_npz_is_noticed(tmp_path, save):
    save(tmp_path / "x.npz", x=VALUES)
    assert (npy_files.npz(tmp_path / "x.npz")["x"].read() == VALUES).all()
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        begin = archive.getinfo("x.npy").header_offset
        end = begin + archive.getinfo("x.npy").compress_size
    raw = bytearray((tmp_path / "x.npz").read_bytes())
    raw[end - 8] ^= 1
    (tmp_path / "x.npz").write_bytes(raw)
    with pytest.raises(Exception, match=r"CRC-32|invalid|Error -3"):
        npy_files.npz(tmp_path / "x.npz")["x"].read()
