"""Opening a film or sound file so that nothing else is opened with it, and choosing its video stream."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import av

from cia_extract.clips.picture import LARGEST_PX
from cia_extract.common.outcomes import ClipError

# Formats that read what their text or name points to: other files, addresses, cameras, screens, filters that never end.
_LEAD_ELSEWHERE: Final = frozenset((
    "alsa", "applehttp", "avfoundation", "avisynth", "bktr", "concat", "dash", "decklink", "dshow", "fbdev", "gdigrab", "hls",
    "iec61883", "imf", "image2", "jack", "kmsgrab", "lavfi", "libcdio", "libdc1394", "openal", "oss", "pulse", "rtp", "rtsp",
    "sap", "sdp", "sndio", "v4l2", "vapoursynth", "vfwcap", "video4linux2", "vobsub", "webm_dash_manifest", "x11grab",
    "xcbgrab",
))  # fmt: skip


def opened(path: Path) -> Any:
    """The open container of a video file. Its metadata are ignored: those of one HMDB51 clip are not UTF-8.

    Raises ClipError if the file is missing, is not a regular file (a pipe would hang), is empty, unreadable or no video.
    """
    try:
        if not path.is_file():
            if path.exists():
                raise ClipError(f"{path}: is a folder, pipe or device, not a file; put the clip's file there")
            raise ClipError(f"{path}: no such file", "missing")
        if not path.stat().st_size:
            raise ClipError(f"{path}: cannot be decoded (it is empty); get the file again")
        return container_of(path)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise undecodable(path, error) from error


def container_of(path: Path) -> Any:
    """The open container of a file, which is neither a playlist nor anything else that makes libav open more than this file.

    Raises av.FFmpegError, OSError or ValueError.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": _formats(), "max_pixels": str(LARGEST_PX)}
    try:
        return av.open(f"file:{path}", options=options, metadata_errors="ignore")
    except av.ArgumentError as error:  # what libav says of a format that is not on the list
        raise ValueError("it is a playlist, a list of pictures, or no video") from error


@cache
def _formats() -> str:
    """The formats that lead nowhere else, as libav takes them."""
    return ",".join(sorted(name for name in av.formats_available if not _LEAD_ELSEWHERE & set(name.split(","))))


def undecodable(path: Path, error: BaseException) -> ClipError:
    """A library's error about a file, as a one-line ClipError."""
    if isinstance(error, PermissionError):
        return ClipError(f"{path}: cannot be read; check its permissions")
    return ClipError(f"{path}: cannot be decoded ({reason(error)}); is the file complete?")


def reason(error: BaseException) -> str:
    """The first line of a library's error, without error codes and the file's name."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).split("\n")[0]


def stream_of(container: Any) -> Any:
    """The video stream that players and ffmpeg choose; None if there is none. Covers and chapter pictures do not count."""
    best = container.streams.best("video")
    if best is None or not _is_picture(best):
        return best
    films = [stream for stream in container.streams.video if not _is_picture(stream)]
    return max(films, key=_pixels, default=None)


def bounded(path: Path, stream: Any) -> None:
    """Have a stream that is about to be decoded refuse frames of more than LARGEST_PX. Raises ClipError where all would be."""
    if _pixels(stream) > LARGEST_PX:
        size = f"{stream.codec_context.width}x{stream.codec_context.height}"
        raise ClipError(
            f"{path}: its picture of {size} has more than {LARGEST_PX // 1_000_000} million pixels; get the clip again"
        )
    stream.codec_context.options = {"max_pixels": str(LARGEST_PX)}


def _is_picture(stream: Any) -> bool:
    disposition = getattr(stream, "disposition", None)  # av 13 has none; `best` avoids covers there too
    return disposition is not None and bool(disposition & (type(disposition).attached_pic | type(disposition).timed_thumbnails))


def _pixels(stream: Any) -> int:
    context = stream.codec_context
    return (context.width or 0) * (context.height or 0) if context is not None else 0


def is_folder(path: Path) -> bool:
    """Whether a clip is a folder of pictures. Raises ClipError if its parent folders may not be entered."""
    try:
        return path.is_dir()
    except OSError as error:
        raise undecodable(path, error) from error
