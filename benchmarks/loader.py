"""Five of 25 maps of a clip, warm cache: the loader against a plain memory-map gather and what other code does.

python benchmarks/loader.py [--clips 60]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from cia_adapt.data.readers import Reader, Stores, gather
from cia_adapt.parts.layers.maps import to_float
from cia_extract.common import switches
from cia_extract.features import writer
from common import print_table, side_by_side

parser = argparse.ArgumentParser()
parser.add_argument("--clips", type=int, default=60)
count = parser.parse_args().clips
switches.keep_freed_memory()  # as the command does; for all rows alike

with tempfile.TemporaryDirectory(dir=".") as name:
    folder = Path(name)
    columns = {key: [f"{key}{i}" for i in range(count)] for key in ("clip", "path", "label", "split")}
    recipe = {"dataset": "random", "modalities": ["rgb"], "frames": 25}
    dataset = writer.begin_or_continue(folder / "f.h5", "random", columns, recipe, folder, overwrite=False)
    random = np.random.default_rng(0)
    with writer.RowWriter(dataset) as rows, h5py.File(folder / "chunked.h5", "w") as other:
        chunked = other.create_dataset("maps", (count, 25, 1024, 7, 7), np.float16, chunks=(1, 1, 1024, 7, 7), compression="lzf")
        for row in range(count):
            maps = random.uniform(0, 1, (25, 1024, 7, 7)).astype(np.float32)
            rows.write_row(row, "rgb", maps)
            chunked[row] = maps
            for frame in range(25):
                torch.save(torch.from_numpy(maps[frame].astype(np.float16)), folder / f"{row}_{frame}.pt")
    mapped, stored = dataset.array("rgb/maps"), h5py.File(folder / "chunked.h5")["maps"]
    batch = np.arange(count)
    by_map, by_ram = (Stores(torch.device("cpu"), tier).reader(dataset, "rgb/maps", batch) for tier in ("map", "ram"))
    frames = np.stack([np.sort(random.permutation(25)[:5]) for _ in range(count)])

    def first() -> torch.Tensor:
        """The first reading of these clips: whole rows are held against their checksums."""
        assert isinstance(by_map, Reader) and by_map.guard
        by_map.guard.checked[:] = False
        return gather([(by_map, batch, frames)])

    def plain() -> np.ndarray:
        """One copy, made by numpy in one call."""
        return mapped[batch[:, None], frames]

    medians = side_by_side(
        {
            "plain memory-map gather, float16": plain,
            "tier map, float16": lambda: gather([(by_map, batch, frames)]),
            "tier map, float16, each clip's first reading": first,
            "tier map and to float32, channels last": lambda: to_float(gather([(by_map, batch, frames)]).flatten(0, 1)),
            "tier ram and to float32, channels last": lambda: to_float(gather([(by_ram, batch, frames)]).flatten(0, 1)),
            "h5py fancy indexing, chunked lzf": lambda: np.stack([stored[row, frames[row]] for row in batch]),
            "one .pt file per frame": lambda: torch.stack(
                [torch.load(folder / f"{row}_{f}.pt", weights_only=True) for row in batch for f in frames[row]]
            ),
        }
    )
    assert np.array_equal(gather([(by_map, batch, frames)]).numpy(), plain())
    assert np.array_equal(gather([(by_ram, batch, frames)]).numpy(), plain())
    print_table(medians, "plain memory-map gather, float16", "a clip", count)
