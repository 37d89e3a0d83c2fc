"""What a run is made of: set-ups and methods by name."""

from cia_adapt.config import splits
from cia_adapt.config.library import Chosen, load, names
from cia_adapt.config.schema import Method, Setup

__all__ = ["Chosen", "Method", "Setup", "load", "names", "splits"]
