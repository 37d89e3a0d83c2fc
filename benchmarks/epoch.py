"""Training time of an epoch at UCF-HMDB's sizes, beside a plain implementation, other ways of reading, and the arithmetic alone.

python benchmarks/epoch.py [--rounds 3] [--method cia …] [--precision fp32 --precision bf16]

The features are random numbers of the right shape: for timing only. 1438 + 840 training clips, batch 128 + 74 (the last one
30 + 17), 5 frames, two modalities; read from a memory map that is in the page cache. The methods run whole epochs as the
command does, without evaluation; what stands beside them runs one batch of 128 + 74 and is scaled to the 1438. All in one run,
in turns.
"""

import argparse
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from cia_adapt import config
from cia_adapt.data import clips as data_clips
from cia_adapt.data import domains as data_domains
from cia_adapt.data import task as data_task
from cia_adapt.data.readers import Stores
from cia_adapt.experiments.cost import flops
from cia_adapt.training.trainer import Trainer
from cia_extract.common import switches
from cia_extract.features import writer
from common import machine, side_by_side
from torch import Tensor, nn
from torch.nn import functional as F

UCF, HMDB, VAL, BATCH, FRAMES = 1438, 840, 24, 128, 5
STEPS = UCF / BATCH  # the last batch is smaller
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
            total = total + F.cosine_similarity(boxed[0], boxed[1], dim=1)
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
            self.bytes = max(self.bytes, anonymous())
            time.sleep(0.01)


def anonymous() -> int:
    """Bytes of this process's memory, without what is mapped from files."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


def make_features(path: Path, clips: dict[str, int]) -> None:
    for seed, (domain, count) in enumerate(clips.items()):
        columns = {key: [f"{i}" for i in range(count)] for key in ("clip", "path")}
        columns |= {"label": [str(i % 12) for i in range(count)], "split": ["val" if i < VAL else "train" for i in range(count)]}
        recipe = {"dataset": domain, "modalities": ["rgb", "flow"], "frames": FRAMES}
        dataset = writer.begin_or_continue(path, domain, columns, recipe, path.parent, overwrite=False)
        random = np.random.default_rng(seed)
        with writer.RowWriter(dataset) as rows:
            for row in range(count):
                for modality in ("rgb", "flow"):
                    rows.write_row(row, modality, random.standard_exponential((FRAMES, 1024, 7, 7), np.float32) * 0.3)


def make_trainer(path: Path, method_name: str, precision: str) -> Trainer:
    """One at UCF-HMDB's sizes; where the file holds fewer clips, an epoch reads them several times."""
    domains = data_domains.find_domains(path)
    chosen = config.load("uh", method_name, {})
    method = chosen.for_pair("ucf", "hmdb")
    stores = Stores(torch.device("cpu"), "map")
    task, _ = data_task.make_task(domains["ucf"], domains["hmdb"], ("rgb", "flow"), method.needs_maps, chosen.setup, stores)
    labels = np.zeros((len(task.target_train), 1), np.int64)  # `subset` takes clips with labels; these go nowhere
    target = data_clips.subset(data_clips.LabelledClips(task.target_train, labels), np.resize(np.arange(len(labels)), HMDB)).clips
    source = data_clips.subset(task.source_train, np.resize(np.arange(len(task.source_train.clips)), UCF))
    task = replace(task, source_train=source, target_train=target)
    return Trainer(task, chosen.setup, method, 0, torch.device("cpu"), precision)


def readers(folder: Path, path: Path) -> dict[str, Callable[[], object]]:
    """Other ways to read a batch: h5py's fancy indexing of a chunked file, and one file a frame. An eighth of it, scaled up."""
    clips = (BATCH + TARGET) // 8
    with h5py.File(path) as old, h5py.File(folder / "chunked.h5", "w") as new:
        rows = np.sort(np.random.default_rng(0).permutation(len(old["ucf/rgb/maps"]))[:clips])  # scattered, as a shuffled epoch
        new.create_dataset("maps", shape=old["ucf/rgb/maps"].shape, dtype="float16", chunks=(1, 1, 1024, 7, 7), compression="lzf")
        for row in rows:
            new["maps"][row] = old["ucf/rgb/maps"][row]
            for frame in range(FRAMES):
                torch.save(torch.from_numpy(old["ucf/rgb/maps"][row, frame]), folder / f"{row}_{frame}.pt")
    file = h5py.File(folder / "chunked.h5")

    def fancy() -> object:
        return file["maps"][rows]

    def files() -> object:
        return [torch.load(folder / f"{row}_{frame}.pt") for row in rows for frame in range(FRAMES)]

    times = 2 * (BATCH + TARGET) / clips  # modalities and clips of a batch
    return {"h5py fancy indexing, chunked, lzf": scaled(fancy, times), "one .pt file a frame": scaled(files, times)}


def scaled(step: Callable[[], object], times: float = 1) -> Callable[[], object]:
    """`step` marked as a batch's (or, `times` over, a batch's part) instead of an epoch's."""

    def run() -> object:
        return step()

    run.times = times * STEPS  # type: ignore[attr-defined]
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", action="append")
    parser.add_argument("--precision", action="append", help="fp32 (if none is given) or bf16; both stand in one table")
    parser.add_argument("--clips", type=int, help="clips in the file a domain, to be read several times; else all")
    parser.add_argument("--system-malloc", action="store_true", help="do not keep freed memory: what a plain script gets")
    parser.add_argument("--no-plain", action="store_true", help="without the plain implementation, which takes long")
    arguments = parser.parse_args()
    if not arguments.system_malloc:
        switches.keep_freed_memory()  # as the command does; for all rows alike
    with tempfile.TemporaryDirectory(dir=".") as name:
        path = Path(name) / "f.h5"
        make_features(path, {"ucf": arguments.clips or UCF + VAL, "hmdb": arguments.clips or HMDB + VAL})
        print(machine(), f"{anonymous() / 1e9:.2f} GB before anything is trained", sep=", ", flush=True)
        runs: dict[str, Callable[[], object]] = {}
        counted = {}
        asked = itertools.product(arguments.method or ["source-only", "concat", "sc-3", "cia"], arguments.precision or ["fp32"])
        for method, precision in asked:
            trainer = make_trainer(path, method, precision)
            key = method if precision == "fp32" else f"{method}, {precision}"
            draw = trainer.draws()[0]
            counted[key] = flops(partial(trainer.train_step, draw, trainer.read(draw))) * STEPS
            runs[key] = trainer.epoch
            if method == "cia" and precision == "fp32":
                in_thread = make_trainer(path, method, precision)
                in_thread.reads_in_thread = True
                runs[f"{key}, batches read ahead in a thread"] = in_thread.epoch
            if precision == "fp32":
                runs[f"{key}: its reading alone"] = scaled(partial(trainer.read, draw))
        if not arguments.no_plain:
            (batch,) = trainer.read(draw)
            batch = {m: x.contiguous() for m, x in batch.items()}  # as they are in the file
            runs["plain eager CIA, features at hand"] = scaled(plain_step(batch, channels_last=False))
            runs["plain eager CIA, channels last"] = scaled(plain_step(batch, channels_last=True))
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            runs[f"SC's matrix products alone, {precision}"] = scaled(arithmetic((BATCH + TARGET) * FRAMES, dtype))
        runs |= readers(Path(name), path)
        peaks = {}
        for key, run in runs.items():
            with Peak() as peak:
                run()
            peaks[key] = peak.bytes
        medians = {k: v * getattr(runs[k], "times", 1) for k, v in side_by_side(runs, arguments.rounds).items()}
        reference = medians.get("cia", next(iter(medians.values())))
        print(f"{'':40} s an epoch  × cia   peak GB above the map   GFLOP/s")
        for key, seconds in medians.items():
            rate = f"{counted[key] / seconds / 1e9:8.0f}" if key in counted else ""
            print(f"{key:40} {seconds:9.1f} {seconds / reference:7.2f} {peaks[key] / 1e9:12.2f} {rate}", flush=True)


if __name__ == "__main__":
    main()
