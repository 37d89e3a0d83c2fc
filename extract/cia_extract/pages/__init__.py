"""HTML pages to look at: what the networks see of a clip, and a feature file at a glance."""

from cia_extract.pages import overview, preview

__all__ = ["overview", "preview"]
