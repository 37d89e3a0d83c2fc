"""What a run is made of: set-ups and methods by name or file, and the space of a search."""

from cia_adapt.config import splits
from cia_adapt.config.library import Chosen, grouped, load, names, read
from cia_adapt.config.overview import Published, published
from cia_adapt.config.schema import Method, Setup
from cia_adapt.config.space import Choice, Range, Space, earlier_spaces, load_space, values_of, with_values
from cia_adapt.config.toml_text import toml_text

__all__ = [
    "Choice",
    "Chosen",
    "Method",
    "Published",
    "Range",
    "Setup",
    "Space",
    "earlier_spaces",
    "grouped",
    "load",
    "load_space",
    "names",
    "published",
    "read",
    "splits",
    "toml_text",
    "values_of",
    "with_values",
]
