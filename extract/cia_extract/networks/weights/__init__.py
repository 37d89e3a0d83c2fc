"""Weights of the networks: reading files, identifying them by checksum, checking that they fit; a cache of those with a name."""

from cia_extract.networks.weights import cache, fit, identity
from cia_extract.networks.weights.checkpoint import read
from cia_extract.networks.weights.inspect import identity_line, misfits_by_stream, renamed
from cia_extract.networks.weights.known import KNOWN
from cia_extract.networks.weights.loading import FINE_TUNED, Weights, build, choose, load, settle

__all__ = [
    "FINE_TUNED",
    "KNOWN",
    "Weights",
    "build",
    "cache",
    "choose",
    "fit",
    "identity",
    "identity_line",
    "load",
    "misfits_by_stream",
    "read",
    "renamed",
    "settle",
]
