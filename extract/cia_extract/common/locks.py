"""The files that processes lock. The kernel drops a dead process' locks, so nothing is ever left locked."""

import os
from pathlib import Path
from typing import IO


def opened(path: Path) -> IO[bytes]:
    """The open lock file at `path`, made where there is none. Raises OSError.

    What lies there keeps its content, and a link is refused: a folder of runs or frames may be somebody else's, and its "lock"
    may lead to any file of ours.
    """
    return open(path, "rb", buffering=0, opener=lambda name, _: os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666))
