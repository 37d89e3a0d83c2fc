"""Finished runs side by side: comparisons, statistics, tables, and the HTML report."""

from cia_adapt.results import comparison, formats, statistics, table

__all__ = ["comparison", "formats", "statistics", "table"]
