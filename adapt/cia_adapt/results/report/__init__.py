"""The HTML report over finished runs."""

from cia_adapt.results.report import page

__all__ = ["page"]
