"""Figures of finished runs: t-SNE of runs side by side, consensus maps and Grad-CAM over the frames that the network saw."""

from cia_adapt.results.figures import clip_maps, drawing, two_runs
from cia_adapt.results.figures.embedding import tsne
from cia_adapt.results.figures.frames import frames_of_each
from cia_adapt.results.figures.trained import Trained, opened

__all__ = ["Trained", "clip_maps", "drawing", "frames_of_each", "opened", "tsne", "two_runs"]
