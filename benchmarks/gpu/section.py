"""The rows of one section, for `python benchmarks/gpu`, which runs it: python section.py NAME DEVICE WEIGHTS FOLDER LOG ENDS."""

import importlib
import sys
import traceback
from pathlib import Path

import torch
from measuring import Bench, failure, note


def main(place: str, device: str, weights: str, folder: str, log: str, ends: str) -> None:
    bench = Bench(torch.device(device), weights, Path(folder), Path(log), float(ends))
    module, name = place.split(".")
    try:
        for what, figures in getattr(importlib.import_module(module), name)(bench):
            note(f"{what}: {figures}")
            bench.write(what, figures)
    except Exception as error:  # before a section's first row, or between two
        traceback.print_exc()
        bench.write(name, failure(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
