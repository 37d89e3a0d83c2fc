"""Every knob of the preprocessing, by named and versioned recipes."""

from cia_extract.recipes.files import BASE, NAMES, load, parse_change, restored
from cia_extract.recipes.recipe import Audio, Flow, Picture, Recipe

__all__ = ["BASE", "NAMES", "Audio", "Flow", "Picture", "Recipe", "load", "parse_change", "restored"]
