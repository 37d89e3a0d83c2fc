"""From settings to a filled feature file: workers decode, batches run through the networks, rows are written."""

from cia_extract.extraction import cluster, dry_run, pipeline
from cia_extract.extraction.settings import Settings, Summary
from cia_extract.extraction.window_batches import Batcher

__all__ = ["Batcher", "Settings", "Summary", "cluster", "dry_run", "pipeline"]
