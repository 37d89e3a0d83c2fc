"""Too little memory: one line that says what to lower."""

from collections.abc import Callable, Iterator

import cia_adapt
import cia_extract
import torch
from cia_extract.common.errors import UsageError
from measuring import WRONG, Bench, Row
from stage_two import feature_file


def shortage(bench: Bench) -> Iterator[Row]:
    """A GPU with too little memory: one line that says what to lower, from both commands."""
    if bench.small:
        yield "out of memory", "not on a CPU: the kernel would end other programs first"
        return
    file, fraction = feature_file(bench), 0.6e9 / torch.cuda.get_device_properties(bench.device).total_memory
    commands: dict[str, Callable[[], object]] = {
        "cia-extract": lambda: cia_extract.extract("demo", bench.folder / "short.h5", bench.folder / "clips", clips_per_class=2,
                                                   device=str(bench.device), weights=[bench.weights], engine="eager"),
        "cia-adapt": lambda: cia_adapt.train(file, "cia", source="ucf", target="hmdb", device=str(bench.device), tier="ram",
                                             epochs=1, runs=bench.folder / "short"),
    }  # fmt: skip
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(fraction, bench.device)
    try:
        for name, command in commands.items():
            try:
                command()
                yield f"{name} in 0.6 GB", f"{WRONG}it had enough"
            except UsageError as error:
                yield f"{name} in 0.6 GB", f"{'' if 'not enough memory; take a smaller --batch' in str(error) else WRONG}{error}"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
