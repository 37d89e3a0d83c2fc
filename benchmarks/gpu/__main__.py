"""Every path that shows on a GPU only: whether its numbers are right there, and how fast it is. One table at the end.

python benchmarks/gpu                     # on the GPU, under ten minutes
python benchmarks/gpu --device cpu        # the same rows, small: whether this script itself works

It needs torch, a wheel of this project and its cache of weights (~/.cache/cia; or --weights random), and of the
repository this folder alone. A row that fails, or hangs, says why and the others go on; the exit code is 1 if any failed or
disagreed, took too long or took more memory than it may.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from watch import WRONG, Row, rows_of

TARGETS = (
    "Targets: I3D in bf16 at half of the matrix peak; TV-L1 500 pairs/s at 256×341 (H100); waiting at most 20 %; "
    "CIA's epoch 60 ms eager, 15 ms with graphs"
)

# Where a section is defined, and its share of the time. What it leaves goes to those after it: most methods live on that.
SECTIONS = {
    "networks": ("stage_one.networks", 170), "flow": ("stage_one.flow", 70), "extraction": ("stage_one.extraction", 80),
    "epochs": ("stage_two.epochs", 60), "end-to-end": ("stage_two.end_to_end", 60),
    "shortage": ("shortage.shortage", 30), "several": ("stage_one.several", 30), "methods": ("stage_two.methods", 40),
}  # fmt: skip
MACHINE = ("measuring.machine", 0)
LEAST = 30.0  # seconds of a section, whatever those before it took
GRACE = 5.0  # seconds that a section has to end a row by itself, before its process is ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--weights", default="kinetics", help="of I3D; random needs no cache")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all sections together")
    options = parser.parse_args()
    asked = options.only.split(",")
    if unknown := set(asked) - set(SECTIONS):
        parser.error(f"--only: no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    places = {"machine": MACHINE} | {section: SECTIONS[section] for section in asked}
    rows: list[Row] = []
    begun, shares, whole = time.monotonic(), 0, sum(share for _, share in places.values())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for section, (place, share) in places.items():
            shares += share
            now = time.monotonic()
            ends = max(now + LEAST, begun + 60 * options.minutes * shares / whole)
            log = Path(folder) / f"{section}.jsonl"
            command = [sys.executable, str(Path(__file__).with_name("section.py")), place]
            command += [options.device, options.weights, folder, str(log), str(ends)]
            rows += rows_of(section, command, log, ends + GRACE - now)
            print(f"{section}: {time.monotonic() - now:.0f} s", file=sys.stderr, flush=True)
    print("\n| | |\n|---|---|")
    for what, figures in rows:
        print(f"| {what} | {figures.strip()} |")
    print(f"\n{TARGETS}")
    sys.exit(any(figures.startswith(WRONG) for _, figures in rows))


if __name__ == "__main__":
    main()
