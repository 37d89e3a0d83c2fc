"""Too little memory: one line that says what to lower."""

from collections.abc import Callable, Iterator
from functools import partial

import cia_adapt
import cia_extract
import torch
from cia_extract.common.errors import UsageError
from measuring import WRONG, Bench, Row
from stage_two import feature_file

LITTLE_GB = 0.6  # CIA's step at batch 128 takes 0.9 GB of activations, TV-L1 of 256 pairs 5.3 GB


def shortage(bench: Bench) -> Iterator[Row]:
    """A GPU with too little memory: one line that says what to lower, from both commands."""
    if bench.small:
        yield "out of memory", "not on a CPU: the kernel would end other programs first"
        return
    file, fraction = feature_file(bench), 1e9 * LITTLE_GB / torch.cuda.get_device_properties(bench.device).total_memory
    commands: dict[str, Callable[[], object]] = {
        "cia-extract": lambda: cia_extract.extract("demo", bench.folder / "short.h5", bench.folder / "clips", clips_per_class=2,
                                                   device=str(bench.device), weights=[bench.weights], engine="eager"),
        "cia-adapt": lambda: cia_adapt.train(file, "cia", source="ucf", target="hmdb", device=str(bench.device), tier="ram",
                                             epochs=1, runs=bench.folder / "short"),
    }  # fmt: skip
    torch.cuda.set_per_process_memory_fraction(fraction, bench.device)  # of this section's process

    def said(command: Callable[[], object]) -> str:
        try:
            command()
        except UsageError as error:
            return f"{'' if 'not enough memory; take a smaller --batch' in str(error) else WRONG}{error}"
        return f"{WRONG}it had enough"

    for name, command in commands.items():
        yield bench.row(f"{name} in {LITTLE_GB} GB", partial(said, command), LITTLE_GB)
