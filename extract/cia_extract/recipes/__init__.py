"""Every knob of the preprocessing, by named and versioned recipes."""

from cia_extract.recipes.files import BASE, NAMES, load, restored
from cia_extract.recipes.recipe import Algorithm, Audio, Backbone, Count, Edge, Flow, Picture, Rate, Recipe, Rule

__all__ = [
    "BASE", "NAMES", "Algorithm", "Audio", "Backbone", "Count", "Edge", "Flow", "Picture", "Rate", "Recipe", "Rule",
    "load", "restored",
]  # fmt: skip
