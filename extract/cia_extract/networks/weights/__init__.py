"""Weights of the networks: where they come from, what a file really is, whether it fits. `build` and `load` import torch."""

from typing import TYPE_CHECKING

from cia_extract.common import lazy
from cia_extract.networks.weights.inspect import identity_line, misfits_by_stream, renamed
from cia_extract.networks.weights.known import KNOWN

if TYPE_CHECKING:
    from cia_extract.networks.weights import download, fit, identity
    from cia_extract.networks.weights.checkpoint import read
    from cia_extract.networks.weights.loading import Weights, build, choose, load
else:
    __getattr__ = lazy.names_of(__name__, {"checkpoint": ("read",), "loading": ("Weights", "build", "choose", "load")})

__all__ = [
    "KNOWN",
    "Weights",
    "build",
    "choose",
    "download",
    "fit",
    "identity",
    "identity_line",
    "load",
    "misfits_by_stream",
    "read",
    "renamed",
]
