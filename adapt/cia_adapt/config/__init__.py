"""What a run is made of: set-ups and methods by name, their fields as flags."""

from cia_adapt.config import flags, splits
from cia_adapt.config.library import Chosen, load, names
from cia_adapt.config.schema import Method, Setup

__all__ = ["Chosen", "Method", "Setup", "flags", "load", "names", "splits"]
