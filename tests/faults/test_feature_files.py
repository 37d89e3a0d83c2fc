"""HDF5 files that nobody should write, through all that reads features: read, or refused in one line; no crash, no hang.

Hypothesis changes a file's structure: other types and shapes, links of every kind, attributes. Bytes are changed in a process of
its own, since the HDF5 library may not survive them. Cases that were met so are in the tests of `features.storage`.
"""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from cia_adapt import config
from cia_adapt.data import Stores, checking, find_domains
from cia_adapt.data import task as tasks
from cia_extract.cli import main
from cia_extract.common.errors import CiaError
from cia_extract.common.names import printable
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import hostile
from tests.command_line import in_this_process
from tests.conftest import make_dataset

CLIPS, FRAMES = 6, 2


def make_foreign(path: Path, **options: Any) -> Path:
    """Two domains of six clips, rgb and flow, of few channels. With options for its arrays its texts may have any length."""
    with h5py.File(path, "w") as file:
        for seed, name in enumerate(("here", "there")):
            columns = {
                "clip": [f"{name}{i}" for i in range(CLIPS)],
                "label": ["jump", "run"] * 3,
                "split": ["train"] * 4 + ["val"] * 2,
            }
            for column, values in columns.items():
                file.create_dataset(f"{name}/clips/{column}", data=values if options else np.array(values, "S"))
            for modality in ("rgb", "flow"):
                maps = np.random.default_rng(seed).uniform(0, 1, (CLIPS, FRAMES, 3, 2, 2))
                file[f"{name}/{modality}/pooled"] = maps.mean((3, 4)).astype("f4")
                file.create_dataset(f"{name}/{modality}/maps", data=maps.astype("f2"), chunks=(1, *maps.shape[1:]), **options)
            file[name].attrs["about"] = "features of another tool"
    return path


def make_own(path: Path) -> Path:
    """Two domains of three clips as `cia-extract` writes them."""
    for seed, name in enumerate(("here", "there")):
        make_dataset(path, name, seed, clips_per_class=1, frames=1, modalities=("rgb",))
    return path


def used(path: Path) -> None:
    """Everything that `cia-adapt` reads of a file: its domains, what `check` looks at, what a run trains on."""
    domains = find_domains(path)
    checking.check(path, (), ())
    setup = config.load("demo", "cia", {"train_split": "all", "val_split": "all"}).setup
    if {"here", "there"} <= domains.keys():
        stores = Stores(torch.device("cpu"), "ram")
        task, _ = tasks.make_task(domains["here"], domains["there"], ("rgb",), True, setup, stores)
        for clips in (task.source_train.clips, task.target_val):
            clips.batch(np.arange(len(clips)), np.zeros((len(clips), 1), int))
    for domain in domains.values():
        domain.dataset.digest()


def one_line(attempt: Callable[[Path], object], path: Path) -> bool:
    """Whether the file was used, rather than refused in one line."""
    try:
        attempt(path)
    except CiaError as error:
        assert len(printable(str(error))) < 3000, str(error)[:300]  # as the commands print it
        return False
    return True


def verified(path: Path) -> None:
    """`cia-extract verify` of it."""
    ended = in_this_process(main, "verify", path)
    assert ended.returncode in (0, 3), ended.stderr
    assert len(ended.stderr.splitlines()) == (ended.returncode == 3) and ended.stderr.strip().isprintable(), ended.stderr


# --- structure ----------------------------------------------------------------------------------------------------------

TYPES = ["f2", ">f4", "f8", "i1", "u8", "?", "S3", "f4,S2", "(2,)f4", "c8", h5py.string_dtype(), h5py.ref_dtype,
         h5py.vlen_dtype("i4"), h5py.enum_dtype({"A": 1}), h5py.opaque_dtype(np.dtype("M8[s]"))]  # fmt: skip
SHAPES = [
    (),
    (0,),
    (1,),
    (CLIPS,),
    (CLIPS, 1),
    (CLIPS, 3),
    (3, CLIPS),
    (CLIPS, FRAMES, 3),
    (CLIPS, FRAMES, 3, 2, 2),
    (CLIPS, 1, 1, 1, 1, 1),
]
NAMES = ["new", "rgb", "clips", "status", "domain", "split", "maps", "x" * 300, "\x1b[2J", "=cmd()", "..", "ä\u202e"]
TEXTS = [b"", b"\xff\xfe", b"x" * 70_000, b"\x1b[2J", b"a\nb", "\u202e".encode(), b"../../etc", b"<script>"]
ATTRIBUTES = ["recipe", "recipe_sha256", "root", "columns_crc32c", "schema", "created_by", "about"]
VALUES = [
    0,
    -1,
    1.5,
    "",
    "x",
    "{}",
    "[]",
    "[" * 9000,
    '{"modalities": ["rgb"], "frames": 1}',
    "null",
    b"\xff",
    np.arange(3),
    np.float32("nan"),
]


def places(file: h5py.File) -> list[str]:
    """The names of all groups and arrays."""
    names: list[str] = []
    file.visit(names.append)
    return sorted(names)


def change(file: h5py.File, data: st.DataObject) -> None:
    """One thing of the file is another."""
    names = places(file)
    at = data.draw(st.sampled_from(names)) if names else "new"
    if data.draw(st.integers(0, 3)) == 0:
        at = f"{at.rpartition('/')[0]}/{data.draw(st.sampled_from(NAMES))}"
    holder = file.get(at)
    match data.draw(
        st.sampled_from(["type", "type", "texts", "cast", "link", "outside", "virtual", "gone", "group", "attribute", "more"])
    ):
        case "attribute":
            holder = file if data.draw(st.booleans()) or holder is None else holder
            name, value = data.draw(st.sampled_from(ATTRIBUTES)), data.draw(st.sampled_from([None, *VALUES]))
            holder.attrs.pop(name, None)
            if value is not None:
                holder.attrs[name] = value
            return
        case "cast" if isinstance(holder, h5py.Dataset) and holder.dtype.kind in "fiu" and holder.shape:
            with np.errstate(all="ignore"):
                values = holder[...].astype(data.draw(st.sampled_from(["f2", ">f4", "f8", "i1", "u8", "?", "S8"])))
        case "texts":
            values = np.array(
                [data.draw(st.sampled_from(TEXTS)) for _ in range(CLIPS)],
                data.draw(st.sampled_from(["S9", "S70000", h5py.string_dtype()])),
            )
        case kind:
            values = None
    if at in file or file.get(at, getlink=True) is not None:
        del file[at]
    if values is not None:
        file.create_dataset(at, data=values, dtype=values.dtype)
        return
    match kind:
        case "type" | "cast":
            shape, of = data.draw(st.sampled_from(SHAPES)), data.draw(st.sampled_from(TYPES))
            chunks = True if data.draw(st.booleans()) and shape and 0 not in shape else None
            file.create_dataset(
                at, shape, of, chunks=chunks, compression=data.draw(st.sampled_from([None, "gzip", "lzf"])) if chunks else None
            )
        case "link":
            file[at] = h5py.SoftLink(
                data.draw(st.sampled_from([f"/{at}", "/", "/nowhere", "/here", "/here/rgb/maps", *(f"/{n}" for n in names)]))
            )
        case "outside":
            file[at] = h5py.ExternalLink(data.draw(st.sampled_from(["other.h5", file.filename, "/dev/zero"])), f"/{at}")
        case "virtual":
            shape = data.draw(st.sampled_from([shape for shape in SHAPES if shape and 0 not in shape]))
            layout = h5py.VirtualLayout(shape, "f4")
            layout[...] = h5py.VirtualSource(data.draw(st.sampled_from(["other.h5", ".", "/dev/zero"])), f"/{at}", shape)
            file.create_virtual_dataset(at, layout)
        case "group":
            file.create_group(at)
        case "more":
            file[at] = file[data.draw(st.sampled_from(["/", *(place for place in places(file))]))]


@pytest.mark.parametrize("how_often", [25, pytest.param(4000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [make_foreign, make_own])
def test_a_file_of_another_structure_is_read_or_refused_in_one_line(tmp_path, make, how_often):
    sound = make(tmp_path / "sound.h5")
    assert one_line(used, sound)
    spoiled = tmp_path / "f.h5"

    @settings(
        max_examples=how_often, deadline=60_000, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def fuzz(data):
        shutil.copyfile(sound, spoiled)
        with h5py.File(spoiled, "r+") as file:
            for _ in range(data.draw(st.integers(1, 3))):
                try:
                    change(file, data)
                except (TypeError, ValueError, OSError, KeyError, RuntimeError):  # h5py itself refuses to write it
                    continue
        one_line(used, spoiled)
        verified(spoiled)

    fuzz()


# --- bytes --------------------------------------------------------------------------------------------------------------

SPOILED = """
import json, signal, sys
from pathlib import Path
from tests import hostile
from tests.faults import test_feature_files as files
begin, end, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
sound = [path.read_bytes() for path in sorted(folder.glob("sound*.h5"))]
before, counts = hostile.peak_mb(), {"read": 0, "refused": 0}
for seed in range(begin, end):
    (folder / "seed").write_text(str(seed))
    (folder / "f.h5").write_bytes(files.spoiled(sound, seed))
    signal.alarm(60)  # ends the process, whatever the library does
    counts["read" if files.one_line(files.used, folder / "f.h5") else "refused"] += 1
    files.verified(folder / "f.h5")
print(json.dumps(counts | {"mb": hostile.peak_mb() - before}))
"""


def spoiled(sound: list[bytes], seed: int) -> bytes:
    """A file with a few bytes, numbers or pieces of another, or with a sector of zeros."""
    chance = random.Random(seed)
    whole = chance.choice(sound)
    data = bytearray(whole)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(data) if len(whole) < 100_000 or chance.random() < 0.1 else 8000)
        match chance.randrange(6):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                number = chance.choice([0, 1, 1 << 32, 1 << 63, (1 << 64) - 1, chance.randrange(len(data)) & ~7])
                data[at & ~7 : (at & ~7) + 8] = number.to_bytes(8, "little")
            case 3:
                other, length = chance.randrange(len(data)), chance.choice([8, 16, 64])
                data[at : at + length] = data[other : other + length]
            case 4 if chance.random() < 0.5:
                data[at & ~255 : (at & ~255) + 256] = bytes(256)
            case 5 if chance.random() < 0.2:
                return hostile.mutated(whole, whole, chance)
    return bytes(data)


@pytest.mark.parametrize(("begin", "end"), [(0, 12), pytest.param(12, 6000, marks=pytest.mark.slow)])
def test_changed_bytes_are_read_or_refused_and_the_process_goes_on(tmp_path, begin, end):
    make_foreign(tmp_path / "sound0.h5", compression="gzip", shuffle=True, fletcher32=True)
    make_foreign(tmp_path / "sound1.h5")
    make_own(tmp_path / "sound2.h5")
    try:
        counts = json.loads(hostile.in_its_own_process(SPOILED, begin, end, tmp_path, memory_gb=6, seconds=3000))
    except AssertionError as error:
        raise AssertionError(f"seed {(tmp_path / 'seed').read_text()}: {error}") from error
    assert counts["read"] and counts["refused"] and counts["mb"] < 1000, counts
