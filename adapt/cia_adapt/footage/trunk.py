"""The backbone as a part of the model: from frames to the maps that all methods take, trained with everything behind it.

I3D sees the S frames of a clip as one window and gives one map, the mean over Mixed_5c's time slices, so that a clip has one
segment. TBN's BN-Inception sees each of the S frames (or its five flows) alone and gives S maps.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Final

import torch
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean
from cia_extract.networks import weights
from cia_extract.recipes import Recipe
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from cia_adapt.config import Setup
from cia_adapt.footage.crops import cropped
from cia_adapt.footage.pictures import Pictures

CROPS: Final = "crops"
"""Key of a batch's crops [B, 5] beside its modalities."""
CHANNELS: Final = 1024


def maps_of_a_clip(setup: Setup) -> int:
    """Number of maps that the backbone gives of a clip: the segments that all behind it see."""
    return 1 if setup.backbone == "i3d" else setup.segments


def grid(setup: Setup) -> tuple[int, int]:
    """(H, W) of a map."""
    return (-(-setup.crop // 32),) * 2


class Trunk(nn.Module):
    """The backbone's streams.

    Args:
        networks: {modality: I3D or BNInception with its weights}.
        recipe: how pixels are scaled for them.
        checkpointing: forget activations and compute them again for the gradient: less memory, a third more time.
    """

    def __init__(self, networks: Mapping[str, nn.Module], recipe: Recipe, setup: Setup, checkpointing: bool = False) -> None:
        super().__init__()
        self.streams = nn.ModuleDict(networks)
        self.backbone, self.crop, self.fixed = setup.backbone, setup.crop, setup.batch_norm == "frozen"
        self.checkpointing = checkpointing
        self.origin: Mapping[str, Mapping[str, str]] = {}
        """{modality: name, checksum and provenance of the first weights}."""
        for network in networks.values():
            for layer in _frozen(network, setup):
                layer.requires_grad_(False)
        for modality in networks:
            rule = recipe.rgb if modality == "rgb" else recipe.flow
            self.register_buffer(f"mean_{modality}", torch.tensor(rule.mean), persistent=False)
            self.register_buffer(f"std_{modality}", torch.tensor(rule.std), persistent=False)

    def train(self, mode: bool = True) -> "Trunk":
        """Training or evaluation mode. Frozen layers, and with `--batch-norm frozen` all statistics, stay as they are."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm) and (self.fixed or not module.bias.requires_grad):
                module.eval()
        return self

    @property
    def steps(self) -> list[nn.Module]:
        """What checkpointing computes again, one after the other, in all streams."""
        return [layer for network in self.streams.values() for layer in _steps(network)]

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{modality: frames [B, S, C, H, W] uint8, "crops": [B, 5] or none} → {modality: maps [B, S or 1, 1024, h, w]}."""
        crops = inputs.get(CROPS)
        return {
            modality: self._maps(network, self._scaled(modality, cropped(inputs[modality], crops, self.crop, modality == "flow")))
            for modality, network in self.streams.items()
        }

    def _scaled(self, modality: str, frames: Tensor) -> Tensor:
        """0 … 255 → (x − mean)/std; TBN's stack of flows repeats the two numbers."""
        mean, std = self.get_buffer(f"mean_{modality}"), self.get_buffer(f"std_{modality}")
        copies = frames.shape[2] // len(mean)
        return (frames - mean.repeat(copies)[:, None, None]) / std.repeat(copies)[:, None, None]

    def _maps(self, network: nn.Module, frames: Tensor) -> Tensor:
        """[B, S, C, h, w] → [B, S or 1, 1024, h', w']."""
        if self.backbone == "i3d":
            return self._run(network, frames.transpose(1, 2)).mean(2)[:, None]
        return self._run(network, frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def _run(self, network: nn.Module, x: Tensor) -> Tensor:
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            out: Tensor = network(x)
            return out
        for layer in _steps(network):
            # The second computation must not count a batch's statistics again.
            x = checkpoint(layer, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_kept(network)))
        return x


def built(loaded: Mapping[str, weights.Weights], recipe: Recipe, setup: Setup, checkpointing: bool = False) -> Trunk:
    """The trunk with these weights {modality: …}. Raises UsageError for a layer that --freeze-until cannot name."""
    networks = {
        m: weights.build(setup.backbone, m, one, eps=recipe.network.bn_eps).requires_grad_(True) for m, one in loaded.items()
    }
    trunk = Trunk(networks, recipe, setup, checkpointing)
    trunk.origin = {modality: one.describe() for modality, one in loaded.items()}
    return trunk


def unfilled(setup: Setup, modalities: Collection[str]) -> Trunk:
    """The trunk without its weights, which the state of a trained model has."""
    recipe = Pictures.of_setup(setup, modalities, "tvl1").recipe  # how flow is computed changes nothing here
    networks = {modality: weights.fit.create(setup.backbone, modality) for modality in modalities}
    for network in networks.values():
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eps = recipe.network.bn_eps
    return Trunk(networks, recipe, setup)


def check_layers(setup: Setup) -> None:
    """Raise UsageError for a layer that --freeze-until cannot name."""
    with torch.device("meta"):
        _frozen(weights.fit.create(setup.backbone, "rgb"), setup)


def _layers(network: nn.Module) -> Mapping[str, nn.Module]:
    """A network's layers in the order in which they are computed."""
    trunk = getattr(network, "trunk", network)
    return dict(trunk.named_children())


def _steps(network: nn.Module) -> Sequence[nn.Module]:
    """What is computed one after the other: I3D's layers; BN-Inception as a whole."""
    return list(getattr(network, "trunk", [network]))


def _frozen(network: nn.Module, setup: Setup) -> list[nn.Module]:
    """The layers up to the last one whose name begins with `freeze_until`; none where that is empty. Raises UsageError."""
    layers, until = _layers(network), setup.freeze_until
    if not until:
        return []
    matching = [number for number, name in enumerate(layers) if name == until or name.startswith(f"{until}_")]
    if not matching:
        known = list(dict.fromkeys("_".join(name.split("_")[:2]) if setup.backbone == "tbn" else name for name in layers))
        raise UsageError(f"--freeze-until {until}: no such layer, choose from {', '.join(known)}{did_you_mean(until, known)}")
    return list(layers.values())[: matching[-1] + 1]


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Batch normalisation goes by the batch, and does not count it among those it has seen."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
