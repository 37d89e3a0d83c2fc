"""HDF5 files of others that lead out of themselves, or declare what is not there: one line each; nothing else is opened."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from cia_adapt.data import columns
from cia_adapt.data.foreign import open_any
from cia_extract.common.errors import DataError

from tests import hostile
from tests.conftest import make_dataset, make_small

ARRAY, COLUMN = "here/rgb/pooled", "here/clips/label"
CLIPS = 18


def linked(at: str, target: object, inside: str) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        if at in file:
            del file[at]
        file[at] = h5py.ExternalLink(str(target), inside)

    return spoil


def stored_outside(at: str, target: object, dtype: str, *shape: int) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        if at in file:
            del file[at]
        file.create_dataset(at, (CLIPS, *shape), dtype, external=[(str(target), 0, h5py.h5f.UNLIMITED)])

    return spoil


def virtual(target: object, endless: bool) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        shape = file[ARRAY].shape
        most = (None, *shape[1:]) if endless else None
        del file[ARRAY]
        layout = h5py.VirtualLayout(shape, "f4", maxshape=most)
        source = h5py.VirtualSource(str(target), ARRAY, shape, maxshape=most)
        rows = slice(0, h5py.h5s.UNLIMITED) if endless else slice(None)
        layout[rows] = source[rows]
        file.create_virtual_dataset(ARRAY, layout)

    return spoil


def replaced(at: str, shape: tuple[int, ...], dtype: object, **options) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        if at in file:
            del file[at]
        file.create_dataset(at, shape, dtype, **options)

    return spoil


def sizeless(file: h5py.File) -> None:
    del file[ARRAY]
    file.create_dataset(ARRAY, data=h5py.Empty("f4"))


def packed_by_nobody(file: h5py.File) -> None:
    """A filter that is not installed; HDF5 itself would refuse to write it, unless it may be left out."""
    del file[ARRAY]
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((1, 5, 4))
    layout.set_filter(32_123, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, ARRAY.encode(), h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((CLIPS, 5, 4)), layout)


PIPE, OTHER, SECRET = "pipe.h5", "other.h5", "secret"
OUTSIDE = "is a link to another file"
ATTACKS: dict[str, tuple[Callable[[Path], Callable[[h5py.File], None]], str]] = {
    "an array linked to another file": (lambda d: linked(ARRAY, d / OTHER, ARRAY), OUTSIDE),
    "an array linked to a pipe": (lambda d: linked(ARRAY, d / PIPE, ARRAY), OUTSIDE),
    "a domain in another file": (lambda d: linked("more", d / OTHER, "here"), OUTSIDE),
    "a domain in a pipe": (lambda d: linked("more", d / PIPE, "here"), OUTSIDE),
    "a column in a pipe": (lambda d: linked("here/clips/x", d / PIPE, "x"), OUTSIDE),
    "a link in a group that nothing names": (lambda d: linked("a/b/c", d / PIPE, "x"), OUTSIDE),
    "an array of another file's": (lambda d: virtual(d / OTHER, False), OUTSIDE),
    "an array of a pipe's": (lambda d: virtual(d / PIPE, False), OUTSIDE),
    "an endless array of a pipe's": (lambda d: virtual(d / PIPE, True), OUTSIDE),
    "vectors that are bytes of another file": (lambda d: stored_outside(ARRAY, d / SECRET, "f4", 5, 4), OUTSIDE),
    "labels that are bytes of another file": (lambda d: stored_outside(COLUMN, d / SECRET, "S16"), OUTSIDE),
    "states that are bytes of another file": (lambda d: stored_outside("here/status", d / SECRET, "u1", 3), OUTSIDE),
    "a terabyte of states a clip": (lambda d: replaced("here/status", (CLIPS, 1 << 40), "u1", chunks=(1, 1 << 20)), "whole"),
    "labels of a terabyte": (lambda d: replaced(COLUMN, (1 << 36,), "S16", chunks=(1 << 10,)), "too many for a column"),
    "more clips than labels": (lambda d: replaced(ARRAY, (1 << 40, 5, 4), "f4", chunks=(1, 5, 4)), "different numbers of rows"),
    "a clip of a terabyte": (lambda d: replaced(ARRAY, (CLIPS, 1 << 20, 1 << 18), "f4", chunks=(1, 1, 1 << 10)), "would take"),
    "vectors that are records": (lambda d: replaced(ARRAY, (CLIPS, 5, 4), "f4,f4"), "needs"),
    "vectors that are text": (lambda d: replaced(ARRAY, (CLIPS, 5, 4), h5py.string_dtype()), "needs"),
    "vectors that are references": (lambda d: replaced(ARRAY, (CLIPS, 5, 4), h5py.ref_dtype), "needs"),
    "vectors without a size": (lambda d: sizeless, "empty"),
    "labels that are references": (lambda d: replaced(COLUMN, (CLIPS,), h5py.ref_dtype), "column"),
    "vectors packed by nobody": (lambda d: packed_by_nobody, "a filter that is not installed"),
}  # fmt: skip

READ = """
import json, sys
from pathlib import Path
from cia_adapt.data.foreign import open_any
from cia_extract.common.errors import DataError
told = {}
for path in sorted(Path(sys.argv[1]).glob("case*.h5")):
    try:
        told[path.name] = f"read: {list(open_any(path))}"
    except DataError as error:
        told[path.name] = str(error)
print(json.dumps(told))
"""


def test_a_file_that_leads_elsewhere_or_lies_about_its_size_is_refused_and_nothing_else_is_opened(tmp_path):
    make_small(tmp_path / OTHER, channels=4)
    os.mkfifo(tmp_path / PIPE)
    (tmp_path / SECRET).write_bytes(b"a secret" * 1000)
    before = (tmp_path / SECRET).stat().st_atime_ns
    for number, (attack, _) in enumerate(ATTACKS.values()):
        make_small(tmp_path / f"case{number:02d}.h5", channels=4)
        with h5py.File(tmp_path / f"case{number:02d}.h5", "r+") as file:
            attack(tmp_path)(file)
    told = json.loads(hostile.in_its_own_process(READ, tmp_path, memory_gb=6))
    for (name, line), (attack, (_, words)) in zip(told.items(), ATTACKS.items(), strict=True):
        assert words in line and name in line and line.isprintable(), (attack, line)
    assert (tmp_path / SECRET).stat().st_atime_ns == before


def test_one_long_text_takes_no_more_room_than_it_has(tmp_path):
    """In numpy's array each label took the room of the longest: 3 GB for a long one among 8000 clips."""
    make_small(tmp_path / "f.h5", channels=4)
    notes = ["short", "long é " * 100_000, *[""] * (CLIPS - 2)]
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file.create_dataset("here/clips/note", data=notes, dtype=h5py.string_dtype(), chunks=(5,), compression="gzip")
    read = open_any(tmp_path / "f.h5")["here"].columns
    assert read["note"].tolist() == notes and read["note"].nbytes == CLIPS * 8
    assert read["label"].tolist()[:7] == ["jump"] * 6 + ["run"] and len(read["label"]) == CLIPS


def test_texts_of_any_length_are_read_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "SLICE", 5)
    texts = [f"é{i}" for i in range(CLIPS)]
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("flat", data=texts, dtype=h5py.string_dtype())
        file.create_dataset("high", data=np.array(texts, object)[:, None], dtype=h5py.string_dtype())
        file.create_dataset("fixed", data=[text.encode() for text in texts])
        file.create_dataset("none", (0,), h5py.string_dtype())
        for name, expected in (("flat", texts), ("high", texts), ("fixed", texts), ("none", [])):
            assert columns.column(name, file[name], columns.Room(1 << 20)).tolist() == expected
        file["flat"][7] = b"\xff"
        with pytest.raises(DataError, match=r"flat, row 7: b'\\xff' is not UTF-8"):
            columns.column("flat", file["flat"], columns.Room(1 << 20))


def test_columns_are_refused_by_what_they_take_together(tmp_path):
    """Columns that were never written take nothing in the file; 50 of a million clips would take 2.5 GB."""
    make_small(tmp_path / "f.h5", channels=4)
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        for number in range(50):
            file.create_dataset(f"more/c{number}", (1_000_000,), "S50", chunks=(1000,))
    given = [f"here/{name}=here/clips/{name}" for name in ("clip", "label", "split")] + ["here/rgb/pooled=here/rgb/pooled"]
    assert list(open_any(tmp_path / "f.h5", given)) == ["here"]
    more = [f"here/c{number}=more/c{number}" for number in range(50)]
    with pytest.raises(DataError, match=r"f\.h5: more/c\d+: the columns up to this one take more memory than those of any sound"):
        open_any(tmp_path / "f.h5", given + more)


def test_a_link_out_of_our_own_file_is_refused_by_training_too(tmp_path):
    make_dataset(tmp_path / "f.h5", "d", seed=1, clips_per_class=1, frames=1)
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["more"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/d")
    with pytest.raises(DataError, match="more is a link to another"):
        open_any(tmp_path / "f.h5")


def test_links_inside_a_file_are_followed(tmp_path):
    make_small(tmp_path / "f.h5", channels=4)
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["rest"] = file["here/rgb/pooled"]
        del file["here/rgb/pooled"]
        file["here/rgb/pooled"] = h5py.SoftLink("/rest")
    assert np.isfinite(open_any(tmp_path / "f.h5")["here"].array("rgb/pooled")[0]).all()
