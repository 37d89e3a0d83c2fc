"""`cia-extract weights …`, run as the command line runs it."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cia_extract.cli import weights as cli_weights
from cia_extract.common import entry
from cia_extract.networks import weights
from cia_extract.networks.weights import identity, known, layouts
from cia_extract.networks.weights.cache import cached
from safetensors.numpy import load_file, save_file

from tests.extract.file_server import serving
from tests.extract.weight_files import random_tbn, save_tbn, to_torch


@pytest.fixture
def cli(monkeypatch, capsys):
    """(exit code, stdout, stderr) of the command with these arguments."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["cia-extract weights", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            entry.run(lambda: cli_weights.app, "cia-extract weights")
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def tbn_file(tmp_path_factory) -> Path:
    return save_tbn(tmp_path_factory.mktemp("tbn") / "TBN-epic-kitchens-55.pth")


def test_list(cli, kinetics):
    code, out, _ = cli("list")
    assert code == 0 and all(name in out for name in known.KNOWN)
    code, out, _ = cli("list", "--json")
    rows = json.loads(out)
    assert Path(rows["kinetics"]["cached"]).is_file()
    for row in rows.values():
        assert set(row) == {"network", "what", "source", "licence", "check", "addresses", "cached"} and all(row.values())
    for blob, file in identity.GIT_BLOBS.items():
        assert blob in rows[file.split(".")[0]]["check"]


def test_list_before_anything_is_downloaded(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("CIA_CACHE", str(tmp_path))
    where = json.loads(cli("list", "--json")[1])["kinetics"]["cached"]
    assert where == f"not yet; will be {tmp_path / 'i3d_rgb_scratch.safetensors'}"


def test_get(cli, kinetics):
    assert cli("get", "kinetics")[:2] == (0, f"{cached()}: rgb_scratch 230/230\n")
    code, _, err = cli("get", "tbn-epic-55")
    assert code == 2 and "Dropbox" in err and "CC BY-NC-SA" in err and len(err.splitlines()) == 1
    code, _, err = cli("get", "rgb_imagnet")
    assert code == 2 and "choose from kinetics, rgb_imagenet" in err and "did you mean rgb_imagenet?" in err
    code, _, err = cli("get", "rgb_imagenet", "--sha256", "abc")
    assert code == 2 and "--sha256 abc: give 64 hexadecimal digits" in err


def test_get_from_elsewhere(cli, kinetics, tmp_path, monkeypatch):
    """The default's own file, brought into an empty cache by path and by address, as a machine without pip would have it."""
    source = cached()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    monkeypatch.setenv("CIA_CACHE", str(tmp_path))
    code, out, err = cli("get", "kinetics", "--from", source, "--sha256", digest)
    assert (code, out) == (0, f"{tmp_path / 'i3d_rgb_scratch.safetensors'}: rgb_scratch 230/230\n")
    assert "checked (230/230 tensors by CRC32C)" in err
    code, _, err = cli("get", "rgb_imagenet", "--from", source)
    assert code == 3 and "is not rgb_imagenet (rgb_scratch 230/230)" in err and len(err.splitlines()) == 1
    with serving(b"no weights") as server:
        code, _, err = cli("get", "rgb_imagenet", "--from", server.url("whole"))
    assert code == 2 and f"{server.url('whole')}: " in err and "cannot be downloaded" in err


def test_identify_i3d(cli, kinetics, tmp_path):
    path = tmp_path / "rgb.pt"
    torch.save(to_torch(kinetics.tensors, "hassony2"), path)
    code, out, err = cli("identify", path, "--json")
    report = json.loads(out)
    assert code == 0 and err == ""
    assert (report["network"], report["layout"], report["identity"]) == ("i3d", "hassony2", "rgb_scratch 230/230")
    assert report["streams"] == {"rgb": "230 tensors"} and report["misfits"] == {} and report["known_file"] == "none"
    assert report["git_blob"] == identity.git_blob(path)
    code, out, _ = cli("identify", path)
    assert code == 0 and "identity: rgb_scratch 230/230\n" in out and "  rgb: 230 tensors\n" in out


def test_identify_knows_the_public_files_by_gits_id(cli, tmp_path, monkeypatch):
    """The files cannot be had here: the table gets the id of a file that can."""
    path = tmp_path / "stem.safetensors"
    save_file({"conv2_3x3.bias": np.zeros(192, np.float32)}, path)
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setitem(identity.GIT_BLOBS, git, "stem.safetensors of nobody")
    assert json.loads(cli("identify", path, "--json")[1])["known_file"] == "stem.safetensors of nobody"


def test_identify_tbn(cli, tbn_file):
    code, out, _ = cli("identify", tbn_file)
    assert code == 0
    assert "identity: TBN, streams rgb, flow, spec, all 69 convolutions present, no reference checksum known\n" in out
    assert "  audio: 414 tensors\n" in out


def test_identify_lists_all_that_does_not_fit(cli, tmp_path):
    """A whole table on stdout, one line on stderr, exit code 3."""
    gone = [name for name in random_tbn()["rgb"] if name.startswith("inception_4b_")]
    tensors = {f"rgb.{name}": array for name, array in random_tbn()["rgb"].items() if name not in gone}
    tensors |= {"rgb.conv2_3x3.bias": np.zeros(7, np.float32), "gate.weight": np.zeros(3, np.float32)}
    save_file(tensors, tmp_path / "part.safetensors")
    code, out, err = cli("identify", tmp_path / "part.safetensors", "--json")
    report = json.loads(out)
    assert code == 3 and len(err.splitlines()) == 1 and f"{len(gone) + 2} tensors do not fit" in err
    assert report["misfits"]["file"] == ["gate.weight does not belong"]
    assert report["misfits"]["rgb"] == [*(f"{name} is missing" for name in gone), "conv2_3x3.bias is (7,), not (192,)"]
    assert "spec" not in report["identity"] and "rgb lacks 7 of 69 convolutions (inception_4b_1x1, " in report["identity"]
    code, out, _ = cli("identify", tmp_path / "part.safetensors")
    assert code == 3 and all(name in out for name in gone)


def test_identify_something_else(cli, tmp_path):
    torch.save({"conv1.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(3)}, tmp_path / "resnet.pth")
    code, out, err = cli("identify", tmp_path / "resnet.pth")
    assert code == 3 and "identity: no I3D and no TBN\n" in out and "conv1.weight does not belong" in out
    assert "2 tensors do not fit" in err
    code, out, err = cli("identify", tmp_path / "none.pth")
    assert (code, out) == (3, "") and "no such file" in err


@pytest.mark.parametrize("layout", ["tf", "piergiaj", "hassony2"])
def test_convert_there_and_back_bit_for_bit(cli, kinetics, tmp_path, layout):
    torch.save(to_torch(kinetics.tensors, "piergiaj"), tmp_path / "rgb.pt")
    code, out, _ = cli("convert", tmp_path / "rgb.pt", "--out", tmp_path / "there.safetensors", "--layout", layout)
    assert code == 0 and "rgb_scratch 230/230" in out
    assert load_file(tmp_path / "there.safetensors").keys() == layouts.written(kinetics.tensors, layout).keys()
    assert cli("convert", tmp_path / "there.safetensors", "--out", tmp_path / "back.safetensors")[0] == 0
    back = load_file(tmp_path / "back.safetensors")
    assert identity.sha256(back) == kinetics.sha256
    assert weights.load("i3d", "rgb", str(tmp_path / "there.safetensors"), print).sha256 == kinetics.sha256


def test_convert_two_streams_of_i3d(cli, kinetics, tmp_path):
    flow = weights.load("i3d", "flow", "random", print)
    both = {f"RGB/inception_i3d/{name}": array for name, array in kinetics.tensors.items()}
    both |= {f"Flow/inception_i3d/{name}": array for name, array in flow.tensors.items()}
    np.savez(tmp_path / "both.npz", **both)
    code, out, _ = cli("convert", tmp_path / "both.npz", "--out", tmp_path / "both.safetensors")
    assert code == 0 and "460 tensors, rgb_scratch 230/230; no known checkpoint" in out
    loaded = weights.load("i3d", "flow", str(tmp_path / "both.safetensors"), print)
    assert loaded.sha256 == flow.sha256
    code, _, err = cli("convert", tmp_path / "both.npz", "--out", tmp_path / "x.safetensors", "--layout", "piergiaj")
    assert code == 2 and "use --layout tf" in err


def test_convert_tbn(cli, tbn_file, tmp_path):
    """The classifier stays behind, the streams keep their names, and the file serves as the old one did."""
    out = tmp_path / "tbn.safetensors"
    assert cli("convert", tbn_file, "--out", out)[0] == 0
    written = load_file(out)
    assert len(written) == 3 * 414 and "spec.inception_5b_pool_proj_bn.running_var" in written
    for modality, tensors in random_tbn().items():
        assert weights.load("tbn", modality, str(out), print).sha256 == identity.sha256(tensors)
    code, _, err = cli("convert", tbn_file, "--out", tmp_path / "x.safetensors", "--layout", "tf")
    assert code == 2 and "holds a TBN; leave --layout out" in err


def test_what_convert_refuses(cli, tmp_path):
    path, out = tmp_path / "w.safetensors", tmp_path / "out.safetensors"
    save_file({"conv2_3x3.bias": np.zeros(192, np.float32)}, path)
    code, _, err = cli("convert", path, "--out", out)
    assert code == 3 and "tensors do not fit" in err and not out.exists()
    for arguments, expected, message in (
        (("--out", tmp_path / "w.pt"), 2, "must end in .safetensors"),
        (("--out", path), 4, "is there already; pass --overwrite"),
        (("--out", out, "--layout", "caffe"), 2, "choose from tf, piergiaj, hassony2"),
    ):
        code, _, err = cli("convert", path, *arguments)
        assert code == expected and message in err and len(err.splitlines()) == 1


def test_a_folder_that_is_not_there(cli, kinetics, tmp_path):
    code, _, err = cli("convert", cached(), "--out", tmp_path / "none" / "x.safetensors")
    assert code == 2 and "cannot be written" in err and len(err.splitlines()) == 1


def test_help_needs_no_torch():
    code = "import sys; from cia_extract.cli import weights; "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
