"""Malicious or damaged weight files give one line that names the file, and never more memory than weights need."""

import gzip
import json
import os
import pickle
import re
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from cia_extract.cli import main
from cia_extract.common.errors import DataError
from cia_extract.networks import weights
from cia_extract.networks import weights as checkpoints
from cia_extract.networks.weights import files

from tests import hostile
from tests.command_line import in_this_process
from tests.extract.weight_files import random_tbn

SMALL = {"conv1_7x7_s2.weight": torch.zeros(64, 3, 7, 7), "conv1_7x7_s2.bias": torch.arange(64.0)}


def repacked(path, compression=zipfile.ZIP_STORED, **entries):
    """A zip of torch.save with some entries replaced (None: left out)."""
    with zipfile.ZipFile(path) as old:
        contents = {info.filename: old.read(info) for info in old.infolist()}
    root = next(iter(contents)).split("/")[0]
    contents |= {f"{root}/{name}": content for name, content in entries.items()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in contents.items():
            if content is not None:
                new.writestr(name, content)
    return path


def save(path, content, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def itself():
    content = dict(SMALL)
    content["more"] = content
    return content


TENSORS = {
    "values repeated by strides of zero": lambda: torch.zeros(1).expand(1 << 20, 1 << 12),
    "a view of 65536 MB in 1 KB": lambda: torch.zeros(1).expand(1 << 34),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse by rows": lambda: torch.eye(3).to_sparse_csr(),
    "meta": lambda: torch.empty(1 << 40, device="meta"),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "float8": lambda: torch.ones(2).to(torch.float8_e4m3fn),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_that_is_not_plain_is_refused_by_name(tmp_path, kind, zipped):
    path = save(tmp_path / "w.pt", {"state_dict": SMALL | {"x": TENSORS[kind]()}}, zipped)
    with pytest.raises(
        DataError, match=r"^weights .*w\.pt: (x is a|holds [\d,]+ values, the most in x |a storage|.*grows)"
    ) as error:
        checkpoints.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_complex_tensors_and_counters_are_no_weights(tmp_path, zipped):
    extra = {"c": torch.ones(2, dtype=torch.complex64), "n": torch.tensor(3), "b": torch.tensor([True])}
    assert set(files.read_arrays(save(tmp_path / "w.pt", SMALL | extra, zipped))) == set(SMALL)


@pytest.mark.parametrize("zipped", [True, False])
def test_values_of_views_and_of_other_precisions_are_torchs(tmp_path, zipped):
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "turned": base.T, "part": base[1:3, ::2], "one": torch.zeros(1).expand(3), "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5), "half": base.half(), "bf16": (base / 7).bfloat16(), "double": base.double(),
        "parameter": torch.nn.Parameter(base),
    }  # fmt: skip
    read = files.read_arrays(save(tmp_path / "w.pt", content, zipped))
    assert set(read) == set(content)
    for name, tensor in content.items():
        np.testing.assert_array_equal(read[name], tensor.detach().float().numpy())


def test_a_training_loops_whole_state_is_read(tmp_path):
    """Optimiser, scheduler, arguments as a dictionary, sizes, devices and random states beside the tensors."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 3, 8, 8)).sum().backward()
    optimiser.step()
    rest = {
        "size": torch.Size([1]),
        "device": torch.device("cpu"),
        "type": torch.float32,
        "rng": torch.get_rng_state(),
        "seen": {1, 2},
    }
    content = {"state_dict": network.state_dict(), "optimizer": optimiser.state_dict(), "best": np.float64(0.5)} | rest
    for zipped in (True, False):
        read = files.read_arrays(save(tmp_path / "w.pth", content, zipped))
        assert set(read) == {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"}


def test_half_precision_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    content = {"a": torch.arange(6.0).reshape(2, 3).bfloat16(), "n": torch.tensor([1])}
    save_file(content, tmp_path / "w.safetensors")
    read = files.read_arrays(tmp_path / "w.safetensors")
    assert set(read) == {"a"} and read["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def bomb_npz(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"descr": "<f4", "fortran_order": False, "shape": (96 << 18,)})
        for _ in range(96):
            entry.write(bytes(1 << 20))
    return path


def bomb_pt(path):
    """Storages of 96 MB of zeros in 100 KB."""
    return repacked(save(path, {"x": torch.zeros(96 << 18)}), zipfile.ZIP_DEFLATED)


def header_npz(path, shape, descr="<f4", data=b""):
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"descr": descr, "fortran_order": False, "shape": shape})
        entry.write(data)
    return path


def bomb_tar(path):
    """An archive whose first file is 600 MB of zeros."""
    header = tarfile.TarInfo("big")
    header.size = 600 << 20
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf())
        for _ in range(600):
            file.write(bytes(1 << 20))
    return path


def wild_safetensors(path, header):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(16))
    return path


def evil_names(path):
    return save(path, {"a\x1b[31m\nb": torch.ones(2)})


def many_safetensors(path):
    """300,000 tensors of nothing, whose names alone took 11 seconds and 0.7 GB."""
    tensor = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return wild_safetensors(path, dict.fromkeys(map(str, range(300_000)), tensor))


def fewer_npz(path):
    """One digit of a header changed: half as many values as there are."""
    np.savez(path, x=np.arange(8000, dtype=np.float32).reshape(2000, 4))
    path.write_bytes(path.read_bytes().replace(b"(2000, 4)", b"(1000, 4)"))
    return path


HOSTILE = {
    "an .npz with more than it says": lambda folder: fewer_npz(folder / "w.npz"),
    "safetensors with a header of 19 MB": lambda folder: many_safetensors(folder / "w.safetensors"),
    "an .npz that unpacks to far more": lambda folder: bomb_npz(folder / "w.npz"),
    "a .pt that unpacks to far more": lambda folder: bomb_pt(folder / "w.pt"),
    "an .npz with 10¹² values by its header": lambda folder: header_npz(folder / "w.npz", (10**6, 10**6)),
    "an .npz with less than it says": lambda folder: header_npz(folder / "w.npz", (4, 4), data=bytes(60)),
    "an .npz of objects": lambda folder: header_npz(folder / "w.npz", (1,), "|O", pickle.dumps(1)),
    "an .npz with a negative shape": lambda folder: header_npz(folder / "w.npz", (-1,)),
    "an .npz of empty texts": lambda folder: header_npz(folder / "w.npz", (10**12,), "<U0"),
    "an sdist that unpacks without end": lambda folder: bomb_tar(folder / "w.tar.gz"),
    "a .pt that holds itself": lambda folder: save(folder / "w.pt", itself()),
    "a .pt whose list of tensors is no pickle": lambda folder: repacked(save(folder / "w.pt", SMALL), **{"data.pkl": b"hello"}),
    "a .pt without a storage": lambda folder: repacked(save(folder / "w.pt", SMALL), **{"data/0": None}),
    "a .pt with a storage cut short": lambda folder: repacked(save(folder / "w.pt", SMALL), **{"data/0": b"\0" * 9}),
    "a .pt of another byte order": lambda folder: repacked(save(folder / "w.pt", SMALL), byteorder=b"big"),
    "a zip of other things": lambda folder: header_npz(folder / "w.pt", (1,), data=bytes(4)),
    "a TorchScript program": lambda folder: torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), folder / "w.pt"),
    "safetensors with a header of 2⁶³ bytes": lambda folder: (folder / "w.safetensors").write_bytes(b"\xff" * 7 + b"\x7f{}"),
    "safetensors that end too early": lambda folder: wild_safetensors(
        folder / "w.safetensors", {"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    ),
    "safetensors whose sizes disagree": lambda folder: wild_safetensors(
        folder / "w.safetensors", {"x": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 16]}}
    ),
    "safetensors of 60 KB of [": lambda folder: wild_safetensors(folder / "w.safetensors", b"[" * 60_000),
    "a name with an escape sequence": lambda folder: evil_names(folder / "w.pt"),
    "an .npz of one number": lambda folder: header_npz(folder / "w.npz", (), data=bytes(4)),
    "a .ckpt that doubles": lambda folder: (folder / "w.ckpt").write_bytes(b"\x80\x04}X\x01\0\0\0aN" + b"2\x86" * 60 + b"s."),
    "a .ckpt of bytes as addresses": lambda folder: (folder / "w.ckpt").write_bytes(hostile.array_pickle()),
    "an empty .pt": lambda folder: (folder / "w.pt").write_bytes(b""),
    "an empty .npz": lambda folder: (folder / "w.npz").write_bytes(b""),
}  # fmt: skip


def test_a_long_header_is_named_before_it_is_read(tmp_path):
    path = many_safetensors(tmp_path / "w.safetensors")
    said = (
        r"w\.safetensors: has a header of 1\d,\d{3},\d{3} bytes; I3D and TBN need less than 2,097,152; save their tensors alone$"
    )
    with pytest.raises(DataError, match=said):
        files.read_arrays(path)
    with pytest.raises(DataError, match="has a header of"):
        files.statement(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_file_gives_one_line_and_code_3_from_each_command(tmp_path, attack):
    HOSTILE[attack](tmp_path)
    (path,) = tmp_path.iterdir()
    for words in (("identify", path), ("convert", path, "--out", tmp_path / "out.safetensors")):
        run = in_this_process(main, "weights", *words)
        assert run.returncode == 3, (words[0], run.stderr)
        assert len(run.stderr.splitlines()) == 1 and str(path) in run.stderr and "unexpected" not in run.stderr
        assert run.stderr[:-1].isprintable()


def test_a_tied_tensor_counts_as_often_as_it_stands_in_the_file(tmp_path):
    """A storage of 4 MB under 300 names: 1.2 GB of weights."""
    shared = torch.zeros(1 << 20)
    path = save(tmp_path / "w.pt", {f"x{i}": shared for i in range(300)})
    with pytest.raises(DataError, match=r"314,572,800 values"):
        checkpoints.read(path)


def test_a_file_whose_name_is_a_shell_command_gets_no_advice_that_runs_it(tmp_path):
    path = tmp_path / "x'; touch owned; '.pt"
    torch.save({"state_dict": {"conv": torch.ones(2)}, "random": np.random.default_rng}, path)
    for words in (("weights", "identify", path), ("weights", "convert", path, "--out", tmp_path / "o.safetensors")):
        run = in_this_process(main, *words)
        assert run.returncode == 3 and "default_rng" in run.stderr and "python" not in run.stderr.replace("pytest", "")


def test_a_flow_network_from_half_an_rgb_file_is_told_what_is_missing(tmp_path):
    """It is inflated from RGB's first kernel, which this file lacks or has in another shape."""
    tensors = {f"RGB/inception_i3d/{name}": array for name, array in weights.load("i3d", "rgb", "random", print).tensors.items()}
    first = "RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w"
    for name, kernel in (("none.npz", {}), ("flat.npz", {first: np.ones(3, np.float32)})):
        np.savez(tmp_path / name, **{n: a for n, a in tensors.items() if n != first} | kernel)
        with pytest.raises(DataError, match=r"do not fit the flow I3D, 1 tensor: Conv3d_1a_7x7/conv_3d/w"):
            weights.load("i3d", "flow", str(tmp_path / name), print)


def test_two_streams_of_one_modality_are_not_mixed(tmp_path):
    kernel = np.zeros((7, 7, 7, 3, 64), np.float32)
    np.savez(tmp_path / "w.npz", **{"RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w": kernel, "Conv3d_1a_7x7/conv_3d/w": kernel + 1})
    with pytest.raises(DataError, match=r"w\.npz: holds two rgb streams"):
        checkpoints.read(tmp_path / "w.npz")


def test_the_largest_of_our_networks_is_far_below_the_limit():
    values = sum(array.size for tensors in random_tbn().values() for array in tensors.values())
    assert 7 * values < files.LARGEST < 20 * values


NESTED = """
import io, json, sys, zipfile
from pathlib import Path
from cia_extract.networks.weights import files
from tests import hostile
path = Path(sys.argv[1])
with zipfile.ZipFile(path) as archive:
    entries = {info.filename: archive.read(info) for info in archive.infolist()}
(name,) = [name for name in entries if name.endswith("data.pkl")]
before = hostile.peak_mb()

def read(data):
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, data if entry == name else content)
    files.read_arrays(path)

cases = hostile.nested_anywhere(entries[name])
print(json.dumps(hostile.attempts(read, cases) | {"cases": len(cases), "mb": hostile.peak_mb() - before}))
"""


@pytest.mark.slow
def test_a_value_nested_without_end_is_refused_wherever_it_stands_in_a_pt(tmp_path):
    path = save(tmp_path / "w.pt", {"state_dict": {"x": torch.ones(2)}, "n": 1})
    counts = json.loads(hostile.in_its_own_process(NESTED, path, memory_gb=4))
    assert counts["cases"] > 30 and counts["refused"] > counts["cases"] / 2 and counts["mb"] < 300


FUZZ = """
import io, json, pickle, random, sys, zipfile
from pathlib import Path
import numpy as np
from cia_extract.networks.weights import files
from tests import hostile
chance, count, folder = random.Random(7), int(sys.argv[1]), Path(sys.argv[2])
sound = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
torch_pickles = []
for name, data in sound.items():
    if name.endswith(".pt") and zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            torch_pickles.append((data, next(n for n in archive.namelist() if n.endswith("data.pkl"))))
before = hostile.peak_mb()

def rezipped(data, name):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, hostile.mutated(content, content, chance) if info.filename == name else content)
    return out.getvalue()

def cases():
    for _ in range(count):
        name = chance.choice(list(sound))
        yield Path(name).suffix.encode() + b" " + hostile.mutated(sound[name], chance.choice(list(sound.values())), chance)
        yield b".pt " + rezipped(*chance.choice(torch_pickles))
        yield b".ckpt " + hostile.improvised(chance)

def read(case):
    suffix, _, data = case.partition(b" ")
    path = folder / f"case{suffix.decode()}"
    path.write_bytes(data)
    for array in files.read_arrays(path).values():
        assert array.dtype == np.float32
        array.sum()

np.seterr(all="ignore")
counts = hostile.attempts(read, cases())
print(json.dumps(counts | {"mb": hostile.peak_mb() - before}))
"""


@pytest.fixture
def sound_files(tmp_path):
    """One small file of each kind."""
    from safetensors.torch import save_file

    content = {"state_dict": SMALL | {"half": torch.ones(2, 3).half()}, "epoch": 3, "args": {"lr": 0.1}}
    save(tmp_path / "zip.pt", content)
    save(tmp_path / "old.pt", content, zipped=False)
    arrays = {name: tensor.numpy() for name, tensor in SMALL.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    save_file(SMALL, tmp_path / "a.safetensors")
    (tmp_path / "a.ckpt").write_bytes(pickle.dumps({"params": arrays}, 4))
    return tmp_path


def fuzz(count, folder):
    counts = json.loads(hostile.in_its_own_process(FUZZ, count, folder, memory_gb=4, seconds=3000))
    assert counts["read"] + counts["refused"] == 3 * count
    assert counts["read"] > count / 50 and counts["refused"] > count
    assert counts["mb"] < 400


def test_damaged_weight_files_give_weights_or_one_line(sound_files):
    fuzz(1000, sound_files)


@pytest.mark.slow
def test_many_damaged_weight_files_give_weights_or_one_line(sound_files):
    fuzz(20_000, sound_files)


def test_a_message_of_a_reader_is_cut_to_one_printable_line(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"\x1b[31m" * 100)
    with pytest.raises(DataError) as error:
        checkpoints.read(tmp_path / "w.npz")
    assert re.fullmatch(r"[ -~]+", str(error.value).removeprefix(f"weights {tmp_path}")) and len(str(error.value)) < 400


def test_weights_that_are_almost_all_hole_are_refused_for_that(tmp_path):
    path = save(tmp_path / "w.pt", SMALL)
    os.truncate(path, 100 << 20)
    with pytest.raises(DataError, match=r"^weights .*w\.pt: has 104,857,600 bytes and takes [\d,]+ on the disk; it is damaged$"):
        checkpoints.read(path)
