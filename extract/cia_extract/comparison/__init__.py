"""Two collections of features, clip by clip, and why they differ."""

from cia_extract.comparison import compare, reextraction

__all__ = ["compare", "reextraction"]
