"""Seconds a clip, its windows in RGB and flow: a script as commonly written against cia-extract, the same clips in one run.

python benchmarks/extraction.py CLIP [CLIP …] --flow dis --engine openvino
python benchmarks/extraction.py CLIP [CLIP …] --flow tvl1 --windows 5 --engine openvino

A, the script: OpenCV, with all its threads, decodes the clip once. Window by window, 17 frames are scaled (bilinear) and cropped,
the flow of their 16 pairs is computed anew by OpenCV (a pair that a clip's end repeats, once), and each network (batch
normalisation as it stands, contiguous tensors) sees one window. One .npy a clip.
B, cia-extract in this process with two workers. Its start-up (weights, engine and its test) is reported and not counted; starting
the workers is counted.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from cia_extract import features, recipes
from cia_extract.clips import flow, picture, sampling
from cia_extract.datasets import manifest
from common import machine

# Worker processes import this file again: what imports torch stays inside the functions.
MODALITIES = ("rgb", "flow")
LEAST_COSINE = 0.99  # Pillow's and OpenCV's scaling differ a little


def script(path, networks, recipe, chosen, out):
    """A clip by the plain script: (seconds, those of flow), scaled up to all windows, and the chosen ones' pooled features."""
    import torch

    began, flow_seconds, pairs = time.perf_counter(), 0.0, 0
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    height, width = picture.scaled_size(*frames[0].shape[:2])
    top, left = (height - 224) // 2, (width - 224) // 2
    decoded, method = time.perf_counter(), flow.estimator(recipe.flow)
    centres = sampling.tsn(len(frames), recipe.sampling.frames)
    firsts = [sampling.window(centre, 16, len(frames) - 1).tolist() for centre in centres]  # of the pairs

    def describe(images, modality):
        window = np.stack([image[top : top + 224, left : left + 224] for image in images]).astype(np.float32) / 127.5 - 1
        with torch.inference_mode():
            return networks[modality].maps(torch.from_numpy(window).permute(3, 0, 1, 2)[None].contiguous())[0].numpy()

    maps: dict[str, list[np.ndarray]] = {modality: [] for modality in MODALITIES}
    for number in chosen:
        seen, starts = sampling.window(centres[number], 16, len(frames)).tolist(), firsts[number]
        scaled = {t: cv2.resize(frames[t], (width, height)) for t in {*seen, *starts, *(t + 1 for t in starts)}}
        maps["rgb"].append(describe([scaled[t] for t in seen], "rgb"))
        clock = time.perf_counter()
        grey = {t: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for t, image in scaled.items()}
        motion = {t: flow.quantise(method.calc(grey[t], grey[t + 1], None)) for t in set(starts)}
        flow_seconds, pairs = flow_seconds + time.perf_counter() - clock, pairs + len(motion)
        maps["flow"].append(describe([motion[t] for t in starts], "flow"))
    np.save(out, np.asarray([maps[m] for m in MODALITIES], np.float16))
    rest = time.perf_counter() - decoded - flow_seconds
    all_flow = flow_seconds * sum(len(set(starts)) for starts in firsts) / pairs
    seconds = decoded - began + all_flow + rest * len(centres) / len(chosen)
    return (seconds, all_flow), {m: np.mean(maps[m], (2, 3)) for m in MODALITIES}


def ours(settings):
    """cia-extract: (seconds, start-up, seconds in the network), and the features."""
    from cia_extract.common.console import say
    from cia_extract.extraction import pipeline

    began = time.perf_counter()
    summary = pipeline.extract(settings, say)
    start_up = time.perf_counter() - began - summary.seconds["wall"]
    if summary.failed:
        sys.exit(f"clips failed: {summary.failed}")
    dataset = features.open_features(settings.out)[settings.dataset]
    return (summary.seconds["wall"], start_up, summary.seconds["network"]), dataset


def main():
    import torch
    from cia_extract.common.console import say
    from cia_extract.extraction.settings import Settings
    from cia_extract.networks import weights

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--flow", choices=("tvl1", "dis"), default="tvl1")
    parser.add_argument("--frames", type=int, default=25, help="windows a clip")
    parser.add_argument("--windows", type=int, help="of these, how many the script is timed on [default: all]")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--engine", default="auto", help="of cia-extract; auto would choose openvino for a long list of clips")
    parser.add_argument("--flow-by", choices=("auto", "opencv", "torch"), default="auto", help="TV-L1 of cia-extract")
    parser.add_argument("--weights", choices=("kinetics", "random"), default="kinetics")
    options = parser.parse_args()
    cv2.setNumThreads(os.cpu_count() or 1)
    recipe = recipes.load("kinetics", {"sampling.frames": options.frames, "flow.algorithm": options.flow})
    chosen = np.unique(sampling.tsn(options.frames, options.windows or options.frames))
    networks = {}
    for modality, channels in (("rgb", 3), ("flow", 2)):
        networks[modality] = weights.build("i3d", modality, weights.load("i3d", modality, options.weights, say))
        with torch.inference_mode():
            networks[modality].maps(torch.zeros(1, channels, 16, 224, 224))  # warm-up
    rows = [{"clip": f"{i}", "path": str(p.resolve())[1:], "label": "-", "split": "test"} for i, p in enumerate(options.clips)]
    listed = manifest.check("the command line", rows)
    a, b = [], []
    cosines: dict[str, list[float]] = {modality: [] for modality in MODALITIES}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=".") as name:
            out = Path(name)
            scripted = [script(p, networks, recipe, chosen, out / f"{i}.npy") for i, p in enumerate(options.clips)]
            a.append(np.mean([times for times, _ in scripted], axis=0))
            settings = Settings(dataset="clips", manifest=listed, root=Path("/"), out=out / "f.h5", recipe=recipe,
                                weights=(options.weights,), engine=options.engine, workers=2,
                                flow_by=options.flow_by)  # fmt: skip
            times, dataset = ours(settings)
            b.append(times)
            for m in MODALITIES:
                for (_, pooled), stored in zip(scripted, dataset.array(f"{m}/pooled")[:, chosen], strict=True):
                    x, y = pooled[m].ravel(), stored.ravel()
                    cosines[m].append(float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))
            frames, made_by = dataset.array("clips/n_frames").mean(), dataset.provenance["engine"]
    (seconds_a, flow_a), (wall, start_up, network) = np.median(a, axis=0), np.median(b, axis=0)
    seconds_b, least = wall / len(rows), {m: min(values) for m, values in cosines.items()}
    print(f"{machine()}, OpenCV {cv2.__version__}; medians of {options.rounds}")
    print(f"{len(rows)} clips of about {frames:.0f} frames, {options.frames} windows, {options.flow}, {options.weights} weights")
    if len(chosen) < options.frames:
        print(f"A: measured on {len(chosen)} of {options.frames} windows and scaled up, flow by its pairs, the rest by windows")
    print(f"A plain script          {seconds_a:9.2f} s a clip   (flow {flow_a:.2f} s of it)")
    print(f"B cia-extract           {seconds_b:9.2f} s a clip   (network {network / len(rows):.2f} s of it; start-up "
          f"{start_up:.1f} s once, not counted)\nA : B = {seconds_a / seconds_b:.2f}")  # fmt: skip
    print(f"B's networks by {made_by['rgb']['engine']}, flow by {made_by['flow_by']}")
    print("least cosine between A's and B's pooled features of a clip: " + ", ".join(f"{m} {c:.5f}" for m, c in least.items()))
    if min(least.values()) < LEAST_COSINE:
        sys.exit(f"below {LEAST_COSINE}: not the same work")


if __name__ == "__main__":
    main()
