"""One file by HTTP: a download that was cut goes on where it was, also in a later process.

Nothing here is trusted: whoever calls proves what the file holds.
"""

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Final

from cia_extract.common.console import Progress
from cia_extract.common.errors import UsageError

QUIET_S: Final = 30.0  # without a byte, after which a connection counts as dead
PAUSES_S: Final = (1.0, 2.0, 4.0)  # before each new try that follows one without a new byte
LARGEST: Final = 2 << 30  # bytes; TBN's three streams with their optimiser have under 0.5 GB
PART: Final = 1 << 16
BROKEN: Final = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)
AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP's answers that say: try later


def fetch(address: str, path: Path, tries: int = 1 + len(PAUSES_S)) -> None:
    """Download to `path`, or go on with what is there of it.

    Args:
        address: http or https; redirections are followed.
        path: the bytes so far; a file beside it, `.etag`, says which version of the file they are of.
        tries: without a new byte, after which it is given up.

    Raises:
        UsageError: if the address does not give the file; what has come of it stays.
        OSError: if `path` cannot be written.
    """
    without_progress = 0
    while True:
        before = _size(path)
        try:
            if _receive(address, path):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            reason = " ".join(f"HTTP {error.code} {error.reason}".split())  # of a loop of redirections urllib says two lines
            if error.code == 416:  # what is there is longer than the file: of another version, or whole and unused
                forget(path)
                before = -1
            elif error.code not in AGAIN:
                raise UsageError(f"{address}: {reason}") from error
        except BROKEN as error:
            inner = getattr(error, "reason", error)
            reason = str(getattr(inner, "strerror", None) or inner or type(inner).__name__)
            if isinstance(inner, socket.gaierror):  # no such host, or no network
                raise UsageError(f"{address}: {reason}") from error
        except ValueError as error:  # no address at all
            raise UsageError(f"{address}: {error}") from error
        without_progress = 0 if _size(path) > before >= 0 else without_progress + 1
        if without_progress >= tries:
            raise UsageError(f"{address}: {reason}")
        time.sleep(PAUSES_S[min(without_progress, len(PAUSES_S)) - 1] if without_progress else 0)


def _receive(address: str, path: Path) -> bool:
    """Ask for what is missing and append it; whether the file is then whole."""
    start, version = _size(path), path.with_name(path.name + ".etag")
    request = urllib.request.Request(address, headers={"User-Agent": "cia-extract", "Accept-Encoding": "identity"})
    if start and version.is_file():
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", version.read_text(encoding="utf-8"))
    with urllib.request.urlopen(request, timeout=QUIET_S) as answer:
        if "html" in answer.headers.get("Content-Type", ""):
            raise UsageError(
                f"{address}: gives a web page, not a file; give the address of the file itself (Dropbox: ending in dl=1)"
            )
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        start = start if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else 0
        if total > LARGEST:
            raise UsageError(f"{address}: gives {total:,} bytes, and no weights have more than {LARGEST:,}")
        version.unlink(missing_ok=True)
        etag = answer.headers.get("ETag", "")
        if etag and not etag.startswith("W/"):  # a weak one does not promise the same bytes
            version.write_text(etag, encoding="utf-8")
        with path.open("r+b" if start else "wb") as file, Progress(total >> 20, f"{path.stem}, MB") as progress:
            file.seek(start)
            while part := answer.read1(PART):
                file.write(part)
                if file.tell() > LARGEST:
                    raise UsageError(f"{address}: gives more than {LARGEST:,} bytes")
                if progress.total and file.tell() >> 20 > progress.done:
                    progress.at(file.tell() >> 20, progress.total)
            return file.tell() == total or not total


def forget(path: Path) -> None:
    """Delete what there is of a download."""
    for each in (path, path.with_name(path.name + ".etag")):
        with suppress(FileNotFoundError):
            each.unlink()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
