"""Frozen networks and how they run: I3D, TBN's BN-Inception, and the engines (eager, compiled, OpenVINO).

Importing this imports no torch; `engines` and its names do.
"""

from typing import TYPE_CHECKING

from cia_extract.common import lazy
from cia_extract.networks.streams import GMACS, IN_CHANNELS, network_of

if TYPE_CHECKING:
    from cia_extract.networks import engines, streams
    from cia_extract.networks.engines import Engine, example
else:
    __getattr__ = lazy.names_of(__name__, {"engines": ("Engine", "example")})

__all__ = ["GMACS", "IN_CHANNELS", "Engine", "engines", "example", "network_of", "streams"]
