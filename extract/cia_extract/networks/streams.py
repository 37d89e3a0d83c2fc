"""The backbones' streams: which network describes which modality, and the shape of its input.

The networks themselves are in `i3d` and `bninception`.

>>> IN_CHANNELS["tbn"]["flow"]
10
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from cia_extract.recipes import Recipe

IN_CHANNELS: Final[Mapping[str, Mapping[str, int]]] = {
    "i3d": {"rgb": 3, "flow": 2},
    "tbn": {"rgb": 3, "flow": 10, "audio": 1},  # flow: five pairs, x and y; audio: one log-spectrogram
}
"""{backbone: {modality: input channels}}, modalities in the order in which they are stored."""

# Multiply-accumulates of the trunk for one 16×224² window, or one frame, stack or spectrogram (a test counts them again).
GMACS: Final = {
    "i3d": {"rgb": 27.788, "flow": 25.585},
    "tbn": {"rgb": 2.03, "flow": 2.31, "audio": 2.55},
}


def network_of(backbone: str, modality: str) -> str:
    """The network ("i3d" or "tbn") that describes a modality under a recipe's backbone: audio always goes through TBN."""
    return "tbn" if modality == "audio" else backbone


def example(recipe: Recipe, modality: str) -> Tensor:
    """One window of smooth moving noise, on which engines are tested: [1, C, L, H, W] or [1, C, H, W] float32."""
    generator = torch.Generator().manual_seed(0)
    backbone = network_of(recipe.backbone, modality)
    channels = IN_CHANNELS[backbone][modality]
    size = recipe.audio.shape if modality == "audio" else (recipe.picture.crop,) * 2
    if backbone == "i3d":
        window = recipe.rgb.window if modality == "rgb" else recipe.flow.window
        coarse = torch.rand(1, channels, max(window // 4, 2), 14, 14, generator=generator) * 2 - 1
        return torch.nn.functional.interpolate(coarse, (window, *size), mode="trilinear")
    coarse = torch.rand(1, channels, 16, 16, generator=generator) * 2 - 1
    return 100 * torch.nn.functional.interpolate(coarse, size, mode="bilinear")
