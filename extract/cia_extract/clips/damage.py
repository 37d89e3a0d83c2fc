"""Damage that a decoder conceals: it returns grey or smeared frames and raises no error."""

import re
from collections.abc import Iterator
from typing import Any, Final

# H.264 and HEVC never have these three bytes inside a unit (ITU-T H.264 7.4.1): a hole of zeros, as a broken disk or download
# leaves it, decodes to noise without an error where arithmetic coding happens to come out even.
_FORBIDDEN: Final = re.compile(rb"\x00\x00[\x00-\x02]")
_FORBIDDEN_BETWEEN_START_CODES: Final = re.compile(rb"\x00\x00(?:\x00+[^\x00\x01]|\x02)")
# Codec → the byte of its extradata that states the length of the units' length prefix.
_PREFIX: Final = {"h264": 4, "hevc": 21}


class Damage:
    """Tells which frames of a stream are damaged: frames that the decoder repaired, frames of damaged packets, and frames that
    may build on these.
    """

    def __init__(self, stream: Any) -> None:
        context = stream.codec_context
        extra, at = bytes(context.extradata or b""), _PREFIX.get(context.name)
        self._checked = at is not None
        # Units that follow start codes have no prefix.
        self._prefix = (extra[at] & 3) + 1 if at is not None and len(extra) > at and extra[0] == 1 else 0
        self._packets: set[int | None] = set()  # time stamps of damaged packets
        self._goes_on = False

    def feed(self, packet: Any) -> None:
        """Look at a packet before the decoder gets it."""
        if self._checked and packet.size and self._has_hole(bytes(packet)):
            self._packets.add(packet.pts)

    def affects(self, frame: Any) -> bool:
        """Whether the next frame is damaged, or one since the last key frame is, on which it may build."""
        damaged = frame.is_corrupt or frame.pts in self._packets
        self._packets.discard(frame.pts)
        self._goes_on = damaged or (self._goes_on and not frame.key_frame)
        return self._goes_on

    def _has_hole(self, data: bytes) -> bool:
        if b"\0\0" not in data:
            return False
        if not self._prefix:
            return _FORBIDDEN_BETWEEN_START_CODES.search(data) is not None
        return any(_FORBIDDEN.search(unit.rstrip(b"\0")) for unit in _units(data, self._prefix))


def _units(data: bytes, prefix: int) -> Iterator[bytes]:
    """The units of a packet, each preceded by its length in `prefix` bytes."""
    at = 0
    while at + prefix < len(data):
        length = int.from_bytes(data[at : at + prefix], "big")
        yield data[at + prefix : at + prefix + length]
        at += prefix + length
