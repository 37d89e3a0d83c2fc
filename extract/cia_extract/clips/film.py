"""Opening a video file, and choosing its video stream."""

from pathlib import Path
from typing import Any, Final

import av

from cia_extract.common.outcomes import ClipError

# A file may be a disguised playlist. It must not lead to a network address, where reading would hang.
_OPTIONS: Final = {"protocol_whitelist": "file"}


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
        return av.open(f"file:{path}", options=_OPTIONS, metadata_errors="ignore")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise undecodable(path, error) from error


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
