"""Training time of an epoch at UCF-HMDB's sizes. The features are random numbers of the right shape: for timing only.

python benchmarks/epoch.py [--steps 3] [--method cia …]
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from cia_adapt import config, data
from cia_adapt.train import Trainer
from cia_extract import writer
from common import machine

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--method", action="append")
parser.add_argument("--clips", type=int, default=240, help="clips in the file a domain; rows are reused to make up the sizes")
arguments = parser.parse_args()
UCF, HMDB = 1438, 840  # training clips

with tempfile.TemporaryDirectory(dir=".") as name:
    for seed, domain in enumerate(("ucf", "hmdb")):
        n = arguments.clips
        columns = {key: [f"{i}" for i in range(n)] for key in ("clip", "path")}
        columns |= {"label": [str(i % 12) for i in range(n)], "split": ["val" if i < 24 else "train" for i in range(n)]}
        recipe = {"dataset": domain, "modalities": ["rgb", "flow"], "frames": 5}
        dataset = writer.prepare(Path(name) / "f.h5", domain, columns, recipe, Path(name), overwrite=False)
        random = np.random.default_rng(seed)
        with writer.RowWriter(dataset) as rows:
            for row in range(n):
                for modality in ("rgb", "flow"):
                    rows.write_row(row, modality, random.exponential(0.3, (5, 1024, 7, 7)).astype(np.float32))
    print(machine())
    domains = data.find_domains(Path(name) / "f.h5")
    for method_name in arguments.method or ["source-only", "concat", "cia"]:
        method, setup = config.load(config.Method, method_name, {}), config.load(config.Setup, "uh", {})
        task, _ = data.make_task(domains["ucf"], domains["hmdb"], ("rgb", "flow"), method.needs_maps)
        trainer = Trainer(task, setup, method, 0, torch.device("cpu"))
        trainer.target_batch = setup.batch * HMDB // UCF
        trainer.target_batches = (np.arange(trainer.target_batch) % len(task.target_train) for _ in range(10**9))
        steps = -(-UCF // setup.batch)
        seconds = []
        for _ in range(arguments.steps + 1):
            began = time.perf_counter()
            trainer.train_step(np.arange(setup.batch))
            seconds.append(time.perf_counter() - began)
        step = float(np.median(seconds[1:]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{method_name:<12} {step:7.2f} s a step of {setup.batch}+{trainer.target_batch} clips, {steps} steps: "
            f"{step * steps:6.1f} s an epoch of training   (peak memory so far {peak:.1f} GB)"
        )
