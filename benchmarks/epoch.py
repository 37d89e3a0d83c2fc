"""Training time of an epoch at UCF-HMDB's sizes, beside a plain implementation, other ways of reading, and the arithmetic alone.

python benchmarks/epoch.py [--steps 3] [--method cia …] [--precision fp32 --precision bf16]

The features are random numbers of the right shape: for timing only. 1438 + 840 training clips, batch 128 + 74, 5 frames, two
modalities; read from a memory map that is in the page cache. Evaluation is not counted. All in one run, in turns.
"""

import argparse
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from cia_adapt import config, data, memory
from cia_adapt.cost import flops
from cia_adapt.sampling import Draw
from cia_adapt.store import Stores
from cia_adapt.train import Trainer
from cia_extract import writer
from common import machine, side_by_side
from torch import Tensor, nn
from torch.nn import functional as F

UCF, HMDB, BATCH, FRAMES = 1438, 840, 128, 5
STEPS = -(-UCF // BATCH)
TARGET = BATCH * HMDB // UCF


class PlainCIA(nn.Module):
    """Design A as one would write it down: refined maps, 1×1 convolutions, box filters, attention; losses as in method cia."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList([nn.Sequential(nn.Linear(2048, 128), nn.ReLU(), nn.Linear(128, 1024)) for _ in range(2)])
        self.embed = nn.ModuleList([nn.Conv2d(1024, 512, 1) for _ in range(2)])
        self.shared = nn.Sequential(nn.Linear(2048, 512), nn.ReLU(), nn.Dropout(0.5))
        self.classify = nn.Linear(512, classes)
        self.discriminators = nn.ModuleList([nn.Sequential(nn.Linear(512, 100), nn.ReLU(), nn.Linear(100, 2)) for _ in range(2)])

    def forward(self, rgb: Tensor, flow: Tensor, labels: Tensor) -> Tensor:
        clips = len(rgb)
        maps = [x.flatten(0, 1).float() for x in (rgb, flow)]
        z = [x.mean((2, 3)) for x in maps]
        refined = [
            x * (2 * torch.sigmoid(gate(torch.cat([z[i], z[1 - i]], 1))))[:, :, None, None]
            for i, (x, gate) in enumerate(zip(maps, self.gates, strict=True))
        ]
        units = [F.normalize(embed(x), dim=1) for x, embed in zip(refined, self.embed, strict=True)]
        total = torch.zeros((), device=rgb.device)
        for k in (1, 2, 3):
            padded = [F.pad(u, ((k - 1) // 2, k // 2, (k - 1) // 2, k // 2)) for u in units]
            boxed = [F.avg_pool2d(u, k, stride=1) for u in padded]  # a factor by valid cells cancels in the cosine
            total = total + F.cosine_similarity(*boxed, dim=1)
        weights = (total.flatten(1) / 0.3).softmax(1).view(-1, 1, 7, 7)
        frames = self.shared(torch.cat([(weights * x).sum((2, 3)) for x in refined], 1).unflatten(0, (clips, -1)))
        video = frames.mean(1)
        domain = (torch.arange(clips) >= len(labels)).long()
        loss = F.cross_entropy(self.classify(video)[: len(labels)], labels)
        for feature, discriminator in zip((video, frames.flatten(0, 1)), self.discriminators, strict=True):
            loss = loss + F.cross_entropy(discriminator(feature), domain.repeat_interleave(len(feature) // clips))
        return loss


def plain_step(batch: dict[str, Tensor], channels_last: bool) -> Callable[[], None]:
    """One update of the plain model by Adam, features at hand."""
    model = PlainCIA(12)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    labels = torch.arange(BATCH) % 12

    def step() -> None:
        inputs = [batch[m] for m in ("rgb", "flow")]
        if channels_last:
            inputs = [x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2]) for x in inputs]
        optimiser.zero_grad()
        model(*inputs, labels).backward()
        optimiser.step()

    return step


def arithmetic(frames: int, dtype: torch.dtype) -> Callable[[], None]:
    """The matrix products that SC's embeddings cannot do without: forward, for the weights, for the gates; two modalities."""
    cells, weight, embedded = (torch.randn(shape).to(dtype) for shape in ((64 * 49, 1024), (1024, 512), (64 * 49, 512)))
    outer = weight.T.contiguous()

    def run() -> None:
        for _ in range(2 * frames // 64):
            cells @ weight
            embedded.T @ cells
            embedded @ outer

    return run


class Peak:
    """The most anonymous memory (without the map) of this process while it is open."""

    def __enter__(self) -> "Peak":
        self.bytes, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.over.is_set():
            status = Path("/proc/self/status").read_text()
            self.bytes = max(
                self.bytes, int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024
            )
            time.sleep(0.01)


def make_features(path: Path, clips: int) -> None:
    for seed, domain in enumerate(("ucf", "hmdb")):
        columns = {key: [f"{i}" for i in range(clips)] for key in ("clip", "path")}
        columns |= {"label": [str(i % 12) for i in range(clips)], "split": ["val" if i < 24 else "train" for i in range(clips)]}
        recipe = {"dataset": domain, "modalities": ["rgb", "flow"], "frames": FRAMES}
        dataset = writer.prepare(path, domain, columns, recipe, path.parent, overwrite=False)
        random = np.random.default_rng(seed)
        with writer.RowWriter(dataset) as rows:
            for row in range(clips):
                for modality in ("rgb", "flow"):
                    rows.write_row(row, modality, random.exponential(0.3, (FRAMES, 1024, 7, 7)).astype(np.float32))


def readers(folder: Path, path: Path, domain: data.Domain, draw: Draw) -> dict[str, Callable[[], object]]:
    """Other ways to read the batch of a step: h5py's fancy indexing of a chunked file, and one file a frame."""
    rows = np.unique(domain.rows[draw.source % len(domain.rows)])
    with h5py.File(path) as old, h5py.File(folder / "chunked.h5", "w") as new:
        new.create_dataset("maps", data=old["ucf/rgb/maps"][...], chunks=(1, 1, 1024, 7, 7), compression="lzf")
        for row in rows:
            for frame in range(FRAMES):
                torch.save(torch.from_numpy(old["ucf/rgb/maps"][row, frame]), folder / f"{row}_{frame}.pt")
    file = h5py.File(folder / "chunked.h5")
    times = 2 * (BATCH + TARGET) / len(rows)  # modalities and clips of a step
    share = max(1, round(len(rows) / 8))
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:share])  # scattered, as a shuffled epoch asks for them

    def fancy() -> object:
        return file["maps"][chosen]

    def files() -> object:
        return [torch.load(folder / f"{row}_{frame}.pt") for row in chosen for frame in range(FRAMES)]

    fancy.times = files.times = times * len(rows) / share  # type: ignore[attr-defined]
    return {"h5py fancy indexing, chunked, lzf": fancy, "one .pt file a frame": files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--method", action="append")
    parser.add_argument("--precision", action="append", help="fp32 (if none is given) or bf16; both stand in one table")
    parser.add_argument("--clips", type=int, default=240, help="clips in the file a domain; rows are reused to make up the sizes")
    parser.add_argument("--system-malloc", action="store_true", help="do not keep freed memory: what a plain script gets")
    parser.add_argument("--no-plain", action="store_true", help="without the plain implementation, which takes long")
    arguments = parser.parse_args()
    if not arguments.system_malloc:
        memory.keep_freed()  # as the command does; for all rows alike
    with tempfile.TemporaryDirectory(dir=".") as name:
        path = Path(name) / "f.h5"
        make_features(path, arguments.clips)
        print(machine(), flush=True)
        domains = data.find_domains(path)
        steps: dict[str, Callable[[], object]] = {}
        counted = {}
        asked = itertools.product(arguments.method or ["source-only", "concat", "sc-3", "cia"], arguments.precision or ["fp32"])
        for method_name, precision in asked:
            chosen = config.load("uh", method_name, {})
            method = chosen.for_pair("ucf", "hmdb")
            stores = Stores(torch.device("cpu"), "map")
            task, _ = data.make_task(domains["ucf"], domains["hmdb"], ("rgb", "flow"), method.needs_maps, chosen.setup, stores)
            trainer = Trainer(task, chosen.setup, method, 0, torch.device("cpu"), precision)
            counts = len(task.source_train.clips), len(task.target_train)
            target = np.arange(TARGET) % counts[1] if method.needs_target else np.empty(0, np.int64)
            frames = [np.tile(np.arange(FRAMES), (n, 1)) for n in (BATCH, len(target))]
            draw = Draw(np.arange(BATCH) % counts[0], frames[0], target, frames[1])
            trainer.model.train()

            def step(trainer: Trainer = trainer, draw: Draw = draw) -> object:
                return trainer.train_step(draw, trainer.read(draw))

            key = method_name if precision == "fp32" else f"{method_name}, {precision}"
            counted[key] = flops(step)
            steps[key] = step
            if precision == "fp32":
                steps[f"{key}: its reading alone"] = lambda trainer=trainer, draw=draw: trainer.read(draw)
        if not arguments.no_plain:
            batch = {m: torch.cat([x[m] for x in trainer.read(draw)]) for m in ("rgb", "flow")}
            steps["plain eager CIA, features at hand"] = plain_step(batch, channels_last=False)
            steps["plain eager CIA, channels last"] = plain_step(batch, channels_last=True)
        steps["SC's matrix products alone"] = arithmetic((BATCH + TARGET) * FRAMES, torch.float32)
        steps["SC's matrix products alone, bf16"] = arithmetic((BATCH + TARGET) * FRAMES, torch.bfloat16)
        steps |= readers(Path(name), path, domains["ucf"], draw)
        peaks = {}
        for key, run in steps.items():
            with Peak() as peak:
                run()
            peaks[key] = peak.bytes
        medians = side_by_side(steps, arguments.steps)
        reference = medians.get("cia", next(iter(medians.values())))
        print(f"{'':40} s a step  s an epoch ({STEPS} steps)  × cia   peak GB above the map   GFLOP/s")
        for key, seconds in medians.items():
            seconds *= getattr(steps[key], "times", 1)
            rate = f"{counted[key] / seconds / 1e9:8.0f}" if key in counted else ""
            print(
                f"{key:40} {seconds:8.2f}  {seconds * STEPS:9.1f} {seconds / reference:16.2f} {peaks[key] / 1e9:12.2f} {rate}",
                flush=True,
            )


if __name__ == "__main__":
    main()
