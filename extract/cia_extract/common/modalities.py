"""What a clip is seen and heard by, in the order in which it is stored."""

from typing import Final

MODALITIES: Final = ("rgb", "flow", "audio")
