"""The files that processes lock. The kernel drops a dead process' locks, so nothing is ever left locked."""

import os
from pathlib import Path


def opened(path: Path) -> int:
    """The descriptor of the lock file at `path`, made where there is none; whoever asks closes it. Raises OSError.

    What lies there keeps its content, and a link is refused: a folder of runs or frames may be somebody else's, and its "lock" may
    lead to any file of ours.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
