"""What a million clips and ten thousand runs cost: seconds and memory of the commands that must look at all of them.

python benchmarks/scale.py manifest [--rows 1000000]
python benchmarks/scale.py runs [--runs 10000] [--methods 50]

`manifest`: a manifest of so many rows over the demo's 32 clips: reading it, --dry-run, laying out the feature file (sparse:
nothing of it is filled), opening it, what is to be done in it, one shard of a thousand. `runs`: one real run of 200 target clips
is copied under other names of methods, directions and seeds; all copies have its numbers, so no statistic here means anything.

Each row is a process of its own. Memory is the most that the process had, mapped pages included.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from cia_adapt import config
from cia_adapt.runs import checksums
from cia_extract.datasets import demo
from common import machine

EXTRACT = "from cia_extract.cli import main; main()"
ADAPT = "from cia_adapt.cli import main; main()"
CHEAP = [
    "--backbone",
    "tbn",
    "--modality",
    "rgb",
    "--modality",
    "flow",
    "--flow",
    "dis",
    "--weights",
    "random",
    "--engine",
    "eager",
]
METER = """
import atexit, resource, sys
atexit.register(lambda: sys.stderr.write(f"\\npeak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}"))
"""
OPEN = """
import sys, time
from pathlib import Path
from cia_extract import features
from cia_extract.extraction.settings import Settings, rows_to_do
from cia_extract.datasets import Manifest
began = time.perf_counter()
def lap(what):
    global began
    print(f"{what} {time.perf_counter() - began:.1f} s", end=", ")
    began = time.perf_counter()
dataset = features.open_features(Path(sys.argv[1]))["clips"]
lap("open")
asked = dict(dataset="clips", manifest=Manifest("", dataset.columns), root=Path("."), out=Path(sys.argv[1]))
todo = rows_to_do(dataset, Settings(**asked))
lap(f"rows to do ({len(todo)})")
part = rows_to_do(dataset, Settings(**asked, shard=(1, 1000)))
lap(f"those of a shard of a thousand ({len(part)})")
"""
READ = """
import sys
from pathlib import Path
from cia_extract.datasets import manifest
print(len(manifest.read(Path(sys.argv[1]))), "rows")
"""
LAY_OUT = """
import sys
from pathlib import Path
from cia_extract.datasets import manifest
from cia_extract.features import writer
path = Path(sys.argv[2])
columns = manifest.read(Path(sys.argv[1])).columns
provenance = {"dataset": "clips", "backbone": "i3d", "modalities": ["rgb", "flow"], "frames": 25}
writer.free_bytes = lambda place: 1 << 60  # the file is sparse, and stays empty
writer.begin_or_continue(path, "clips", columns, provenance, path.parent, overwrite=False)
print(f"{path.stat().st_size / 1e12:.1f} TB long, {path.stat().st_blocks * 512 / 1e6:.0f} MB on the disk")
"""


def timed(what: str, *words: object, code: str = "") -> None:
    """Run a process and print its row: seconds, CPU seconds, most memory, the last line that it printed. Its failure ends all."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", METER + code, *map(str, words)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{what}: exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    memory = int(done.stderr.rpartition("peak ")[2]) / 1e6
    last = (done.stdout.strip().splitlines() or [""])[-1].strip()[:110]
    print(f"| {what} | {time.perf_counter() - began:.1f} | {cpu:.1f} | {memory:.2f} | {last} |", flush=True)


def manifests(folder: Path, rows: int) -> None:
    """A long list of clips."""
    clips, path = demo.build(folder / "clips", 1), folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "path", "label", "split", "start", "stop"])
        for row in range(rows):
            clip = clips[row % len(clips)]
            writer.writerow(
                [f"{clip['clip']}-{row:07}", clip["path"], clip["label"], "val" if row % 10 == 9 else "train", "0.1", "1.5"]
            )
    print(f"{rows} rows, {path.stat().st_size / 1e6:.0f} MB", flush=True)
    timed("read and check the manifest", path, code=READ)
    asked = ["--dataset", "clips", "--manifest", path, "--root", folder / "clips", "--out", folder / "dry.h5", *CHEAP]
    timed("--dry-run", *asked, "--dry-run", code=EXTRACT)
    timed("lay out the feature file", path, folder / "f.h5", code=LAY_OUT)
    timed("open it", folder / "f.h5", code=OPEN)


def copies(folder: Path, runs: int, methods: int) -> None:
    """A real run, and others like it."""
    file, swept = folder / "f.h5", folder / "runs"
    with h5py.File(file, "w") as features:
        for seed, name in enumerate(("a", "b"), 1):
            random, clips = np.random.default_rng(seed), 400
            columns = {"clip": [f"{name}{i}" for i in range(clips)], "label": [f"class{i % 8}" for i in range(clips)]}
            columns["split"] = ["val" if i < 200 else "train" for i in range(clips)]
            for column, values in columns.items():
                features[f"{name}/clips/{column}"] = np.array(values, dtype="S")
            for modality in ("rgb", "flow"):
                features[f"{name}/{modality}/pooled"] = random.standard_exponential((clips, 5, 64), np.float32)
    words = ["--features", file, "--setup", "demo", "--method", "concat", "--source", "a"]
    words += ["--epochs", 20, "--runs", folder / "one"]
    timed("train the one that is copied", *words, code=ADAPT)
    one = folder / "one/demo/concat/a-b/seed0"
    names, pairs = [*config.names("methods"), *(f"cia+lr={i}" for i in range(methods))][:methods], [("a", "b"), ("b", "a")]
    seeds = -(-runs // (len(names) * len(pairs)))
    texts = {name: json.loads((one / name).read_text()) for name in ("config.json", "result.json")}
    began = time.perf_counter()
    for method in names:
        for source, target in pairs:
            for seed in range(seeds):
                place = swept / f"demo/{method}/{source}-{target}/seed{seed}"
                place.mkdir(parents=True)
                changed = {"source": source, "target": target, "seed": seed}
                about = texts["config.json"] | changed | {"method": texts["config.json"]["method"] | {"name": method}}
                (place / "config.json").write_text(json.dumps(about))
                (place / "result.json").write_text(json.dumps(texts["result.json"] | changed | {"method": method}))
                for path in one.iterdir():
                    if path.name not in (*texts, checksums.DONE):
                        os.link(path, place / path.name)  # ten thousand checkpoints would be gigabytes
                checksums.write(place)
    count = len(names) * len(pairs) * seeds
    print(
        f"{count} runs: {len(names)} methods, {seeds} seeds, written in {time.perf_counter() - began:.0f} s",
        flush=True,
    )
    timed("table 3", "table", swept, code=ADAPT)
    timed("table 3 --baseline", "table", swept, "--baseline", names[0], code=ADAPT)
    timed("table 2, csv", "table", swept, "--table", "2", "--format", "csv", code=ADAPT)
    timed("validators", "validators", swept, code=ADAPT)
    timed("report", "report", swept, "--out", folder / "report.html", code=ADAPT)
    print(f"report.html: {(folder / 'report.html').stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("manifest", "runs"))
    parser.add_argument("--rows", type=int, default=10**6)
    parser.add_argument("--runs", type=int, default=10**4)
    parser.add_argument(
        "--methods", type=int, default=50, help="of which the runs are; more than there are stand for a grid's points"
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where all is made, and deleted")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    print(f"{machine()}\n\n| | seconds | CPU seconds | GB at most | |\n|---|---|---|---|---|", flush=True)
    try:
        if options.what == "manifest":
            manifests(folder, options.rows)
        else:
            copies(folder, options.runs, options.methods)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
