"""A video file opened for reading, and which of its streams is the film."""

from pathlib import Path
from typing import Any, Final

import av

from cia_extract.common.outcomes import ClipError

# A file may be a play list in disguise: it must not lead to a network address, where reading would hang.
_OPTIONS: Final = {"protocol_whitelist": "file"}


def opened(path: Path) -> Any:
    """The container of a file. Its metadata are not looked at: one HMDB51 clip carries some that are not UTF-8.

    Raises ClipError with what is wrong: no such file, no regular file (a pipe would hang), not readable, no video.
    """
    try:
        if not path.is_file():
            if path.exists():
                raise ClipError(f"{path}: is no file but a folder, pipe or device; put the clip's file there")
            raise ClipError(f"{path}: no such file", "missing")
        if not path.stat().st_size:
            raise ClipError(f"{path}: cannot be decoded (it is empty); get the file again")
        return av.open(f"file:{path}", options=_OPTIONS, metadata_errors="ignore")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise undecodable(path, error) from error


def undecodable(path: Path, error: BaseException) -> ClipError:
    """What a library says of a file, as one line."""
    if isinstance(error, PermissionError):
        return ClipError(f"{path}: cannot be read; check its permissions")
    return ClipError(f"{path}: cannot be decoded ({reason(error)}); is the file complete?")


def reason(error: BaseException) -> str:
    """A library's words, without its own prefix and the file's name."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).split("\n")[0]


def stream_of(container: Any) -> Any:
    """The video stream that players and ffmpeg choose, never a cover picture or the pictures of chapters; None without one."""
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
    """A clip that comes as a folder of pictures. Raises ClipError where the folders above may not be entered."""
    try:
        return path.is_dir()
    except OSError as error:
        raise undecodable(path, error) from error
