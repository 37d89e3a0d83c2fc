"""Stage one of CIA: action clips in, one HDF5 file of RGB and flow features out.

In a notebook:

    import cia_extract

    summary = cia_extract.extract("indoor", "feats.h5", root="clips/indoor")
    vectors = cia_extract.open_features("feats.h5")["indoor"].array("rgb/pooled")  # [N, T, C], a memory map

Notation used throughout the package: N clips, T sampled frames a clip (25), C channels (1024), H×W map (7×7).
"""

import sys
from importlib import import_module
from typing import Any

from cia_extract.common.version import __version__

if sys.platform == "win32":  # both commands import this first
    raise ImportError("cia-extract and cia-adapt lock files as only Linux and macOS do; on Windows install them in WSL 2")

# The types of what is imported late are in __init__.pyi.
__all__ = ["__version__", "extract", "open_features"]


def __getattr__(name: str) -> Any:
    """Import a function when it is first asked for: what reads features needs no torch."""
    rooms = {"extract": "cli", "open_features": "features"}
    if name not in rooms:
        raise AttributeError(f"module 'cia_extract' has no attribute {name!r}")
    return getattr(import_module(f"cia_extract.{rooms[name]}"), name)
