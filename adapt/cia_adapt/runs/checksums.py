"""`done`, which says that a run is complete: the SHA-256 of each of its files, as `sha256sum --check done` reads them."""

import hashlib
from pathlib import Path
from typing import Final

from cia_extract.common import writes

DONE: Final = "done"
MOST_BYTES: Final = 64 << 10  # of `done`; a run has a dozen files


def write(folder: Path) -> None:
    """Write `done`, the last file of a run, with the sums of all that lie in `folder`. Raises OSError."""
    writes.text(folder / DONE, "".join(f"{_sha256(file)}  {file.name}\n" for file in sorted(folder.iterdir())))


def check(path: Path) -> None:
    """Compare a file of a finished run with its sum. Runs of versions before have none, nor has a run that is not finished.

    Raises ValueError where they differ or `done` is no such list, and OSError.
    """
    wanted = _sums(path.with_name(DONE)).get(path.name)
    if wanted is not None and _sha256(path) != wanted:
        raise ValueError(f"its SHA-256 is not the one in {DONE}: it was changed after it was written")


def _sums(done: Path) -> dict[str, str]:
    """{file's name: SHA-256}, as `done` has them."""
    if not done.is_file():
        return {}
    if done.stat().st_size > MOST_BYTES:
        raise ValueError(f"{DONE} is larger than such a list can be")
    lines = [line.split("  ", 1) for line in done.read_text(encoding="utf-8").splitlines()]
    if any(len(parts) != 2 for parts in lines):
        raise ValueError(f"{DONE} is no list of checksums")
    return {name: value for value, name in lines}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
