"""AVI files written chunk by chunk: what recorders leave in them and encoders of today do not."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def listed(name: bytes, data: bytes) -> bytes:
    return chunk(b"LIST", name + data)


def write(path: Path, shown: list[int | None], rate: int = 25, index: bool = True) -> Path:
    """A motion JPEG of grey levels 5·t for each t in `shown`; None is a dropped frame, an empty chunk."""
    header = struct.pack("<14I", 1_000_000 // rate, 0, 0, 0x10, len(shown), 0, 1, 0, 64, 48, 0, 0, 0, 0)
    stream = (
        b"vidsMJPG" + struct.pack("<10I", 0, 0, 0, 1, rate, 0, len(shown), 0, 0xFFFFFFFF, 0) + struct.pack("<4h", 0, 0, 64, 48)
    )
    form = struct.pack("<IiiHH4sIiiII", 40, 64, 48, 1, 24, b"MJPG", 64 * 48 * 3, 0, 0, 0, 0)
    movie, entries = b"", b""
    for t in shown:
        data = b"" if t is None else picture(t)
        entries += struct.pack("<4sIII", b"00dc", 0x10, 4 + len(movie), len(data))
        movie += chunk(b"00dc", data)
    head = listed(b"hdrl", chunk(b"avih", header) + listed(b"strl", chunk(b"strh", stream) + chunk(b"strf", form)))
    path.write_bytes(chunk(b"RIFF", b"AVI " + head + listed(b"movi", movie) + (chunk(b"idx1", entries) if index else b"")))
    return path


def picture(t: int) -> bytes:
    jpeg = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), 5 * t, np.uint8)).save(jpeg, "JPEG", quality=95)
    return jpeg.getvalue()
