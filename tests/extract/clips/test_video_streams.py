"""Which pictures a video file shows: the film and not its cover, the right way up, and what damage does to them."""

import io
import os
import struct

import av
import numpy as np
import pytest
from cia_extract import clips, recipes
from cia_extract.clips import job as clips_job
from cia_extract.clips import orientation, preparation
from cia_extract.common.outcomes import OUTCOMES, ClipError
from PIL import Image

from tests.extract.clips.test_video import encode, levels
from tests.privileges import bound_by_permissions

COVER = io.BytesIO()
Image.new("RGB", (96, 96), (10, 200, 30)).save(COVER, "JPEG")


def box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + name + data


def with_cover(path):
    """As taggers do it: `covr` before the tracks makes the picture stream 0."""
    covr = box(b"covr", box(b"data", struct.pack(">II", 13, 0) + COVER.getvalue()))
    meta = bytes(4) + box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9)) + box(b"ilst", covr)
    whole = path.read_bytes()
    at = whole.index(b"moov") - 4
    moov = whole[at + 8 :]
    head = struct.unpack(">I", moov[:4])[0]
    path.write_bytes(whole[:at] + box(b"moov", moov[:head] + box(b"udta", box(b"meta", meta)) + moov[head:]))
    return path


def attached(path, second_track=False):
    """Matroska with a cover: an attachment, or a track of one picture before the film."""
    with av.open(str(path), "w") as container:
        if second_track:
            cover = container.add_stream("mjpeg", rate=25)
            cover.width, cover.height, cover.pix_fmt = 96, 96, "yuvj420p"
        else:
            container.add_attachment("cover.jpg", "image/jpeg", COVER.getvalue())
        film = container.add_stream("libx264", rate=25)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        if second_track:
            container.mux(cover.encode(av.VideoFrame.from_image(Image.new("RGB", (96, 96), (10, 200, 30)))))
            container.mux(cover.encode())
        for t in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * t % 200, np.uint8), format="rgb24")
            container.mux(film.encode(frame))
        container.mux(film.encode())
    return path


def test_a_tagged_mp4_gives_its_film_not_its_cover(tmp_path):
    path = with_cover(encode(tmp_path / "a.mp4", 40))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2 and container.streams.video[0].codec_context.name == "mjpeg"
    assert levels(clips.decode(path)) == [t % 25 for t in range(40)]
    assert clips.frame_rate(path) == 25
    assert levels(clips.decode(path, 0.4, 0.8)) == list(range(10, 20))
    prepared = preparation.prepare_clip(
        clips_job.ClipJob(path, ("rgb", "flow"), recipes.load("tbn-epic100", {"sampling.frames": 2}))
    )
    assert prepared.n_frames == 40 and prepared.fps == 25


ATTACH = pytest.mark.skipif(not hasattr(av.container.OutputContainer, "add_attachment"), reason="av is too old to attach files")


@pytest.mark.parametrize("second_track", [pytest.param(False, marks=ATTACH), True])
def test_a_cover_is_no_film_in_matroska_either(tmp_path, second_track):
    path = attached(tmp_path / "a.mkv", second_track)
    assert levels(clips.decode(path)) == [t % 25 for t in range(40)] and clips.frame_rate(path) == 25


def test_a_song_with_a_cover_has_no_film(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        track = container.add_stream("aac", rate=24000)
        for _ in range(10):
            sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            sound.rate = 24000
            container.mux(track.encode(sound))
        container.mux(track.encode())
    with pytest.raises(ClipError, match="no video stream in it"):
        list(clips.decode(with_cover(tmp_path / "a.mp4")))
    assert clips.frame_rate(tmp_path / "a.mp4") == 0


PICTURE = np.random.default_rng(0).integers(0, 255, (3, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
# a b / c d of the display matrix → the picture that ffplay, VLC and QuickTime show.
SHOWN = {
    (1, 0, 0, 1): PICTURE,
    (-1, 0, 0, 1): PICTURE[:, ::-1],
    (1, 0, 0, -1): PICTURE[::-1],
    (-1, 0, 0, -1): np.rot90(PICTURE, 2),
    (0, 1, -1, 0): np.rot90(PICTURE, -1),
    (0, -1, 1, 0): np.rot90(PICTURE, 1),
    (0, 1, 1, 0): PICTURE.transpose(1, 0, 2),
    (0, -1, -1, 0): np.rot90(PICTURE, 2).transpose(1, 0, 2),
    (0, 0, 0, 0): PICTURE,  # an editor's mistake
}


@pytest.mark.parametrize("matrix", SHOWN)
@pytest.mark.parametrize("suffix", ["mov", "mp4"])
def test_pictures_are_shown_as_players_show_them_in_every_orientation(tmp_path, suffix, matrix):
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.height, stream.width, stream.pix_fmt = *PICTURE.shape[:2], "rgb24"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(PICTURE, format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    for frame in clips.decode(path):
        np.testing.assert_array_equal(frame.image, SHOWN[matrix])


def test_a_matrix_that_is_scaled_a_little_turned_or_empty_goes_to_the_nearest_orientation():
    for matrix, turned in [
        ((-98000, 900, -900, 98000), PICTURE[:, ::-1]),
        ((0, 0, 0, 0), PICTURE),
        ((5, 70000, -70000, 5), None),
    ]:
        a, b, c, d = matrix
        image = orientation.upright(PICTURE, np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32))
        np.testing.assert_array_equal(image, np.rot90(PICTURE, -1) if turned is None else turned)


def noisy(path, codec="libx264", frames=60, gop=20, size=(160, 120)):
    noise = np.random.default_rng(0).integers(0, 255, (size[1] // 8, size[0] // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, 0
        for t in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, 3 * t, 1), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("avi", "mpeg4")])
def test_a_hole_of_zeros_in_a_video_is_always_reported(tmp_path, suffix, codec):
    """Twelve places; where pictures come out wrong, frames from the damage to the next key frame are named, and no others."""
    path = noisy(tmp_path / f"a.{suffix}", codec)
    whole = list(clips.decode(path))
    assert not any(frame.damaged for frame in whole)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size > 150]
        places = [(packet.pos + (60 if suffix != "ts" else 200), packet.pts) for packet in packets[:: len(packets) // 12]]
    raw, checked = path.read_bytes(), 0
    for place, _ in places:
        path.write_bytes(raw[:place] + bytes(40) + raw[place + 40 :])
        try:
            frames = list(clips.decode(path))
        except ClipError:
            continue
        wrong = [
            t
            for t, (frame, right) in enumerate(zip(frames, whole, strict=False))
            if np.abs(frame.image.astype(int) - right.image).mean() > 3
        ]
        named = [t for t, frame in enumerate(frames) if frame.damaged]
        if wrong and len(frames) == len(whole):
            checked += 1
            assert set(wrong) <= set(named), place
            assert all(t // 20 in {w // 20 for w in wrong} for t in named), place
    assert checked >= (3 if suffix == "ts" else 5)  # the others broke the container, which is an error of its own


def test_a_clip_with_damaged_frames_is_used_and_says_how_many(tmp_path):
    path = noisy(tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][25]
    raw = path.read_bytes()
    path.write_bytes(raw[: packet.pos + 40] + bytes(32) + raw[packet.pos + 72 :])
    job = clips_job.ClipJob(path, ("rgb", "flow"), recipes.load("tbn-epic100", {"sampling.frames": 2, "flow.algorithm": "dis"}))
    prepared = preparation.prepare_clip(job)
    for modality in ("rgb", "flow"):
        outcome = prepared.outcomes[modality]
        assert (outcome.name, outcome.code) == ("damaged", 9)
        assert outcome.message == "15 of 60 frames are damaged, or build on damaged ones; get the file again"
    undamaged = preparation.prepare_clip(clips_job.ClipJob(path, ("rgb",), job.recipe, 1.6, 2.4))
    assert undamaged.outcomes["rgb"].name == "ok", "the cut lies behind the next key frame"
    assert OUTCOMES[9] == "damaged" and OUTCOMES[8] == "missing", "codes in files do not change"


def test_every_healthy_sample_is_ok(shared):
    for path in [*(shared / "clips").rglob("*.avi"), *(shared / "clips").rglob("*.mp4")]:
        if path.stat().st_size < 400_000:
            assert not any(frame.damaged for frame in clips.decode(path)), path


def unreadable(tmp_path):
    whole = bytearray(encode(tmp_path / "whole.mp4", 24).read_bytes())
    at = whole.index(b"avc1", whole.index(b"stsd"))
    whole[at : at + 4] = b"zzzz"
    (tmp_path / "codec.mp4").write_bytes(whole)
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "address.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n"
    )
    with av.open(str(tmp_path / "frameless.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("codec.mp4", "its video has a codec that cannot be decoded"),
        ("folder.mp4", "has no numbered pictures"),
        ("pipe.mp4", "is a folder, pipe or device, not a file"),
        ("loop.mp4", "no such file"),
        ("device.mp4", "is a folder, pipe or device, not a file"),
        ("empty.mp4", "cannot be decoded .it is empty.; get the file again"),
        ("address.m3u8", "cannot be decoded"),
        ("frameless.avi", "no frame could be decoded"),
        ("whole.mp4/inside.mp4", "no such file"),
        ("n" * 300 + ".mp4", "cannot be decoded .File name too long"),
    ],
)
def test_a_path_that_is_no_video_gives_one_line_without_hanging(tmp_path, name, message):
    unreadable(tmp_path)
    for at_rate in (0.0, 25.0):
        with pytest.raises(ClipError, match=message) as error:
            list(clips.decode(tmp_path / name, rate=at_rate))
        assert "\n" not in str(error.value)


def test_a_file_without_permission_says_so(tmp_path):
    path = encode(tmp_path / "a.mp4", 5)
    path.chmod(0)

    def refused() -> None:
        with pytest.raises(ClipError, match="cannot be read; check its permissions"):
            list(clips.decode(path))

    bound_by_permissions(refused)


@pytest.mark.parametrize("seed", range(60))
def test_a_video_with_wrong_bytes_gives_frames_or_one_line(tmp_path, seed):
    """Headers and data changed at random: decoding ends, and with nothing but ClipError."""
    random = np.random.default_rng(seed)
    suffix = ["mp4", "mkv", "avi", "ts", "gif", "flv"][seed % 6]
    codec = {"avi": "mpeg4", "gif": "gif"}.get(suffix, "libx264")
    path = tmp_path / f"a.{suffix}"
    if suffix == "gif":
        images = [Image.new("L", (64, 48), 8 * t) for t in range(12)]
        images[0].save(path, save_all=True, append_images=images[1:], duration=40)
    else:
        encode(path, 12, codec=codec)
    data = bytearray(path.read_bytes())
    for _ in range(int(random.choice([1, 3, 20]))):
        at = int(random.integers(min(len(data), int(random.choice([100, 600, len(data)])))))
        data[at : at + 4] = [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", random.bytes(4)][int(random.integers(4))]
    path.write_bytes(data)
    for arguments in ((), (0.1, 0.3), (0.1, 0.3, 50.0)):
        try:
            for count, _ in enumerate(clips.decode(path, *arguments)):
                assert count < 300_000
        except ClipError as error:
            assert "\n" not in str(error) and "Error" not in str(error)
