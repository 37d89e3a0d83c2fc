"""How extraction grows: clip preparation with two workers against one; time and memory of ten times as many clips.

python benchmarks/scaling.py CLIP [CLIP …] [--flow dis] [--repeat 6] [--clips 100]

Workers: each clip `--repeat` times through decoding, scaling and flow, no network. First every worker prepares a clip for one
window; the clock starts at the mean of their returns: a head start of one worker is the lateness of the other.
Clips: the command, with TBN on RGB (random weights) and one frame a clip, so that little but the growth is left. Memory is the
sum of resident memory over the command and its workers, sampled; pages that they share count in each.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cia_extract import recipes
from cia_extract.clips import workers
from cia_extract.clips.job import ClipJob
from cia_extract.common.outcomes import ClipError
from cia_extract.datasets import manifest
from common import machine

SAMPLE_S = 0.2


def prepare_seconds(jobs: list[ClipJob], count: int) -> float:
    """Seconds for all jobs with so many workers, after a short one for each of these."""
    short = recipes.load("kinetics", {"flow.algorithm": "dis", "sampling.frames": 1})
    listed = enumerate([dataclasses.replace(jobs[0], recipe=short)] * count + jobs)
    ready = []
    for key, clip in workers.prepared_clips(listed, count):
        if isinstance(clip, ClipError):
            sys.exit(str(clip))
        if key < count:
            ready.append(time.perf_counter())
    return time.perf_counter() - statistics.mean(ready)


def resident(root: int) -> int:
    """Resident bytes of a process and all below it."""
    parents, sizes = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:  # it has just ended
            continue
        pid = int(status.parent.name)
        parents[pid], sizes[pid] = int(fields["PPid"]), int(fields.get("VmRSS", "0 kB").split()[0]) * 1024

    def below(pid: int) -> Iterator[int]:
        yield pid
        for child, parent in parents.items():
            if parent == pid:
                yield from below(child)

    return sum(sizes.get(pid, 0) for pid in below(root))


def extraction(paths: list[Path], count: int) -> tuple[float, float, int]:
    """Extract a manifest of `count` rows over the clips: whole seconds, those without start-up, peak resident bytes."""
    rows = [{"clip": f"{i}", "path": str(path.resolve())[1:], "label": "-", "split": "test"}
            for i, path in enumerate(islice(cycle(paths), count))]  # fmt: skip
    with tempfile.TemporaryDirectory(dir=".") as name:
        listed, out = Path(name) / "manifest.csv", Path(name) / "f.h5"
        manifest.check("the command line", rows).write(listed)
        asked = "--backbone tbn --modality rgb --weights random --frames 1 --flow dis --workers 2 --engine eager --device cpu"
        command = [str(Path(sys.executable).with_name("cia-extract")), *asked.split(), "--json", "--dataset", "scaling"]
        command += ["--manifest", str(listed), "--root", "/", "--out", str(out)]
        began, peak = time.perf_counter(), 0
        with (Path(name) / "log").open("w+") as log, (Path(name) / "json").open("w+") as printed:
            process = subprocess.Popen(command, stdout=printed, stderr=log)
            while process.poll() is None:
                peak = max(peak, resident(process.pid))
                time.sleep(SAMPLE_S)
            seconds = time.perf_counter() - began
            if process.returncode:
                log.seek(0)
                sys.exit(log.read())
            printed.seek(0)
            return seconds, json.load(printed)["seconds"]["wall"], peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--flow", choices=("tvl1", "dis"), default="dis")
    parser.add_argument("--frames", type=int, default=25, help="windows a clip while workers are compared")
    parser.add_argument("--repeat", type=int, default=6, help="times each clip is prepared")
    parser.add_argument("--rounds", type=int, default=3, help="of one and two workers in turns")
    parser.add_argument("--clips", type=int, default=100, help="rows of the smaller manifest")
    parser.add_argument("--only-workers", action="store_true", help="leave the growth with clips out")
    options = parser.parse_args()
    print(f"{machine()}; load {os.getloadavg()[0]:.1f} before: workers are nice, other processes would take their cores")

    recipe = recipes.load("kinetics", {"flow.algorithm": options.flow, "sampling.frames": options.frames})
    jobs = [ClipJob(path, ("rgb", "flow"), recipe) for path in options.paths] * options.repeat
    turns = [(prepare_seconds(jobs, 1), prepare_seconds(jobs, 2)) for _ in range(options.rounds)]
    one, two = (statistics.median(column) for column in zip(*turns, strict=True))
    print(f"preparing {len(jobs)} clips, {options.frames} windows, {options.flow}; medians of {options.rounds}")
    print(f"  1 worker  {one:8.2f} s\n  2 workers {two:8.2f} s   {one / two:.2f}× the speed of one")

    if options.only_workers:
        return
    print("extracting, TBN, RGB, 1 frame a clip, 2 workers")
    found = {}
    for count in (options.clips, 10 * options.clips):
        found[count] = whole, wall, peak = extraction(options.paths, count)
        print(f"  {count:6d} clips {whole:8.2f} s, {wall:8.2f} s without start-up, peak {peak / 1e6:8.0f} MB")
    few, many = found.values()
    print(f"  ten times the clips: {many[1] / few[1]:.2f}× the seconds without start-up ({many[0] / few[0]:.2f}× in all), "
          f"{many[2] / few[2]:.3f}× the memory")  # fmt: skip


if __name__ == "__main__":
    main()
