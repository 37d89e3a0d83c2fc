"""Clips in the place of a feature file: their frames from the cache, and the backbone's first weights."""

import hashlib
import json
from collections.abc import Mapping

from cia_extract.common.console import Say
from cia_extract.common.errors import UsageError
from cia_extract.networks import weights
from cia_extract.networks.weights import Weights

from cia_adapt import footage
from cia_adapt.config import Setup
from cia_adapt.experiments.request import Direction, Request
from cia_adapt.footage import FrameDataset, Pictures, Trunk


def pictures_of(request: Request) -> Pictures:
    """Which frames the request needs of each clip. Raises UsageError for settings that do not go together."""
    assert request.footage is not None
    setup = request.chosen.setup
    if setup.crop > min(setup.short_side, setup.width):
        raise UsageError(f"--crop {setup.crop}: must not be larger than --short-side {setup.short_side} or --width {setup.width}")
    if setup.batch_norm == "synchronised" and request.device.type != "cuda":
        raise UsageError("--batch-norm synchronised: works on GPUs only; take train or frozen here")
    footage.check_layers(setup)
    asked = request.modalities or ("rgb", "flow")
    if unknown := [modality for modality in asked if modality not in ("rgb", "flow")]:
        raise UsageError(f"--modality {unknown[0]}: with --clips the backbone is trained on rgb and flow only")
    return Pictures.of_setup(setup, asked, request.footage.flow)


def datasets(request: Request, say: Say) -> list[FrameDataset]:
    """The datasets of the manifests, each with its frames in the cache. Raises UsageError, DataError, MismatchError."""
    assert request.footage is not None
    return footage.opened(request.footage, pictures_of(request), say)


def first_weights(request: Request, say: Say) -> dict[str, Weights]:
    """{modality: the weights that the backbone begins with}. Raises UsageError, DataError."""
    assert request.footage is not None
    backbone, modalities = request.chosen.setup.backbone, pictures_of(request).modalities
    choices = weights.settle(weights.choose(modalities, request.footage.weights, backbone), {}, say)
    loaded = {modality: weights.load(backbone, modality, choices[modality], say) for modality in modalities}
    for modality, one in loaded.items():
        say(f"{modality} weights: {one.name} ({one.provenance})")
    return loaded


def trunk_of(request: Request, direction: Direction) -> Trunk | None:
    """The backbone with its first weights; None over features. Raises UsageError for a layer that it does not have."""
    if request.footage is None:
        return None
    used = {modality: direction.weights[modality] for modality in direction.modalities}
    return footage.built(used, pictures_of(request).recipe, direction.setup, request.checkpointing)


def weights_digest(loaded: Mapping[str, Weights]) -> str:
    """SHA-256 of the weights {modality: …}, for a run's key; empty where there are none."""
    if not loaded:
        return ""
    return hashlib.sha256(json.dumps({m: one.sha256 for m, one in sorted(loaded.items())}).encode()).hexdigest()


def check_input(setup: Setup, clips: bool) -> None:
    """Raise UsageError where the set-up trains on features and clips are given, or the other way round."""
    if clips and setup.input == "features":
        raise UsageError(
            f"--clips: set-up {setup.name} trains on features; take one that trains the backbone too (e55-i3d, e100-i3d, "
            "demo-i3d), or --input clips"
        )
    if not clips and setup.input == "clips":
        raise UsageError(
            f"--setup {setup.name}: trains the backbone too and needs clips: --clips MANIFEST in place of --features"
        )
