"""Damaged copies of video files: of their bytes, of the numbers in their headers, of their packets. All follow from a seed."""

import random
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# {suffix: codec} of clips that are made here, beside the real ones.
MADE = {
    "mp4": "libx264", "mkv": "libx265", "ts": "libx264", "flv": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4",
    "mpg": "mpeg2video", "gif": "gif", "mov": "prores", "wmv": "wmv2", "3gp": "h263", "nut": "ffv1", "ivf": "libsvtav1",
}  # fmt: skip
# {suffix: (codec of the pictures, of the sound)} of clips with a sound track.
SOUNDING = {"mp4": ("libx264", "aac"), "mov": ("mpeg4", "pcm_s16le"), "mkv": ("libx264", "flac"), "avi": ("mpeg4", "mp3"),
            "ts": ("libx264", "ac3")}  # fmt: skip
REAL = ["ucf101/PushUps/v_PushUps_g01_c01.avi", "hmdb51/wave/TrumanShow_wave_f_nm_np1_fr_med_26.avi", "kinetics/SOX5yA1l24A.mp4",
        "audio/v_GGSY1Qvo990.mp4", "ucf101/Punch/v_Punch_g03_c01.avi", "audio/mmaction2_demo.mp4"]  # fmt: skip
# Names after which a container keeps numbers: sizes, counts, places, durations, rates, the picture's height and width.
FIELDS = (
    b"stsz", b"stts", b"stsc", b"stco", b"ctts", b"stss", b"tkhd", b"mvhd", b"mdhd", b"elst", b"avcC", b"avc1", b"moov", b"mdat",
    b"avih", b"strh", b"strf", b"idx1", b"movi", b"LIST", b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x44\x89", b"\xb0\x82",
    b"mp4a", b"esds", b"smhd", b"auds", b"sowt", b"fmt ", b"data",
    b"\x2a\xd7\xb1", b"FLV", b"onMetaData", b"GIF89a", b"\0\0\x01\xb3", b"\0\0\x01\xba", b"\0\0\0\x01\x67", b"\0\0\x01\xe0",
)  # fmt: skip
WILD = (0, 1, 255, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def healthy(folder: Path, footage: Path | None) -> list[Path]:
    """Clips to damage: one of each of MADE, and the first second of each of REAL below `footage`, packets as they are."""
    clips = []
    for suffix, codec in MADE.items():
        clips.append(folder / f"made.{suffix}")
        _encode(clips[-1], codec)
    for index, name in enumerate(REAL if footage is not None else []):
        assert footage is not None
        clips.append(folder / f"real{index}{Path(name).suffix}")
        _rewrite(footage / name, clips[-1], lambda packets: packets[:40])
    return clips


def sounding(folder: Path) -> list[Path]:
    """Clips with sound of two seconds: one of each of SOUNDING, and a .wav, which is one half of a clip."""
    clips = []
    for suffix, codecs in SOUNDING.items():
        clips.append(folder / f"made.{suffix}")
        _encode(clips[-1], *codecs)
    _encode(folder / "made.wav", "", "pcm_s16le")
    return [*clips, folder / "made.wav"]


def mutants(clips: list[Path], folder: Path, count: int, seed: int) -> Iterator[Path]:
    """So many damaged copies in a folder; what was done to each is part of its name."""
    chance = random.Random(seed)
    for number in range(count):
        clip = chance.choice(clips)
        kind = chance.choice(list(DAMAGE))
        path = folder / f"{number:05d}-{kind}-{clip.name}"
        try:
            DAMAGE[kind](clip, path, chance)
        except (av.FFmpegError, ValueError, OverflowError):  # the writer refuses such packets
            _spoil(clip, path, chance)
        yield path


def _cut(clip: Path, path: Path, chance: random.Random) -> None:
    data = clip.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def _flip(clip: Path, path: Path, chance: random.Random) -> None:
    data = bytearray(clip.read_bytes())
    for _ in range(chance.choice([1, 5, 50, 500])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _spoil(clip: Path, path: Path, chance: random.Random) -> None:
    """A piece is lost, repeated, moved, filled with zeros, ones or noise, or the file goes on as another piece of it."""
    data = bytearray(clip.read_bytes())
    at, other = chance.randrange(len(data)), chance.randrange(len(data))
    piece = slice(at, at + chance.choice([1, 4, 64, 1000, len(data) // 3]))
    length = len(data[piece])
    data[piece] = chance.choice(
        [
            b"",
            data[piece] * 2,
            data[other : other + length],
            bytes(length),
            b"\xff" * length,
            chance.randbytes(length),
            data[other:],
        ]
    )
    path.write_bytes(data)


def _lie(clip: Path, path: Path, chance: random.Random) -> None:
    """A header states other numbers."""
    data = bytearray(clip.read_bytes())
    named = [field for field in FIELDS if field in data]
    for _ in range(chance.choice([1, 1, 2, 8])):
        begin = data.index(chance.choice(named)) if named and chance.random() < 0.8 else chance.randrange(min(400, len(data)))
        at = begin + chance.randrange(4, 60)
        data[at : at + 4] = struct.pack(chance.choice("<>") + "I", chance.choice([*WILD, chance.randrange(1 << 32)]))
    path.write_bytes(data)


def _shuffle(clip: Path, path: Path, chance: random.Random) -> None:
    """Packets change places, are lost, repeated, or spoiled."""

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        for _ in range(chance.choice([1, 3, 10])):
            i, j = chance.randrange(len(packets)), chance.randrange(len(packets))
            match chance.randrange(4):
                case 0:
                    packets[i], packets[j] = packets[j], packets[i]
                case 1 if len(packets) > 1:
                    del packets[i]
                case 2:
                    packets[i] = _with_data(packets[i], bytes(packets[j]))
                case _:
                    data = bytearray(bytes(packets[i]))
                    for _ in range(min(len(data), 20)):
                        data[chance.randrange(len(data))] = chance.randrange(256)
                    packets[i] = _with_data(packets[i], bytes(data))
        return packets

    _rewrite(clip, path, change)


def _mistime(clip: Path, path: Path, chance: random.Random) -> None:
    """Packets have absurd times: far, before the start, equal, too long."""

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            if chance.random() < 0.3 and packet.pts is not None and packet.dts is not None:
                ahead = chance.choice([0, 1, 1000, 10**6, 2**31, 2**40, -5])
                packet.pts += ahead
                if ahead > 0 and chance.random() < 0.5:
                    packet.dts += ahead
                packet.duration = chance.choice([0, 1, 2**31 - 1])
        return packets

    _rewrite(clip, path, change)


DAMAGE = {"cut": _cut, "flip": _flip, "spoil": _spoil, "lie": _lie, "shuffle": _shuffle, "mistime": _mistime}


def _encode(path: Path, codec: str, sound: str = "") -> None:
    """24 frames of moving noise, with B frames where the codec has them; two seconds of noise to hear. "" for none of either."""
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8).repeat(12, 0).repeat(11, 1)
    with av.open(str(path), "w") as container:
        if codec:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = 176, 144  # h263 has few sizes
            stream.pix_fmt = {"gif": "rgb8", "prores": "yuv422p10le"}.get(codec, "yuv420p")
            stream.codec_context.gop_size = 8
        track = container.add_stream(sound, rate=48000) if sound else None
        for t in range(24 if codec else 0):
            image = av.VideoFrame.from_ndarray(np.roll(noise, 3 * t, 1), format="rgb24")
            container.mux(stream.encode(image.reformat(format=stream.pix_fmt)))
        if codec:
            container.mux(stream.encode())
        if track is not None:
            heard = np.random.default_rng(0).integers(-9000, 9000, (1, 2 * 2 * 48000)).astype(np.int16)  # two channels in turn
            frame = av.AudioFrame.from_ndarray(heard, "s16", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(track.encode(frame))
            container.mux(track.encode())


def _rewrite(clip: Path, path: Path, change) -> None:
    """Copy a clip's packets, `change`d, into a file of its own kind."""
    with av.open(str(clip), metadata_errors="ignore") as old, av.open(str(path), "w") as new:
        streams = {s.index: _like(new, s) for s in old.streams if s.type in {"video", "audio"}}
        packets = [packet for packet in old.demux() if packet.size and packet.stream.index in streams]
        for packet in change(packets):
            packet.stream = streams[packet.stream.index]
            new.mux(packet)


def _like(container: av.container.OutputContainer, stream: av.stream.Stream) -> av.stream.Stream:
    if hasattr(container, "add_stream_from_template"):
        return container.add_stream_from_template(stream)
    return container.add_stream(template=stream)  # av 13


def _with_data(packet: av.Packet, data: bytes) -> av.Packet:
    other = av.Packet(data)
    other.stream, other.pts, other.dts, other.duration = packet.stream, packet.pts, packet.dts, packet.duration
    other.time_base = packet.time_base or Fraction(1, 25)
    return other
