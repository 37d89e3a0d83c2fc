"""Paths that no extraction can use, refused before anything is read: one line that names the flag."""

from collections.abc import Sequence
from pathlib import Path


def check_paths(out: Path, flow_cache: Path | None, weights: Sequence[str]) -> None:
    """Raises UsageError where a folder is given for a file, a file for a folder, or a path that cannot exist."""
    from cia_extract.datasets import sources
    from cia_extract.features import writer

    writer.check_out(out)
    if flow_cache is not None:
        sources.check_folder("--flow-cache", flow_cache)
    for text in weights:
        prefix, _, rest = text.partition("=")
        path = rest if prefix in {"rgb", "flow", "audio"} else text
        if path and path not in {"kinetics", "random"}:
            sources.check_file("--weights", Path(path))
