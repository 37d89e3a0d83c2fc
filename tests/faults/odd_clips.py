"""Clips that are odd and sound, and clips that are traps: each with what becomes of it."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image


def film(path: Path, codec="libx264", pix_fmt="yuv420p", size=(64, 48), count=24, rate: Fraction | int = 25, times=None) -> Path:
    """A film of moving stripes; `times` are its frames' times in units of 1/rate."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = 1 / Fraction(rate)
        stripes = ((np.arange(width) // 4 % 2)[None, :, None] * 200 + np.zeros((height, 1, 3))).astype(np.uint8)
        for t in range(count):
            frame = av.VideoFrame.from_ndarray(np.roll(stripes, 2 * t, 1), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = (t if times is None else times[t]), 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _frameless(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def _sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        track = container.add_stream("pcm_s16le", rate=24000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 24000), np.int16), "s16", "mono")
        sound.sample_rate = 24000
        container.mux(track.encode(sound))
        container.mux(track.encode())


def _patched(path: Path, name: bytes, ahead: int, number: int, **options) -> None:
    """A film in whose header the 32-bit number `ahead` bytes after a name is another; AVI begins with the lowest byte."""
    data = bytearray(film(path, **options).read_bytes())
    at = data.index(name) + len(name) + ahead
    data[at : at + 4] = struct.pack("<I" if path.suffix == ".avi" else ">I", number)
    path.write_bytes(data)


def _turned(path: Path) -> None:
    _patched(path, b"tkhd", 40, 0)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def _covered(path: Path) -> None:
    """A picture as the first track, as taggers put one before a film."""
    with av.open(str(path), "w") as container:
        cover, stream = container.add_stream("mjpeg", rate=25), container.add_stream("libx264", rate=25)
        cover.width, cover.height, cover.pix_fmt = 96, 96, "yuvj420p"
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(cover.encode(av.VideoFrame.from_image(Image.new("RGB", (96, 96)))))
        container.mux(cover.encode())
        for t in range(24):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * t, np.uint8), format="rgb24")))
        container.mux(stream.encode())


def png(width: int, height: int) -> bytes:
    """Black and white, all black: 1 bit a pixel before compression, next to nothing after."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer, rows = zlib.compressobj(9), bytes(1 + (width + 7) // 8) * height
    data = packer.compress(rows) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _of_png(path: Path, width: int, height: int, count: int = 2) -> None:
    """A film whose frames are `png`."""
    picture = png(width, height)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "monob"
        for t in range(count):
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts, packet.duration = stream, t, t, 1
            packet.time_base, packet.is_keyframe = Fraction(1, 25), True
            container.mux(packet)


def _pictures(path: Path, *contents: bytes) -> None:
    path.mkdir()
    for number, content in enumerate(contents, 1):
        (path / f"frame_{number:010d}.jpg").write_bytes(content)


def _pipe_among_pictures(path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (64, 48)).save(picture, "JPEG")
    _pictures(path, picture.getvalue())
    os.mkfifo(path / "frame_0000000002.jpg")


# {name: how it is made}. Films that are used, as they are or with a remark.
SOUND: dict[str, Callable[[Path], object]] = {
    "one-frame.mp4": lambda p: film(p, count=1),
    "one-pixel.mkv": lambda p: film(p, "ffv1", "bgr0", size=(1, 1)),
    "odd-size.mkv": lambda p: film(p, "ffv1", "yuv444p", size=(63, 47)),
    "ten-bit.mkv": lambda p: film(p, "ffv1", "yuv420p10le"),
    "ten-bit-hevc.mp4": lambda p: film(p, "libx265", "yuv420p10le"),
    "grey-16.mkv": lambda p: film(p, "ffv1", "gray16le"),
    "alpha-png.mov": lambda p: film(p, "png", "rgba"),
    "alpha-qtrle.mov": lambda p: film(p, "qtrle", "argb"),
    "alpha-vp9.webm": lambda p: film(p, "libvpx-vp9", "yuva420p"),
    "rotated.mp4": _turned,
    "cover.mkv": _covered,
    "variable-rate.mkv": lambda p: film(p, "ffv1", times=[t * t for t in range(24)]),
    "million-a-second.mkv": lambda p: film(p, "ffv1", rate=1_000_000),
    "one-an-hour.mkv": lambda p: film(p, "ffv1", rate=Fraction(1, 3600), count=3),
    "starts-late.mkv": lambda p: film(p, "ffv1", times=range(10**6, 10**6 + 24)),
    "long-and-wide.avi": lambda p: film(p, "mpeg4", size=(320, 32), count=420),
    "largest.mov": lambda p: _of_png(p, 8000, 8000),
}
# {name: (how it is made, words of the reason)}. What cannot be used.
TRAPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no-frames.avi": (_frameless, "no frame could be decoded"),
    "sound-only.mkv": (_sound, "no video stream"),
    "narrow.mkv": (lambda p: film(p, "ffv1", size=(8, 900)), "too long and narrow"),
    "bomb.mov": (lambda p: _of_png(p, 16000, 16000), "more than 64 million pixels"),
    "bomb.gif": (lambda p: p.write_bytes(b"GIF89a" + b"\xff" * 5 + bytes(2) + b"," + b"\xff" * 9 + b"\2\1\0;"), "decoded"),
    "bomb-picture": (lambda p: _pictures(p, png(16000, 16000)), "more than 64 million pixels"),
    "claims-a-milliard.avi": (lambda p: _patched(p, b"strh", 36, 10**9, codec="mpeg4"), "24/1000000000 frames"),
    "claims-a-milliard.mp4": (lambda p: _patched(p, b"stsz", 8, 10**9), "decode"),
    "pipe.mp4": (lambda p: os.mkfifo(p), "is a folder, pipe or device"),
    "endless.mp4": (lambda p: p.symlink_to("/dev/zero"), "is a folder, pipe or device"),
    "loop.mp4": (lambda p: p.symlink_to(p.name), "no such file"),
    "pipe-among-pictures": (_pipe_among_pictures, "cannot be read"),
    "folder.mp4": (lambda p: p.mkdir(), "no numbered pictures"),
    "empty.mp4": (lambda p: p.touch(), "it is empty"),
    "page.mp4": (lambda p: p.write_text("<html><script>alert(1)</script></html>" * 40), "cannot be decoded"),
    "playlist.m3u8": (lambda p: p.write_text(_playlist("secret.ts")), "playlist"),
    "playlist-absolute.m3u8": (lambda p: p.write_text(_playlist(p.parent / "secret.ts")), "playlist"),
    "playlist-address.m3u8": (lambda p: p.write_text(_playlist("http://127.0.0.1:9/a.ts")), "playlist"),
    "concat.mp4": (lambda p: p.write_text("ffconcat version 1.0\nfile secret.ts\n"), "playlist"),
    "concat-itself.mp4": (lambda p: p.write_text(f"ffconcat version 1.0\nfile {p.name}\n"), "playlist"),
    "session.sdp": (lambda p: p.write_text("v=0\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"), "decoded"),
    "pattern-%d.png": (lambda p: (p.write_bytes(b"x"), (p.parent / "pattern-1.png").write_bytes(png(64, 48))), "playlist"),
    "subtitle.idx": (lambda p: (p.write_text("# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 0\n"),
                                (p.parent / "subtitle.sub").write_bytes(bytes(4096))), "playlist"),
}  # fmt: skip


NOISE = np.random.default_rng(0).integers(-9000, 9000, 96_000).astype("<i2").tobytes()


def wav(
    path: Path, rate: int = 24_000, channels: int = 1, bits: int = 16, data: bytes = NOISE, kind: int = 1, **lies: int
) -> None:
    """A .wav whose header says what it is told; `lies` are its `size` of the data, and its `align`, the bytes of a sample."""
    align = lies.get("align", channels * bits // 8 & 0xFFFF)
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    parts = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", lies.get("size", len(data))) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(parts)) + parts)


# {name: (what its .wav says, what becomes of its sound, words of the message)}
WAVS: dict[str, tuple[dict[str, Any], str, str]] = {
    "sound": ({}, "ok", ""),
    "24-bits": ({"bits": 24, "data": NOISE * 3}, "ok", ""),
    "a-thousand-hertz": ({"rate": 1000}, "ok", ""),
    "longer-than-the-file": ({"size": (1 << 32) - 1}, "ok", ""),
    "samples-of-no-bytes": ({"align": 0}, "ok", ""),
    "half-a-sample-more": ({"data": NOISE[:-1]}, "ok", ""),
    "a-million-hertz": ({"rate": 10**6, "data": NOISE * 2}, "short", ""),
    "one-sample": ({"data": b"ab"}, "short", ""),
    "no-samples": ({"data": b""}, "no audio", ""),
    "not-what-it-says": ({"kind": 0x55}, "no audio", "cannot be decoded beyond 0.00 s"),
    "255-channels": ({"channels": 255, "data": NOISE * 20}, "no audio", "cannot be decoded beyond 0.00 s"),
    "all-channels": ({"channels": 0xFFFF, "align": 0xFFFF}, "decode error", "has no sound"),
    "no-channels": ({"channels": 0, "align": 2}, "decode error", "has no sound"),
    "no-rate": ({"rate": 0}, "decode error", "cannot be opened"),
    "one-hertz": ({"rate": 1}, "decode error", "1 samples a second are no sound"),
    "too-many-hertz": ({"rate": (1 << 31) - 1}, "decode error", "2147483647 samples a second are no sound"),
    "no-bits": ({"bits": 0, "align": 2}, "decode error", "a codec that cannot be decoded"),
    "another-codec": ({"kind": 0x9999}, "decode error", "a codec that cannot be decoded"),
}  # fmt: skip


def make_sounds(folder: Path) -> list[str]:
    """A clip of 24 frames beside each of WAVS; returns their names."""
    for name, (says, _, _) in WAVS.items():
        film(folder / f"{name}.mp4")
        wav(folder / f"{name}.wav", **says)
    return [f"{name}.mp4" for name in WAVS]


def _playlist(target: object) -> str:
    return f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"


def make(folder: Path) -> None:
    """All of them, and `secret.ts`, a sound film that playlists point to."""
    film(folder / "secret.ts")
    for name, maker in {**SOUND, **{name: maker for name, (maker, _) in TRAPS.items()}}.items():
        maker(folder / name)
