"""Extraction beside strangers: how the priority of workers that decode and compute flow decides who waits for whom.

    python benchmarks/neighbours.py --strangers 0 --strangers 2

Each variant extracts the same rendered clips (I3D, random weights, DIS flow, two workers); a stranger is a process that computes
without end at the usual priority. `always` is what versions before did, niceness 19 for every clip; `never` is none.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

from common import machine


def before_19(job, beat):
    """The work of a worker that always gives way."""
    from cia_extract.clips import prepare_clip

    os.nice(max(0, 19 - os.nice(0)))
    return prepare_clip(job, beat)


def stranger():
    while True:
        sum(range(10_000))


def main():
    import torch
    from cia_extract import recipes
    from cia_extract.clips import workers
    from cia_extract.datasets import demo, manifest
    from cia_extract.extraction import clips_to_rows, pipeline
    from cia_extract.extraction.settings import Settings

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--frames", type=int, default=1, help="windows a clip and modality")
    parser.add_argument("--strangers", type=int, action="append", help="processes that compute beside it [default: 0 and 2]")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    prepared, gives_way = workers.prepared_clips, workers.Results.wait_for_network

    def always(jobs, count, timeout):
        return prepared(jobs, count, timeout, before_19)

    variants = {"always": (always, lambda _: False), "never": (prepared, lambda _: False), "as now": (prepared, gives_way)}
    print(f"{machine()}, load {os.getloadavg()[0]:.1f} before; medians of {options.rounds} rounds in turns")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = demo.build(folder / "clips", 1, 0, None, 1)[: options.clips]
        listed = manifest.check("demo", rows)
        recipe = recipes.load("kinetics", {"sampling.frames": options.frames, "flow.algorithm": "dis"})
        for count in options.strangers or (0, 2):
            others = [multiprocessing.Process(target=stranger, daemon=True) for _ in range(count)]
            for other in others:
                other.start()
            rates: dict[str, list[float]] = {variant: [] for variant in variants}
            for number in range(options.rounds):
                for variant, (work, gives_way) in variants.items():
                    clips_to_rows.prepared_clips = work  # type: ignore[assignment]
                    workers.Results.wait_for_network = gives_way  # type: ignore[method-assign]
                    settings = Settings(
                        dataset="d", manifest=listed, root=folder / "clips", out=folder / f"{count}{number}{variant}.h5",
                        recipe=recipe, weights=("random",), engine="eager", workers=2, device=torch.device("cpu"),
                    )  # fmt: skip
                    began = time.perf_counter()
                    summary = pipeline.extract(settings, lambda _: None)
                    rates[variant].append(summary.done / (time.perf_counter() - began))
                    settings.out.unlink()
            for other in others:
                other.kill()
            medians = {variant: statistics.median(values) for variant, values in rates.items()}
            for variant, rate in medians.items():
                print(
                    f"{count} strangers, {variant:<7} {rate:6.3f} clips a second, {rate / medians['always']:5.2f} × always",
                    flush=True,
                )


if __name__ == "__main__":
    main()
