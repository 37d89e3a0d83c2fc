import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from cia_extract import checkpoints, weights
from cia_extract.errors import DataError, UsageError


def read_index(path: Path) -> dict[str, str]:
    """{variable: CRC32C} of a TensorFlow checkpoint index: LevelDB's table format with protobuf values, read by hand."""
    data = path.read_bytes()

    def varint(buffer: bytes, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = buffer[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    def block(offset: int, size: int):
        assert data[offset + size] == 0, "compressed block"
        content = data[offset : offset + size]
        end = size - 4 - 4 * struct.unpack("<I", content[-4:])[0]
        at, key = 0, b""
        while at < end:
            shared, at = varint(content, at)
            fresh, at = varint(content, at)
            length, at = varint(content, at)
            key = key[:shared] + content[at : at + fresh]
            yield key, content[at + fresh : at + fresh + length]
            at += fresh + length

    footer = data[-48:]
    _, at = varint(footer, 0)
    _, at = varint(footer, at)
    offset, at = varint(footer, at)
    size, _ = varint(footer, at)
    found = {}
    for _, handle in block(offset, size):
        start, at = varint(handle, 0)
        for key, value in block(start, varint(handle, at)[0]):
            if key:
                masked = struct.unpack("<I", value[-4:])[0]  # field 6, fixed32, comes last
                rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
                found[key.decode().split("/", 2)[2]] = f"{((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF:08x}"
    return found


def test_crc_table_equals_deepminds_index_files(shared):
    table = checkpoints.crc_table()
    assert len(table) == 4
    for name, rows in table.items():
        index = read_index(shared / f"references/kinetics_i3d/checkpoint_index/{name}.model.ckpt.index")
        assert len(rows) == 230
        assert rows == index


def test_the_downloaded_weights_are_rgb_scratch_tensor_by_tensor(kinetics):
    assert checkpoints.identify(kinetics.tensors) == ("rgb_scratch", 230)
    assert kinetics.name == "rgb_scratch"
    assert "230/230" in kinetics.provenance


def test_one_changed_value_is_noticed(kinetics):
    changed = dict(kinetics.tensors)
    changed["Mixed_5c/Branch_0/Conv3d_0a_1x1/batch_norm/beta"] = changed["Mixed_5c/Branch_0/Conv3d_0a_1x1/batch_norm/beta"] + 1e-7
    assert checkpoints.identify(changed) == ("rgb_scratch", 229)


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("gotcha",))

    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"params": Evil(), "batch_stats": {}}))
    with pytest.raises(DataError, match=r"builtins\.print"):
        checkpoints.read(path)


def test_a_torch_pickle_that_wants_to_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("gotcha",))

    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(DataError, match="cannot be read"):
        checkpoints.read(tmp_path / "evil.pt")


def to_piergiaj(tensors: checkpoints.Tensors) -> dict[str, torch.Tensor]:
    """The state dict that pytorch-i3d would save, written down from its published names."""
    branch = {
        "Branch_0/Conv3d_0a_1x1": "b0", "Branch_1/Conv3d_0a_1x1": "b1a", "Branch_1/Conv3d_0b_3x3": "b1b",
        "Branch_2/Conv3d_0a_1x1": "b2a", "Branch_2/Conv3d_0b_3x3": "b2b", "Branch_2/Conv3d_0a_3x3": "b2b",
        "Branch_3/Conv3d_0b_1x1": "b3b",
    }  # fmt: skip
    leaf = {"conv_3d/w": "conv3d.weight", "conv_3d/b": "conv3d.bias", "batch_norm/beta": "bn.bias",
            "batch_norm/moving_mean": "bn.running_mean", "batch_norm/moving_variance": "bn.running_var"}  # fmt: skip
    state = {}
    for name, array in tensors.items():
        unit, suffix = name.rsplit("/", 2)[0], "/".join(name.rsplit("/", 2)[1:])
        if unit.startswith("Mixed"):
            block, rest = unit.split("/", 1)
            unit = f"{block}.{branch[rest]}"
        unit = "logits" if unit.startswith("Logits") else unit
        state[f"{unit}.{leaf[suffix]}"] = torch.from_numpy(
            array.transpose(4, 3, 0, 1, 2).copy() if array.ndim == 5 else array.copy()
        )
        if suffix == "batch_norm/beta":
            state[f"{unit}.bn.weight"] = torch.ones(len(array))
    return state


def test_a_users_pytorch_i3d_file_is_recognised(kinetics, tmp_path):
    path = tmp_path / "rgb.pt"
    torch.save(to_piergiaj(kinetics.tensors), path)
    loaded = weights.load("rgb", str(path), print)
    assert loaded.name == "rgb_scratch" and loaded.sha256 == kinetics.sha256


def test_a_users_flow_file_is_not_inflated(tmp_path):
    tensors = weights.load("flow", "random", print).tensors
    path = tmp_path / "flow.pt"
    torch.save(to_piergiaj(tensors), path)
    loaded = weights.load("flow", str(path), print)
    assert loaded.name == "file:flow.pt" and "no known checkpoint" in loaded.provenance
    np.testing.assert_array_equal(loaded.tensors["Conv3d_1a_7x7/conv_3d/w"], tensors["Conv3d_1a_7x7/conv_3d/w"])


def test_cross_modality_initialisation(kinetics):
    flow = weights.load("flow", "kinetics", print)
    kernel = flow.tensors["Conv3d_1a_7x7/conv_3d/w"]
    assert kernel.shape == (7, 7, 7, 2, 64)
    for channel in (0, 1):
        np.testing.assert_array_equal(kernel[..., channel, :], kinetics.tensors["Conv3d_1a_7x7/conv_3d/w"].mean(3))
    assert flow.name == "rgb_scratch-inflated" and "never trained on flow" in flow.provenance


def test_wrong_weights_are_named_not_loaded(kinetics):
    flow = weights.load("flow", "kinetics", print)
    with pytest.raises(DataError, match=r"do not fit the rgb I3D.*Conv3d_1a_7x7"):
        weights.build("rgb", flow)
    partial = weights.Weights("part", "", "", {k: v for k, v in kinetics.tensors.items() if "Mixed_4c" not in k})
    with pytest.raises(DataError, match=r"Mixed_4c.* is missing.* and \d+ more"):
        weights.build("rgb", partial)


def test_a_damaged_cache_is_not_used(kinetics, tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    changed = dict(kinetics.tensors)
    changed["Conv3d_2b_1x1/batch_norm/beta"] = changed["Conv3d_2b_1x1/batch_norm/beta"] * 2
    save_file(changed, tmp_path / "i3d_rgb_scratch.safetensors")
    monkeypatch.setenv("CIA_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"damaged, 229 of 230 tensors are right; delete it"):
        weights.load("rgb", "kinetics", print)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CIA_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set CIA_CACHE"):
        weights.load("rgb", "kinetics", print)


def test_random_weights_are_the_same_every_time_and_say_so():
    first, second = (weights.load("rgb", "random", print) for _ in range(2))
    assert first.sha256 == second.sha256
    assert first.name == "random" and "not a trained network" in first.provenance


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.ckpt", "w.tar.gz", "w.h5"])
def test_unreadable_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"junk")
    with pytest.raises(DataError, match=r"weights .*w\."):
        checkpoints.read(tmp_path / name)


@pytest.mark.parametrize(
    ("modalities", "requests", "expected"),
    [
        (("rgb", "flow"), [], {"rgb": "kinetics", "flow": "kinetics"}),
        (("rgb", "flow"), ["random"], {"rgb": "random", "flow": "random"}),
        (("rgb", "flow"), ["a.pt"], {"rgb": "a.pt", "flow": "a.pt"}),
        (("rgb", "flow"), ["flow=b.pt", "random"], {"rgb": "random", "flow": "b.pt"}),
        (("flow",), ["a.pt"], {"flow": "a.pt"}),
        (("rgb", "flow"), ["a.pt", "flow=b.pt"], {"rgb": "a.pt", "flow": "b.pt"}),
    ],
)
def test_choice_of_weights(modalities, requests, expected):
    assert weights.choose(modalities, requests) == expected


def test_weights_for_a_stream_that_is_not_extracted():
    with pytest.raises(UsageError, match="add --modality flow"):
        weights.choose(("rgb",), ["flow=b.pt"])
