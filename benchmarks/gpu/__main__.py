"""Every path that shows on a GPU only: whether its numbers are right there, and how fast it is. One table at the end.

python benchmarks/gpu                     # on the GPU, under ten minutes
python benchmarks/gpu --device cpu        # the same rows, small: whether this script itself works

It needs torch, a wheel of this project and its cache of weights (~/.cache/cia; or --weights random), and of the
repository this folder alone. A row that fails says why and the others go on; the exit code is 1 if any failed or disagreed.
"""

import argparse
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import cia_extract
import stage_one
import stage_two
import torch
from measuring import WRONG, Bench, Row, note
from shortage import shortage

TARGETS = (
    "Targets: I3D in bf16 at half of the matrix peak; TV-L1 500 pairs/s at 256×341 (H100); waiting at most 20 %; "
    "CIA's epoch 60 ms eager, 15 ms with graphs"
)

SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "networks": stage_one.networks, "flow": stage_one.flow, "extraction": stage_one.extraction,
    "epochs": stage_two.epochs, "end-to-end": stage_two.end_to_end,
    "shortage": shortage, "several": stage_one.several, "methods": stage_two.methods,
}  # fmt: skip


def machine(device: torch.device) -> str:
    """The card, or the processor, and the versions."""
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    card = f"{len(names)} × {names[0]}" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return f"{card}, torch {torch.__version__}, Python {platform.python_version()}, cia-video {cia_extract.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--weights", default="kinetics", help="of I3D; random needs no cache")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between")
    parser.add_argument("--minutes", type=float, default=9.5, help="after which no further section, or method, begins")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(torch.device(options.device), options.weights, Path(name), time.monotonic() + 60 * options.minutes)
        for section in options.only.split(","):
            began = time.monotonic()
            if began > bench.ends:
                rows.append((section, "not measured: no time left (--minutes)"))
                continue
            try:
                for row in SECTIONS[section](bench):
                    note(": ".join(row))
                    rows.append(row)
            except Exception as error:  # before a section's first row, or between two
                traceback.print_exc()
                rows.append((section, f"{WRONG}{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"))
            note(f"{section}: {time.monotonic() - began:.0f} s")
    print(f"\n{machine(bench.device)}\n\n| | |\n|---|---|")
    for what, figures in rows:
        print(f"| {what} | {figures.strip()} |")
    print(f"\n{TARGETS}")
    sys.exit(any(figures.startswith(WRONG) for _, figures in rows))


if __name__ == "__main__":
    main()
