"""Weights of the networks: where they come from, what a file really is, whether it fits."""

from cia_extract.networks.weights import download, fit, identity
from cia_extract.networks.weights.checkpoint import read
from cia_extract.networks.weights.inspect import _identity, _misfits, _renamed
from cia_extract.networks.weights.known import KNOWN
from cia_extract.networks.weights.loading import Weights, build, choose, load

__all__ = [
    "KNOWN",
    "Weights",
    "_identity",
    "_misfits",
    "_renamed",
    "build",
    "choose",
    "download",
    "fit",
    "identity",
    "load",
    "read",
]
