"""A web server on this machine that gives files well and badly, for the tests of the downloader."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 8192  # bytes
MOVED = {"moved": "/moved-again", "moved-again": "/whole", "loop": "/loop", "to-a-file": "file:///etc/passwd"}


@dataclass
class FileServer:
    """`content` at every path; the path says how: /whole, /cut, /cut-once, /stalled, /slow, /no-range, /moved, /loop, /404, …"""

    content: bytes
    etag: str = '"one"'
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Range) of every request."""
    address: str = ""

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_GET(self) -> None:
        files, path, asked = self.server.files, self.path.lstrip("/"), self.headers.get("Range", "")
        files.asked.append((path, asked))
        if path in MOVED:
            self.send_response(302)
            self.send_header("Location", MOVED[path])
            self.end_headers()
        elif path == "404" or (path == "503-once" and len(files.asked) == 1):
            self.send_error(int(path[:3]))
        elif path == "page":
            self._send(b"<html>Sign in</html>", 0, kind="text/html; charset=utf-8")
        elif path == "wrong":
            self._send(b"x" * len(files.content), 0)
        else:
            fresh = self.headers.get("If-Range") == files.etag and path != "no-range"
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and fresh else 0
            if start >= len(files.content):
                self.send_error(416)
                return
            most = {"cut": 1000, "stalled": 1000, "never": 0, "cut-once": None if start else 1000}.get(path)
            self._send(files.content, start, most, stalls=path == "stalled", pause_s=0.02 if path == "slow" else 0.0)

    def _send(
        self, content: bytes, start: int, most: int | None = None, kind: str = "", stalls: bool = False, pause_s: float = 0.0
    ) -> None:
        """Answer with `content` from `start`, in pieces with pauses between, and stop after `most` bytes."""
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", self.server.files.etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            sent = content[start:] if most is None else content[start : start + most]
            for at in range(0, len(sent), PIECE):
                self.wfile.write(sent[at : at + PIECE])
                self.wfile.flush()
                time.sleep(pause_s)
            if stalls:
                time.sleep(1)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


class _Server(ThreadingHTTPServer):
    files: FileServer


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """A server of `content`, as long as the block lasts."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.files = FileServer(content, address=f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server.files
    finally:
        server.shutdown()
        server.server_close()
