"""EPIC-KITCHENS-100 whole: start-up, memory and an epoch of some methods over vectors; then predict, submit and check.

python benchmarks/e100.py --csvs UDA_annotations [--method dann --method cia …] [--share 0.2] [--folder DIR]

The clips are those of the official csvs, all 65,345, with labels and splits; the features are random numbers of TBN's shape,
25 frames of 1024 numbers in three modalities, 20 GB, and 328 GB of maps that are declared and never read. The file is sparse: a
`--share` of its clips is written (4 GB of 20), the others are zeros that the disk does not hold. For size and time only: no
accuracy here means anything. Each method runs in a process of its own, as the command does; memory is the process's own, without
what it maps. CPU seconds stand beside the seconds, for machines on which other work runs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from cia_extract import datasets, features
from common import machine

FRAMES, CHANNELS, MODALITIES = 25, 1024, ("rgb", "flow", "audio")
ADAPT = "from cia_adapt.cli import main; main()"
FLAGS = ["--setup", "e100", "--source", "source", "--target", "target", "--epochs", "1"]
VECTORS = {"cia": ["--pooling", "avg"]}
"""What turns a method to vectors."""


def make_file(path: Path, csvs: Path, share: float) -> int:
    """A feature file of all clips of the csvs, as cia-extract lays it out; returns the number of clips."""
    columns = datasets.build("e100", path.parent / "no videos", csvs).manifest.columns
    clips = len(columns["clip"])
    recipe = {"dataset": "e100", "backbone": "tbn", "modalities": list(MODALITIES), "frames": FRAMES}
    with h5py.File(path, "w", libver="v110", alignment_threshold=1 << 16, alignment_interval=4096) as file:
        features.lay_out(file, "e100", columns, recipe, path.parent)
    dataset = features.open_features(path)["e100"]
    arrays = {name: writable(path, region) for name, region in dataset.regions.items() if not name.endswith("/maps")}
    arrays["audio/mask"][:] = 1
    arrays["clips/indices"][:] = np.arange(FRAMES)
    random = np.random.default_rng(0)
    blocks = random.standard_exponential((256, FRAMES, CHANNELS), np.float32)
    ones, written = np.ones(FRAMES, np.uint8), random.random(clips) < share
    for column, modality in enumerate(MODALITIES):
        sound = modality == "audio"
        crcs = [features.row_crc32c(block, ones) if sound else features.row_crc32c(block) for block in (*blocks, 0 * blocks[0])]
        picked = np.where(written, random.integers(len(blocks), size=clips), len(blocks))  # the last: zeros
        for row in np.flatnonzero(written):
            arrays[f"{modality}/pooled"][row] = blocks[picked[row]]
        of_row = np.array(crcs, np.uint32)[picked]
        arrays["vectors_crc32c"][:, column] = of_row
        if sound:
            arrays["crc32c"][:, column] = of_row
        arrays["status"][:, column] = features.DONE
    for array in arrays.values():
        array.flush()
    return clips


def writable(path: Path, region: Any) -> np.memmap:
    return np.memmap(path, region.dtype, "r+", region.offset, region.shape)


def child(path: Path, method: str) -> None:
    """One epoch of a method as the command runs it, by its parts; prints a JSON object."""
    from cia_adapt import config
    from cia_adapt.data import Stores
    from cia_adapt.experiments import Request
    from cia_adapt.experiments.directions import prepared, task_of
    from cia_adapt.training import Evaluator, Trainer
    from cia_adapt.training.validators import of_target
    from cia_extract.common import switches
    from epoch import Peak

    switches.keep_freed_memory()
    since = [float(os.environ["BEGAN"]), 0.0]  # of the clock, of the CPU

    def lap() -> str:
        """Seconds since the last lap, and CPU seconds."""
        before, since[:] = list(since), [time.time(), time.process_time()]
        return f"{since[0] - before[0]:.1f} s ({since[1] - before[1]:.1f} CPU)"

    with Peak() as peak:
        changes = {"epochs": 1} | ({"pooling": "avg"} if method in VECTORS else {})
        chosen = config.load("e100", method, changes)
        request = Request(features=path, chosen=chosen, source="source", target="target")
        (direction,) = prepared(request, lambda message: None)
        stores = Stores(request.device, request.tier)
        task, labels = task_of(direction, stores)
        trainer = Trainer(task, direction.setup, direction.method, 0, request.device)
        draw = trainer.draws()[0]
        trainer.read(draw)
        report: dict[str, Any] = {"start-up": lap(), "GB at the start": peak.bytes / 1e9}
        trainer.epoch()
        report["first epoch"] = lap()
        trainer.steps_total *= 2
        trainer.epoch()
        report["second epoch"] = lap()
        evaluator = Evaluator(task, labels, direction.setup.segments, request.device)
        predictions = [evaluator.predict(trainer.model, clips) for clips in (task.source_val.clips, task.target_val)]
        evaluator.source_accuracy(predictions[0]), evaluator.target_scores(predictions[1])
        report["evaluation"] = lap()
        train = evaluator.predict(trainer.model, task.target_train)
        of_target(train.probabilities, train.features)
        report["validators"] = lap()
    report |= {"peak GB above the map": peak.bytes / 1e9, "tiers": sorted({r.tier for r in task.target_train.readers.values()})}
    print(json.dumps(report))


def timed(program: list[str], **environment: str) -> tuple[float, str]:
    """(seconds, what it printed) of a process. Raises where it fails."""
    began = time.time()
    result = subprocess.run(
        [sys.executable, *program], env=os.environ | {"BEGAN": str(began)} | environment, capture_output=True, text=True
    )
    if result.returncode:
        raise SystemExit(f"{program}: exit code {result.returncode}\n{result.stdout}\n{result.stderr}")
    return time.time() - began, result.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csvs", type=Path, required=True, help="folder of the official UDA_annotations")
    parser.add_argument("--method", action="append", help="default: source-only, dann, ta3n, trn, cia")
    parser.add_argument("--share", type=float, default=0.2, help="of the clips that are written, 20 GB × this")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the file is made, and deleted")
    parser.add_argument("--no-challenge", action="store_true", help="without the run, predict, submit and check")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.file, arguments.child)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        path = Path(name) / "e100.h5"
        began = time.perf_counter()
        clips = make_file(path, arguments.csvs, arguments.share)
        status = path.stat()
        print(
            f"{machine()}\n{clips} clips, {status.st_size / 1e9:.0f} GB, {status.st_blocks * 512 / 1e9:.1f} GB of them on the "
            f"disk, made in {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        for method in arguments.method or ["source-only", "dann", "ta3n", "trn", "cia"]:
            _, out = timed([__file__, "--csvs", str(arguments.csvs), "--child", method, "--file", str(path)])
            report = json.loads(out.splitlines()[-1])
            print(
                f"{method:12}", ", ".join(f"{k} {v:.1f}" if isinstance(v, float) else f"{k} {v}" for k, v in report.items()),
                flush=True,
            )  # fmt: skip
        if not arguments.no_challenge:
            challenge(Path(name), path, arguments.csvs)


def challenge(folder: Path, path: Path, csvs: Path) -> None:
    """The commands of docs/epic-100.md on this file, two seeds of dann."""
    runs, zipped = folder / "runs", folder / "test.zip"
    test = csvs / "EPIC_100_uda_target_test_timestamps.csv"
    one = runs / "e100/dann/source-target/seed0"
    commands = {
        "dann, 1 epoch, 2 seeds": ["--features", path, *FLAGS, "--method", "dann", "--seeds", "2", "--runs", runs],
        "predict": ["predict", one, "--split", "test", "--out", folder / "scores.h5"],
        "submit, 2 seeds": ["submit", runs, "--timestamps", test, "--out", zipped],
        "submit --check": ["submit", "--check", zipped, "--timestamps", test],
        "table e100": ["table", runs, "--table", "e100"],
    }
    for name, words in commands.items():
        seconds, out = timed(["-c", ADAPT, *map(str, words)])
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(
            f"{name:24} {seconds:6.1f} s, {peak:.1f} GB at most so far with what is mapped: {out.splitlines()[-1].strip()[:90]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
