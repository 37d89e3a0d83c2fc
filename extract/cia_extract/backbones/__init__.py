"""Frozen networks that turn what a clip shows and sounds like into 1024-channel maps, and what each of them takes in.

Importing this needs no torch; the networks themselves are in `i3d` and `bninception`.

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
