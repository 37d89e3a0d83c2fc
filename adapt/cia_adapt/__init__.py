"""Stage two of CIA: light heads trained over cached features, with honest evaluation.

In a notebook:

    import cia_adapt

    runs = cia_adapt.train("feats.h5", method="cia", setup="demo", seeds=3)
    runs[0].result["selected"], runs[0].predictions, runs[0].metrics
    cia_adapt.load_run("runs/demo/cia/indoor-outdoor/seed0")  # the same run, on another day
    cia_adapt.predict(runs[0], "feats.h5", dataset="indoor").table  # what it says of any clips

Notation used throughout the package: B clips in a batch, S segments (frames used of a clip, 5), T frames stored of a clip (25),
C channels (1024), H×W map (7×7), M modalities, D features of a stream, K classes.
"""

from importlib import import_module
from typing import Any

from cia_extract import __version__ as __version__

# The types of what is imported late are in __init__.pyi.
__all__ = ["__version__", "load_run", "predict", "train"]


def __getattr__(name: str) -> Any:
    """Import a function when it is first asked for: `--help` needs no torch."""
    places = {"load_run": ("runs", "load_run"), "predict": ("cli", "predict_clips"), "train": ("cli", "train_method")}
    if name not in places:
        raise AttributeError(f"module 'cia_adapt' has no attribute {name!r}")
    room, function = places[name]
    return getattr(import_module(f"cia_adapt.{room}"), function)
