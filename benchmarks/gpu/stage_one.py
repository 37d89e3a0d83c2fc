"""Stage one: the networks' engines and precisions, TV-L1, and `cia-extract` as a whole."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import cia_extract
import numpy as np
import torch
from cia_extract import recipes
from cia_extract.clips import ClipJob, FramePairs, prepare_clip
from cia_extract.clips.flow import tvl1_batched, tvl1_pair
from cia_extract.datasets import demo
from cia_extract.extraction.flow_batches import DeviceFlow
from cia_extract.networks import GMACS, engines, example, weights
from measuring import WRONG, Bench, Row, note

CPU = torch.device("cpu")
# What rows may take of the device's memory, in GB. I3D takes 65 MB of activations a 16 × 224² window in fp32 beside the window's
# 10 MB (counted on a CPU by torch's profiler), and a batch is there twice, as it comes and as channels_last: 32 × 85 MB = 2.7 GB,
# and as much again for cuDNN's workspace and a CUDA graph's copies.
NETWORK_GB = 6.0
# TV-L1 takes 59 float32 planes a pair (counted likewise) of 256 × 341, 256 pairs at a time: 5.3 GB. No library takes a workspace.
FLOW_GB = 6.0
EXTRACTION_GB = FLOW_GB + 1.0  # networks and flow take turns; both networks' weights and windows stay
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def peak_of(bench: Bench, precision: str) -> float:
    """TFLOP/s of a large square product."""
    size, dtype = 512 if bench.small else 8192, PRECISIONS[precision]
    with engines.switches.tf32(precision == "tf32"):
        a, b = (torch.randn(size, size, device=bench.device, dtype=dtype) for _ in range(2))
        return 2 * size**3 / bench.seconds(lambda: a @ b) / 1e12


def networks(bench: Bench) -> Iterator[Row]:
    """Windows a second of each engine and precision, and its cosine with eager fp32, which is compared with the CPU's."""
    name, count = ("tbn", 2) if bench.small else ("i3d", 32)
    recipe = recipes.load("tbn-epic100" if name == "tbn" else "kinetics")
    choice = "random" if name == "tbn" else bench.weights
    network = weights.build(name, "rgb", weights.load(name, "rgb", choice, note)).fold()
    window, precisions = example(recipe, "rgb"), ("fp32", "bf16") if bench.small else tuple(PRECISIONS)
    peak = dict.fromkeys(precisions, float("nan"))

    def products() -> str:
        peak.update({precision: peak_of(bench, precision) for precision in precisions})
        return ", ".join(f"{precision} {rate:.3g} TFLOP/s" for precision, rate in peak.items())

    yield bench.row("matrix products", products, 1.0)  # three of 8192² in fp32: 0.8 GB
    expected = engines.build(network, recipe, window, CPU, "eager").run(window)

    def measured(engine: str, precision: str) -> str:
        torch._dynamo.reset()  # and so the CUDA graphs of the row before leave the memory
        built = engines.build(network, recipe, window, bench.device, engine, precision, count, say=note)
        batch = window.to(bench.device).repeat(count, *[1] * (window.ndim - 1))
        batch = batch.to(memory_format=torch.channels_last_3d if name == "i3d" else torch.channels_last)
        rate = count / bench.seconds(lambda: built.run(batch), 10)
        reached = 2e-3 * GMACS[name]["rgb"] * rate
        cosine = float(torch.cosine_similarity(built.run(batch)[0].cpu().flatten(), expected.flatten(), dim=0))
        verdict = "" if cosine >= engines.ENOUGH[precision] else WRONG
        share = f"{reached:.3g} TFLOP/s ({reached / peak[precision]:.0%} of the peak)"
        return f"{verdict}{rate:.1f} windows/s, {share}, cosine {cosine:.6f} with the CPU's fp32"

    ways = [("eager", precision) for precision in precisions]
    ways += [("compiled", precision) for precision in reversed(precisions)]  # which takes long: the one that is used first
    for way in ways:
        yield bench.row(f"{name} {' '.join(way)}, batches of {count}", partial(measured, *way), NETWORK_GB)


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
        yield bench.row(f"TV-L1 {name}, {len(first)} pairs of {size}", partial(at_once, fused), FLOW_GB)
    recipe = recipes.load("kinetics")
    if bench.small:  # smaller than a recipe for a network may be
        recipe = replace(recipe, picture=replace(recipe.picture, crop=64))
    pairs = sum(len(clip.rows) for clip in clips)
    yield bench.row(f"TV-L1 across {len(clips)} clips", lambda: f"{pairs / bench.seconds(across, 1):.1f} pairs/s", FLOW_GB)


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
        yield bench.row(f"cia-extract, {' '.join(way)}", partial(extracted, *way), EXTRACTION_GB)


def several(bench: Bench) -> Iterator[Row]:
    """One Ray actor a GPU."""
    count = 0 if bench.small else torch.cuda.device_count()
    if count < 2:
        yield "several GPUs by Ray", f"not measured: {count} GPUs here"
        return

    def extracted() -> str:
        summary = cia_extract.extract("demo", bench.folder / "ray.h5", bench.folder / "clips", clips_per_class=2, ray="local",
                                      weights=[bench.weights], engine="eager", precision="bf16")  # fmt: skip
        return f"{'' if summary.done == summary.clips else WRONG}{summary.clips / summary.seconds['wall']:.2f} clips/s"

    yield bench.row(f"{count} GPUs by Ray", extracted)
