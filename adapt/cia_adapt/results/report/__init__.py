"""The HTML report over finished runs: curves, t-SNE, consensus maps, and a table."""

from cia_adapt.results.report import page

__all__ = ["page"]
