"""Clips in the place of features: frames cached on the disk, crops, and the backbone that is trained with the rest."""

from cia_adapt.footage.crops import Crops, draw
from cia_adapt.footage.dataset import FRAMES, Footage, FrameDataset, opened
from cia_adapt.footage.pictures import Pictures
from cia_adapt.footage.trunk import CHANNELS, CROPS, Trunk, built, check_layers, grid, maps_of_a_clip

__all__ = [
    "CHANNELS",
    "CROPS",
    "FRAMES",
    "Crops",
    "Footage",
    "FrameDataset",
    "Pictures",
    "Trunk",
    "built",
    "check_layers",
    "draw",
    "grid",
    "maps_of_a_clip",
    "opened",
]
