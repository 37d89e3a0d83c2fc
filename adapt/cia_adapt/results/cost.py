"""Parameters and multiply-accumulates of a method by module, with and without the backbone (the supplement's table 1).

The counting rule: one multiply-accumulate (MAC) is one product of a convolution, a linear layer or a matrix product, half of what
torch.utils.flop_counter counts. Biases, ReLU, softmax and pooling without products are free. The published counts are ptflops'
instead: two more for each value of a batch normalisation, which have a line of their own here, and no product outside a layer.

A clip is `segments` windows of 16 × 224² pixels, each of which gives one frame's features; table 1 is of one window. No weights
are read and nothing is trained; of the backbone only shapes are computed (torch's meta device).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from cia_extract.networks import IN_CHANNELS, weights
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cia_adapt.config import Method
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Sizes
from cia_adapt.training import build_objectives

CHANNELS: Final = 1024
GRID: Final = (7, 7)
WINDOW: Final = (16, 224, 224)  # frames, px
SPECTROGRAM: Final = (256, 256)  # frequencies, time steps

PARTS: Final = {
    "refinement": "refinement ({refinement})",
    "pooling": "pooling ({pooling})",
    "shared": "shared layer",
    "temporal": "temporal part ({temporal})",
    "classifiers": "classifiers",
}

PUBLISHED: Final = {"concat": (25.57, 53.46), "cia": (27.64, 53.51)}
"""Table 1 of the supplement, "I3D" and "with CIA" on one window of rgb and flow: (M parameters, GMac)."""

RULES: Final = (
    "a MAC is one product of a convolution, a linear layer or a matrix product (torch's flop counter, halved)",
    "the published GMac are ptflops' count: two more for each value of a batch normalisation, which have a line of their own "
    "here, and no matrix product outside a layer, such as those of SC between cells",
    "the published 25.57 M parameters are 1.02 M more than the two trunks' 24.55 M; of what is not said, so no match is claimed",
)


@dataclass(frozen=True)
class Row:
    """What one module costs."""

    module: str
    parameters: int
    macs: int
    """Of a clip's prediction; 0 for what only training needs."""


@dataclass(frozen=True)
class Cost:
    """What one method costs, by module."""

    method: str
    segments: int
    head: list[Row]
    """The modules that are trained and predict."""
    training: list[Row]
    """Discriminators and other modules of the losses; prediction does without."""
    backbone: list[Row]
    """The frozen trunks, and their batch normalisation by ptflops' rule."""
    published: tuple[float, float] | None
    """(M parameters, GMac) of table 1, where it has this method on these modalities and segments."""

    @property
    def without_backbone(self) -> Row:
        """Sum of what predicts."""
        return _total("total without backbone", self.head)

    @property
    def with_backbone(self) -> Row:
        """Sum of what predicts and the backbone."""
        return _total("total with backbone", [*self.head, *self.backbone])

    def as_json(self) -> dict[str, Any]:
        """For --json: counts, not millions."""
        groups = {"head": self.head, "training": self.training, "backbone": self.backbone}
        sums = {"without_backbone": self.without_backbone, "with_backbone": self.with_backbone}
        published = None if self.published is None else dict(zip(("parameters_m", "gmac"), self.published, strict=True))
        return {
            "method": self.method,
            "segments": self.segments,
            **{name: [vars(row) for row in rows] for name, rows in groups.items()},
            **{name: vars(row) for name, row in sums.items()},
            "published": published,
        }


def of_method(method: Method, modalities: Sequence[str], classes: Sequence[int], segments: int, shared_features: int) -> Cost:
    """What a method costs on maps 1024 × 7 × 7 of rgb and flow, and vectors of 1024 of audio.

    Args:
        method: with all its options, as `Chosen.for_pair` gives it.
        classes: number of classes of each label.
        segments: windows of a clip.
        shared_features: width of the layer between pooling and temporal part; 0 for none.

    Raises UsageError where the method does not fit the modalities or the segments.
    """
    grids = {m: GRID for m in modalities if m != "audio" and method.needs_maps}
    channels = dict.fromkeys(modalities, CHANNELS)
    sizes = Sizes(channels, grids, tuple(classes), segments, 0.0, target_train_clips=1, shared_features=shared_features)
    model = VideoModel(method, sizes).eval()
    objectives = build_objectives(method, model)
    counted = _macs(model, {m: torch.zeros(1, segments, CHANNELS, *grids.get(m, ())) for m in modalities})
    names = vars(method)
    head = [Row(text.format(**names), _parameters(getattr(model, part)), counted.get(part, 0)) for part, text in PARTS.items()]
    training = [Row(f"objective ({name})", _parameters(module), 0) for name, module in objectives.items() if _parameters(module)]
    published = PUBLISHED.get(method.name) if set(modalities) == {"rgb", "flow"} and segments == 1 else None
    return Cost(method.name, segments, head, training, backbone(modalities, segments), published)


def backbone(modalities: Sequence[str], segments: int) -> list[Row]:
    """The trunks of I3D for rgb and flow, and of TBN's BN-Inception for audio, over the windows of a clip."""
    trunks = [_trunk(m) for m in modalities]
    convolutions = [Row(row.module, row.parameters, segments * row.macs) for row, _ in trunks]
    return [*convolutions, Row("backbone, batch normalisation", 0, 2 * segments * sum(values for _, values in trunks))]


@cache
def _trunk(modality: str) -> tuple[Row, int]:
    """(one stream's convolutions over one window, how many values its batch normalisations give)."""
    name, title = ("tbn", "BN-Inception") if modality == "audio" else ("i3d", "I3D")
    with torch.device("meta"):
        network = weights.fit.create(name, modality).eval()
        window = torch.empty(1, IN_CHANNELS[name][modality], *(SPECTROGRAM if modality == "audio" else WINDOW))
    values: list[int] = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.register_forward_hook(lambda module, args, output: values.append(output.numel()))
    macs = _macs(network, window)[""]
    return Row(f"backbone {modality} ({title}), convolutions", _parameters(network), macs), sum(values)


@torch.no_grad()
def _macs(model: nn.Module, inputs: Any) -> dict[str, int]:
    """{part of the model: its MACs in one call}, and "" for all of them."""
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    macs = {"": counter.get_total_flops() // 2}
    for name, counts in counter.get_flop_counts().items():
        _, *path = name.split(".")
        # A dictionary of modules is not called itself: its entries are.
        if len(path) == 1 or (len(path) == 2 and isinstance(getattr(model, path[0]), nn.ModuleDict)):
            macs[path[0]] = macs.get(path[0], 0) + sum(counts.values()) // 2
    return macs


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _total(name: str, rows: Sequence[Row]) -> Row:
    return Row(name, sum(row.parameters for row in rows), sum(row.macs for row in rows))
