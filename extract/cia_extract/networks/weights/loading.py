"""The networks' weights, by name or file, and their description for the user and the feature file."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

import cia_extract.networks.weights.cache as cache
import cia_extract.networks.weights.checkpoint as checkpoints
import cia_extract.networks.weights.fit as fit
import cia_extract.networks.weights.identity as identity
from cia_extract.common.errors import DataError, UsageError
from cia_extract.networks.streams import IN_CHANNELS
from cia_extract.networks.weights.files import statement
from cia_extract.networks.weights.fit import TITLE, Misfit, MisfitError, Network
from cia_extract.networks.weights.known import BEST, KNOWN
from cia_extract.networks.weights.layouts import FIRST_KERNEL, IN_AXIS, Checkpoint, Tensors

FINE_TUNED: Final = "fine-tuned"
"""How the provenance of weights that `cia-adapt --clips` has trained begins."""


@dataclass(frozen=True)
class Weights:
    """Weights of one stream, canonical. `name`, `sha256` and `provenance` go into the feature file and onto the screen."""

    name: str
    sha256: str
    provenance: str
    tensors: Tensors

    def describe(self) -> dict[str, str]:
        """Name, checksum and provenance, as the feature file records them."""
        return {"name": self.name, "sha256": self.sha256, "provenance": self.provenance}


def choose(modalities: Sequence[str], requests: Sequence[str], backbone: str) -> dict[str, str]:
    """Turn `--weights` values into one choice a modality: a name of `KNOWN`, `auto`, `random`, or a file.

    A plain value is for every stream (a flow network is inflated from a file that has RGB only), a prefixed one (`flow=FILE`)
    for the stream it names. I3D's default is `kinetics`; TBN, and so audio with any backbone, has none, and so no `auto`.
    Raises UsageError.

    >>> choose(("rgb", "flow"), ["flow=flow_imagenet.pt"], "i3d")
    {'rgb': 'kinetics', 'flow': 'flow_imagenet.pt'}
    """
    plain, named = "kinetics", {}
    for request in requests:
        modality, separator, value = request.partition("=")
        if not (separator and any(modality in channels for channels in IN_CHANNELS.values())):
            plain = request
        elif modality in modalities:
            named[modality] = value
        else:
            raise UsageError(f"--weights {request}: {modality} is not extracted; add --modality {modality}")
    choices = dict.fromkeys(modalities, plain) | named
    for modality, choice in choices.items():
        if not choice:
            raise UsageError(f"--weights {modality}=: names no file; pass --weights {modality}=FILE")
        if choice in {"kinetics", "auto"} and (backbone == "tbn" or modality not in IN_CHANNELS["i3d"]):
            raise UsageError(_no_default(modality))
    return choices


def _no_default(modality: str) -> str:
    return (
        f"the {modality} stream of TBN has no default weights; download TBN-epic-kitchens-55.pth "
        "(Dropbox, linked in the README of github.com/ekazakos/temporal-binding-network) and pass "
        f"--weights {'audio=' if modality == 'audio' else ''}FILE, or random instead of FILE for a dry exercise"
    )


def settle(choices: Mapping[str, str], begun: Mapping[str, str], say: Callable[[str], None]) -> dict[str, str]:
    """Choices without `auto`: what the feature file has already, else ImageNet's and Kinetics' weights, else `kinetics`.

    Args:
        choices: as `choose` returns them.
        begun: {modality: name of its weights} of what is in the feature file; empty for a new one.
        say: told in one sentence what is worse, when `kinetics` has to do.
    """
    modalities = [modality for modality, choice in choices.items() if choice == "auto"]
    if not modalities:
        return dict(choices)
    names = {begun.get(modality, "").removesuffix("-inflated") for modality in modalities}
    if names == {"rgb_scratch"}:
        return {**choices, **dict.fromkeys(modalities, "kinetics")}
    try:
        for modality in modalities:
            cache.get(BEST[modality], say, tries=1)
    except UsageError as error:
        if names <= set(BEST.values()):
            raise  # a dataset that was begun with them cannot go on with others
        worse = {"rgb": "68.4 % instead of 71.1 % top-1 on Kinetics-400", "flow": "a flow stream that was never trained on flow"}
        say(f"--weights auto: takes kinetics, which is worse: {' and '.join(worse[m] for m in modalities)}; {error}")
        return {**choices, **dict.fromkeys(modalities, "kinetics")}
    return {**choices, **{modality: BEST[modality] for modality in modalities}}


def load(backbone: str, modality: str, choice: str, say: Callable[[str], None]) -> Weights:
    """Weights of one stream by name or file; those with a name are downloaded once.

    Raises UsageError or DataError, and MisfitError (a DataError with the whole `table`) if they do not fit the network.
    """
    if choice == "random":
        return _random(backbone, modality)
    if choice == "kinetics" and backbone != "i3d":
        raise UsageError(_no_default(modality))
    name = choice if choice in KNOWN else ""
    path = cache.get(name, say) if name else Path(choice)
    checkpoint = _read(path, path.stat().st_mtime_ns if os.path.isfile(path) else 0, name)
    source = _source(path, checkpoint, backbone, modality)
    tensors = checkpoint.streams[source]
    inflated = modality == "flow" and source == "rgb"
    misfits = fit.misfits(backbone, "rgb" if inflated else modality, tensors)
    table = [Misfit(extra, "does not belong") for extra in checkpoint.extra] + misfits
    if table:
        raise MisfitError(f"weights {path}", f"{modality} {TITLE[backbone]}", table, _hint())
    name, proof = _identity(name, path, checkpoint, source)
    if inflated:
        tensors = _inflated(backbone, tensors)
        name = f"{name}-inflated"
        proof = (
            f"cross-modality initialisation from RGB ({proof}): first convolution averaged over its input channels and "
            "repeated; never trained on flow"
        )
    return Weights(name, identity.sha256(tensors), proof, tensors)


@lru_cache(maxsize=1)
def _read(path: Path, modified: int, name: str) -> Checkpoint:
    """A file, read once for all its streams; `modified` is its time (ns), so that another file in its place is read anew.

    With a `name`, the file is the cache's and must still be what was stored.
    """
    checkpoint = checkpoints.read(path)
    if name:
        cache.check_cached(name, path, checkpoint)
    return checkpoint


def build(backbone: str, modality: str, weights: Weights, head: bool = False, eps: float | None = None) -> Network:
    """The network of one stream with its weights, in evaluation mode; `eps` replaces the eps of its batch normalisation.

    `head` adds I3D's Kinetics classifier. Raises MisfitError.
    """
    table = fit.misfits(backbone, modality, weights.tensors, head)
    if table:
        raise MisfitError(f"weights {weights.name}", f"{modality} {TITLE[backbone]}", table)
    network = fit.create(backbone, modality, head)
    fit.fill(network, weights.tensors)
    for module in network.modules():
        if eps is not None and isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.eps = eps
    return network.eval()


def _source(path: Path, checkpoint: Checkpoint, backbone: str, modality: str) -> str:
    """The stream of the file to use: of this modality, of unknown modality, or RGB for a flow network. Raises DataError."""
    subject, network = f"weights {path}", f"{modality} {TITLE[backbone]}"
    if checkpoint.network == "unknown":
        raise MisfitError(subject, network, [Misfit(name, "does not belong") for name in checkpoint.extra], _hint())
    held = f"{checkpoint.layout} file with {sum(map(len, checkpoint.streams.values()))} tensors of {TITLE[checkpoint.network]}"
    if checkpoint.network != backbone:
        advice = "pass --weights audio=FILE with a TBN" if modality == "audio" else f"add --backbone {checkpoint.network}"
        raise DataError(f"{subject} do not fit the {network}: it is a {held}; {advice}")
    for stream in (modality, "unknown", *(["rgb"] if modality == "flow" else [])):
        if stream in checkpoint.streams:
            return stream
    streams = ", ".join(checkpoint.streams)
    never = "; audio is never made from another stream" if modality == "audio" else ""
    raise DataError(
        f"{subject} do not fit the {network}: it is a {held}, of {streams} only{never}; "
        f"pass --weights {modality}=FILE with a {modality} stream"
    )


def _hint() -> str:
    return " (all of them: cia-extract weights identify FILE)"


def _identity(known: str, path: Path, checkpoint: Checkpoint, stream: str) -> tuple[str, str]:
    """(name, proof) of one stream of a file, which has a known name or none.

    What a file of our own says of its training stands for a proof.
    """
    stated = statement(path)
    if stated.startswith(FINE_TUNED):
        return f"file:{path.name}", stated
    if known and not KNOWN[known].crc32c:
        return known, f"{stream} stream of {known}, from {KNOWN[known].source}; no reference checksums of it exist"
    if checkpoint.network == "tbn":
        return f"file:{path.name}", f"{stream} stream of a {checkpoint.layout} file; no reference checksums of TBN exist"
    identified = identity.identify(checkpoint.streams[stream])
    proof = f"{identified.matches}/{identified.total} tensors have the CRC32C of DeepMind's {identified.name}"
    return (
        identified.name if identified.complete else f"file:{path.name}",
        proof if identified.matches else "no known checkpoint",
    )


def _inflated(backbone: str, rgb: Tensors) -> Tensors:
    """Cross-modality initialisation (Wang et al. 2016, TSN): every flow channel gets the first kernel's mean over RGB."""
    name, axis = FIRST_KERNEL[backbone], IN_AXIS[backbone]
    mean = rgb[name].mean(axis=axis, keepdims=True)
    return rgb | {name: np.repeat(mean, IN_CHANNELS[backbone]["flow"], axis=axis)}


def _random(backbone: str, modality: str) -> Weights:
    """He initialisation with seed 0, which keeps the size of activations. Used only on request: such features mean nothing."""
    random = np.random.default_rng(0)
    tensors: Tensors = {}
    for name, shape in fit.shapes(backbone, modality, head=True).items():
        if len(shape) > 1:
            out_channels = shape[0] if backbone == "tbn" else shape[-1]
            scale = (2 * out_channels / np.prod(shape)) ** 0.5
            tensors[name] = random.standard_normal(shape, np.float32) * np.float32(scale)
        else:
            ones = name.endswith(("moving_variance", "running_var", "_bn.weight"))
            tensors[name] = np.full(shape, float(ones), np.float32)
    return Weights("random", identity.sha256(tensors), "random values, seed 0: not a trained network", tensors)
