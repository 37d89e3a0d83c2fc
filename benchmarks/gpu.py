"""Every path that shows on a GPU only: whether its numbers are right there, and how fast it is. One table at the end.

python gpu.py                       # on the GPU, under ten minutes
python gpu.py --device cpu          # the same rows, small: whether this script itself works

It needs torch, a wheel of this project and its cache of weights (~/.cache/cia; or --weights random), and nothing else of the
repository. A row that fails says why and the others go on; the exit code is 1 if any failed or disagreed.
"""

import argparse
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cia_adapt
import cia_extract
import numpy as np
import torch
from cia_adapt import config
from cia_adapt.data import clips as data_clips
from cia_adapt.data import domains as data_domains
from cia_adapt.data import task as data_task
from cia_adapt.data.readers import Stores
from cia_adapt.training.trainer import Trainer
from cia_extract import recipes
from cia_extract.clips import ClipJob, FramePairs, prepare_clip
from cia_extract.clips.flow import tvl1_batched, tvl1_pair
from cia_extract.common.errors import CiaError, UsageError
from cia_extract.datasets import demo
from cia_extract.extraction.flow_batches import DeviceFlow
from cia_extract.features import writer
from cia_extract.networks import GMACS, engines, example, weights

CPU = torch.device("cpu")
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TARGETS = (
    "Targets: I3D in bf16 at half of the matrix peak; TV-L1 500 pairs/s at 256×341 (H100); waiting at most 20 %; "
    "CIA's epoch 60 ms eager, 15 ms with graphs"
)


@dataclass(frozen=True)
class Bench:
    """What is measured, where, and how large."""

    device: torch.device
    weights: str
    folder: Path
    ends: float
    """time.monotonic() at which no further row begins."""

    @property
    def small(self) -> bool:
        """A CPU only shows that the script works."""
        return self.device.type == "cpu"

    def seconds(self, action: Callable[[], object], times: int = 5) -> float:
        """Median of some calls after one that warms up, each to the end of the device's work."""
        action()
        taken = []
        for _ in range(1 if self.small else times):
            self.wait()
            began = time.perf_counter()
            action()
            self.wait()
            taken.append(time.perf_counter() - began)
        return float(np.median(taken))

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if not self.small:
            torch.cuda.synchronize(self.device)

    def row(self, what: str, measured: Callable[[], str]) -> "Row":
        """A row of the table: figures and the most memory of the device that they took, or why there are none."""
        if self.small:
            memory = ""
        else:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            figures = measured()
        except Exception as error:
            if not isinstance(error, CiaError):
                traceback.print_exc()
            return what, f"{WRONG}{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if not self.small:
            memory = f", {torch.cuda.max_memory_allocated(self.device) / 1e9:.1f} GB"
        return what, figures + memory


Row = tuple[str, str]  # (what, figures); figures that begin with WRONG fail the script
WRONG = "WRONG: "


def peaks(bench: Bench) -> dict[str, float]:
    """TFLOP/s of a large square product, by precision."""
    size, reached = 512 if bench.small else 8192, {}
    for precision, dtype in PRECISIONS.items():
        if bench.small and precision in ("tf32", "fp16"):
            continue
        with engines.switches.tf32(precision == "tf32"):
            a, b = (torch.randn(size, size, device=bench.device, dtype=dtype) for _ in range(2))
            reached[precision] = 2 * size**3 / bench.seconds(lambda a=a, b=b: a @ b) / 1e12
    return reached


def networks(bench: Bench) -> Iterator[Row]:
    """Windows a second of each engine and precision, and its cosine with eager fp32, which is compared with the CPU's."""
    name, count = ("tbn", 2) if bench.small else ("i3d", 32)
    recipe = recipes.load("tbn-epic100" if name == "tbn" else "kinetics")
    choice = "random" if name == "tbn" else bench.weights
    network = weights.build(name, "rgb", weights.load(name, "rgb", choice, note)).fold()
    window, peak = example(recipe, "rgb"), peaks(bench)
    yield "matrix products", ", ".join(f"{p} {rate:.3g} TFLOP/s" for p, rate in peak.items())
    expected = engines.build(network, recipe, window, CPU, "eager").run(window)

    def measured(engine: str, precision: str) -> str:
        built = engines.build(network, recipe, window, bench.device, engine, precision, count, say=note)
        batch = window.to(bench.device).repeat(count, *[1] * (window.ndim - 1))
        batch = batch.to(memory_format=torch.channels_last_3d if name == "i3d" else torch.channels_last)
        rate = count / bench.seconds(lambda: built.run(batch), 10)
        reached = 2e-3 * GMACS[name]["rgb"] * rate
        cosine = float(torch.cosine_similarity(built.run(batch)[0].cpu().flatten(), expected.flatten(), dim=0))
        verdict = "" if cosine >= engines.ENOUGH[precision] else WRONG
        share = f"{reached:.3g} TFLOP/s ({reached / peak[precision]:.0%} of the peak)"
        return f"{verdict}{rate:.1f} windows/s, {share}, cosine {cosine:.6f} with the CPU's fp32"

    for engine in ("eager", "compiled"):
        for precision in peak:
            yield bench.row(f"{name} {engine} {precision}, batches of {count}", lambda e=engine, p=precision: measured(e, p))


def clips_of_pairs(bench: Bench) -> list[FramePairs]:
    """The grey frames of demo clips, 256×341, as workers send them on."""
    root = bench.folder / "clips"
    rows = demo.build(root, 1 if bench.small else 2)
    recipe = recipes.load("kinetics", {"sampling.frames": 1} if bench.small else {})
    jobs = [ClipJob(root / row["path"], ("flow",), recipe, flow_by="device") for row in rows[: 1 if bench.small else 32]]
    pairs = [prepare_clip(job).pairs for job in jobs]
    return [replace(each, grey=each.grey[:, :96, :96]) if bench.small else each for each in pairs if each is not None]


def flow(bench: Bench) -> Iterator[Row]:
    """TV-L1: eager, compiled, and across clips as extraction does it."""
    clips = clips_of_pairs(bench)
    ends = [torch.from_numpy(np.concatenate([c.grey[c.rows[:, side]] for c in clips])) for side in (0, 1)]
    first, second = (frames[: 2 if bench.small else 256] for frames in ends)
    few = slice(None, None, max(1, len(first) // 4))
    one_by_one = np.stack([tvl1_pair.flow(a, b) for a, b in zip(first[few].numpy(), second[few].numpy(), strict=True)])

    def at_once(fused: bool) -> str:
        a, b = first.to(bench.device), second.to(bench.device)
        rate = len(a) / bench.seconds(lambda: tvl1_batched.flow(a, b, compile=fused), 3)
        computed = tvl1_batched.flow(a, b, compile=fused)[few].permute(0, 2, 3, 1).cpu().numpy()
        apart = float(np.linalg.norm(computed - one_by_one, axis=-1).mean())
        return f"{'' if apart < 0.05 else WRONG}{rate:.1f} pairs/s, {apart:.4f} px from the CPU's"

    def across() -> None:
        batches = DeviceFlow(recipe, bench.device)
        given = [key for number, clip in enumerate(clips) for key, *_ in batches.add(number, clip)]
        given += [key for key, *_ in batches.flush()]
        assert sorted(given) == list(range(len(clips)))

    size = "×".join(map(str, first.shape[1:]))
    for name, fused in (("eager", False), ("compiled", True)):
        yield bench.row(f"TV-L1 {name}, {len(first)} pairs of {size}", lambda fused=fused: at_once(fused))
    recipe = recipes.load("kinetics", {"picture.crop": 64} if bench.small else {})
    pairs = sum(len(clip.rows) for clip in clips)
    yield bench.row(f"TV-L1 across {len(clips)} clips", lambda: f"{pairs / bench.seconds(across, 1):.1f} pairs/s")


def extraction(bench: Bench) -> Iterator[Row]:
    """cia-extract over demo clips: clips a second, how long the device waits, and the features beside eager fp32's."""
    asked: dict[str, Any] = {
        "root": bench.folder / "clips",
        "device": str(bench.device),
        "clips_per_class": 2,
        "weights": [bench.weights],
    }
    if bench.small:
        asked |= {"clips_per_class": 1, "frames": 1, "flow": "dis", "backbone": "tbn", "weights": ["random"]}
        asked |= {"modality": ["rgb", "flow"]}
    vectors: list[np.ndarray] = []  # of each way; the first is eager fp32's

    def extracted(engine: str, precision: str) -> str:
        out = bench.folder / f"{engine}-{precision}.h5"
        summary = cia_extract.extract("demo", out, **asked, engine=engine, precision=precision)
        dataset = cia_extract.open_features(out)["demo"]
        vectors.append(np.concatenate([dataset.array(f"{m}/pooled").ravel() for m in ("rgb", "flow")]))
        cosine = float(vectors[-1] @ vectors[0] / np.linalg.norm(vectors[-1]) / np.linalg.norm(vectors[0]))
        right = cosine >= 0.99 and summary.done == summary.clips
        spent = summary.seconds
        waits = spent["waiting"] / (spent["waiting"] + spent["network"])
        speed = f"{summary.clips} clips, {summary.clips / spent['wall']:.2f} clips/s"
        waiting = f"waits {waits:.0%} of the time for decoding and flow"
        return f"{'' if right else WRONG}{speed}, {waiting}, cosine {cosine:.5f} with eager fp32"

    ways = [("eager", "fp32"), ("eager", "bf16"), *([] if bench.small else [("compiled", "bf16")])]
    for way in ways:
        yield bench.row(f"cia-extract, {' '.join(way)}", lambda way=way: extracted(*way))


def feature_file(bench: Bench) -> Path:
    """Random features of the right shape, 5 frames, two modalities, 12 classes; for numbers and timing only."""
    path = bench.folder / "features.h5"
    if path.exists():
        return path
    clips = 48 if bench.small else 300
    for seed, domain in enumerate(("ucf", "hmdb")):
        columns = {key: [f"{i}" for i in range(clips)] for key in ("clip", "path")}
        columns |= {"label": [str(i % 12) for i in range(clips)], "split": ["val" if i < 24 else "train" for i in range(clips)]}
        provenance = {"dataset": domain, "modalities": ["rgb", "flow"], "frames": 5}
        dataset = writer.begin_or_continue(path, domain, columns, provenance, bench.folder, overwrite=False)
        random = np.random.default_rng(seed)
        with writer.RowWriter(dataset) as rows:
            for row in range(clips):
                for modality in ("rgb", "flow"):
                    rows.write_row(row, modality, random.standard_exponential((5, 1024, 7, 7), np.float32) * 0.3)
    return path


def trainer_of(
    bench: Bench,
    method: str,
    tier: str,
    precision: str = "fp32",
    compiled: bool = False,
    clips: tuple[int, int] = (1438, 840),
    **changes: Any,
) -> Trainer:
    """One of so many source and target clips, which read those of the file several times. Its last batch is ragged."""
    domains = data_domains.find_domains(feature_file(bench))
    chosen = config.load("uh", method, changes)
    resolved = chosen.for_pair("ucf", "hmdb")
    task, _ = data_task.make_task(
        domains["ucf"], domains["hmdb"], ("rgb", "flow"), resolved.needs_maps, chosen.setup, Stores(bench.device, tier),
        resolved.supervision,
    )  # fmt: skip
    nobody = np.zeros((len(task.target_train), 1), np.int64)  # `subset` takes clips with labels; these go nowhere
    target = data_clips.subset(
        data_clips.LabelledClips(task.target_train, nobody), np.resize(np.arange(len(nobody)), clips[1])
    ).clips
    source = data_clips.subset(task.source_train, np.resize(np.arange(len(task.source_train.clips)), clips[0]))
    task = replace(task, source_train=source, target_train=target)
    trainer = Trainer(task, chosen.setup, resolved, 0, bench.device, precision, compiled)
    assert clips[0] % trainer.batch, "the last batch is not ragged"
    return trainer


def epochs(bench: Bench) -> Iterator[Row]:
    """An epoch of CIA at UCF-HMDB's sizes, by where the features lie, precision and compilation; the loss beside fp32's."""
    sizes: dict[str, Any] = {"clips": (40, 24), "batch": 16} if bench.small else {}
    tiers = ("map", "ram") if bench.small else ("map", "ram", "device")
    ways = [(tier, "fp32", False) for tier in tiers]
    ways += [(tiers[-1], precision, compiled) for precision, compiled in (("bf16", False), ("fp32", True), ("bf16", True))]
    losses: list[float] = []  # of each way's first epoch

    def trained(tier: str, precision: str, compiled: bool) -> str:
        trainer = trainer_of(bench, "cia", tier, precision, compiled, **sizes, dropout=0.0)
        losses.append(trainer.epoch()["class_loss"])
        right = abs(losses[-1] - losses[0]) <= (0.01 if precision == "fp32" else 0.05) * losses[0]
        seconds = bench.seconds(trainer.epoch)
        compared = f"first epoch's loss {losses[-1]:.4f}, of the first row {losses[0]:.4f}"
        return f"{'' if right else WRONG}{1e3 * seconds:.1f} ms, {compared}"

    for way in ways:
        tier, precision, compiled = way
        title = f"CIA's epoch, {tier}, {precision}{', compiled' if compiled else ''}"
        yield bench.row(title, lambda way=way: trained(*way))


def methods(bench: Bench) -> Iterator[Row]:
    """--compile of every method: two epochs, with a ragged batch, second views and second phases, against eager."""
    names, wrong, two_views, done = config.names("methods"), [], [], 0
    for name in ("cia", "co2a-fl") if bench.small else names:
        if time.monotonic() > bench.ends:
            break
        losses = []
        for compiled in (False, True):
            torch._dynamo.reset()
            trainer = trainer_of(
                bench, name, bench_tier(bench), compiled=compiled, clips=(40, 28), batch=16, epochs=2, dropout=0.0
            )
            try:
                losses.append([trainer.epoch().get("class_loss", 0.0) for _ in range(2)])
            except Exception as error:
                losses.append([f"{type(error).__name__}: {error}"])
        if any(view.second_view for view in trainer.every):
            two_views.append(name)
        if isinstance(losses[1][0], str) or not np.allclose(*losses, rtol=0.02):
            wrong.append(f"{name} {losses[0]} eager, {losses[1]} compiled")
        done += 1
    yield (
        f"--compile of {done} of {len(names)} methods",
        f"{WRONG if wrong else ''}{len(wrong)} differ from eager; with two views {', '.join(two_views)}",
    )
    yield from (("--compile", f"{WRONG}{each}") for each in wrong)


def bench_tier(bench: Bench) -> str:
    """Where features are read from fastest."""
    return "ram" if bench.small else "device"


def shortage(bench: Bench) -> Iterator[Row]:
    """A GPU with too little memory: one line that says what to lower, from both commands."""
    if bench.small:
        yield "out of memory", "not on a CPU: the kernel would end other programs first"
        return
    file, fraction = feature_file(bench), 0.6e9 / torch.cuda.get_device_properties(bench.device).total_memory
    commands: dict[str, Callable[[], object]] = {
        "cia-extract": lambda: cia_extract.extract("demo", bench.folder / "short.h5", bench.folder / "clips", clips_per_class=2,
                                                   device=str(bench.device), weights=[bench.weights], engine="eager"),
        "cia-adapt": lambda: cia_adapt.train(file, "cia", source="ucf", target="hmdb", device=str(bench.device), tier="ram",
                                             epochs=1, runs=bench.folder / "short"),
    }  # fmt: skip
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(fraction, bench.device)
    try:
        for name, command in commands.items():
            try:
                command()
                yield f"{name} in 0.6 GB", f"{WRONG}it had enough"
            except UsageError as error:
                yield f"{name} in 0.6 GB", f"{'' if 'not enough memory; take a smaller --batch' in str(error) else WRONG}{error}"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, bench.device)


def several(bench: Bench) -> Iterator[Row]:
    """One Ray actor a GPU."""
    count = 0 if bench.small else torch.cuda.device_count()
    if count < 2:
        yield "several GPUs by Ray", f"not measured: {count} GPUs here"
        return
    summary = cia_extract.extract("demo", bench.folder / "ray.h5", bench.folder / "clips", clips_per_class=2, ray="local",
                                  weights=[bench.weights], engine="eager", precision="bf16")  # fmt: skip
    right = summary.done == summary.clips
    yield f"{count} GPUs by Ray", f"{'' if right else WRONG}{summary.clips / summary.seconds['wall']:.2f} clips/s"


SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "networks": networks, "flow": flow, "extraction": extraction, "epochs": epochs, "shortage": shortage, "several": several,
    "methods": methods,
}  # fmt: skip


def note(message: str) -> None:
    """Say on stderr what goes on: stdout is for the table."""
    print(message, file=sys.stderr, flush=True)


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
