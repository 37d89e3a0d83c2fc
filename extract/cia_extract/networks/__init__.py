"""Frozen networks and how they run: I3D, TBN's BN-Inception, and the engines (eager, compiled, OpenVINO)."""

from cia_extract.networks import engines, streams
from cia_extract.networks.engines import Engine
from cia_extract.networks.streams import GMACS, IN_CHANNELS, example, network_of

__all__ = ["GMACS", "IN_CHANNELS", "Engine", "engines", "example", "network_of", "streams"]
