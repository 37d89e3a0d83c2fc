"""From sections to one HTML file: `rendering`, its template, style and script."""

from cia_adapt.results.report.html.rendering import Page, render

__all__ = ["Page", "render"]
