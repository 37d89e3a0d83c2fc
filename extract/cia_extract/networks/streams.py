"""What each frozen network takes in and costs, without torch; the networks themselves are in `i3d` and `bninception`.

>>> IN_CHANNELS["tbn"]["flow"]
10
"""

from collections.abc import Mapping
from typing import Final

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
    """The backbone that describes a modality: sound always goes through TBN's audio stream."""
    return "tbn" if modality == "audio" else backbone
