"""Damage that a decoder conceals: grey or smeared frames, and nothing raised."""

import re
from collections.abc import Iterator
from typing import Any, Final

# H.264 and HEVC never have these three bytes inside a unit (ITU-T H.264 7.4.1): a hole of zeros, as a broken disk or download
# leaves it, decodes to noise without an error where arithmetic coding happens to come out even.
_FORBIDDEN: Final = re.compile(rb"\x00\x00[\x00-\x02]")
_FORBIDDEN_BETWEEN_START_CODES: Final = re.compile(rb"\x00\x00(?:\x00+[^\x00\x01]|\x02)")
# Codec → where its description of length-prefixed units says how long the prefix is.
_PREFIX: Final = {"h264": 4, "hevc": 21}


class Damage:
    """Which frames are damaged: those that the decoder repaired, those of damaged packets, and what may build on them."""

    def __init__(self, stream: Any) -> None:
        context = stream.codec_context
        extra, at = bytes(context.extradata or b""), _PREFIX.get(context.name)
        self._checked = at is not None
        # Units behind start codes: no prefix.
        self._prefix = (extra[at] & 3) + 1 if at is not None and len(extra) > at and extra[0] == 1 else 0
        self._packets: set[int | None] = set()  # time stamps of damaged ones
        self._goes_on = False

    def feed(self, packet: Any) -> None:
        """The decoder is about to get this packet."""
        if self._checked and packet.size and self._has_hole(bytes(packet)):
            self._packets.add(packet.pts)

    def of(self, frame: Any) -> bool:
        """The frame, next in order, is damaged, or one since the last key frame is: it may build on that."""
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
    """The units of a packet, each behind its length."""
    at = 0
    while at + prefix < len(data):
        length = int.from_bytes(data[at : at + prefix], "big")
        yield data[at + prefix : at + prefix + length]
        at += prefix + length
