"""One training step of methods that read vectors, on one thread and on all cores, side by side: wall and CPU time.

python benchmarks/threads.py FEATURES [--method concat …] [--setup uh] [--rounds 15]
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from cia_adapt import config
from cia_adapt.data import domains as data_domains
from cia_adapt.data import task as data_task
from cia_adapt.data.readers import Stores
from cia_adapt.training.trainer import Trainer
from cia_extract.common import machine as this_machine
from cia_extract.common import switches
from common import machine

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--method", action="append")
    parser.add_argument("--setup", default="uh")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    domains = data_domains.find_domains(options.features)
    (sources, target), *_ = data_domains.pairs(domains, (), None)
    print(machine())
    for name in options.method or ["concat", "dann", "trn", "ta3n"]:
        loaded = config.load(options.setup, name, {"segments": 3})
        source, method = domains[sources[0]], loaded.for_pair(sources[0], target)
        task, _ = data_task.make_task(source, domains[target], ("rgb", "flow"), method.needs_maps, loaded.setup, Stores(CPU))
        trainer = Trainer(task, loaded.setup, method, 0, CPU)
        draw = trainer.draws()[0]
        views = trainer.read(draw)
        spent: dict[int, list[tuple[float, float]]] = {1: [], this_machine.cores(): []}
        for _ in range(options.rounds + 1):
            for count, times in spent.items():
                with switches.threads(count):
                    began = time.perf_counter(), time.process_time()
                    trainer.train_step(draw, views)
                    times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        cells = []
        for count, times in spent.items():
            wall, cpu = (1e3 * statistics.median(column) for column in zip(*times[1:], strict=True))  # the first warms up
            cells.append(f"{count} threads: {wall:.1f} ms, CPU {cpu:.1f} ms")
        print(f"{name:10} {'; '.join(cells)}")


if __name__ == "__main__":
    main()
