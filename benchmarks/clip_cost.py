"""Decoding and flow of real clips, one process: seconds a clip and milliseconds a frame or pair.

python benchmarks/clip_cost.py CLIP [CLIP …]
"""

import sys
import time
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).parent))
from cia_extract import clips, recipes
from cia_extract.clips import flow, picture
from common import machine

KINETICS = recipes.load("kinetics")
RULES = {name: recipes.load("kinetics", {"flow.algorithm": name}).flow for name in ("dis", "tvl1")}
PAIRS = 8  # TV-L1 pairs timed per clip

cv2.setNumThreads(1)
print(machine())
totals = {"frames": 0, "decode": 0.0, "scale": 0.0, "dis": 0.0, "tvl1": 0.0, "pairs": 0}
paths = [Path(argument) for argument in sys.argv[1:]]
for path in paths:
    began = time.perf_counter()
    frames = [frame.image for frame in clips.decode(path)]
    totals["decode"] += time.perf_counter() - began
    began = time.perf_counter()
    scaled = [picture.resize(frame, KINETICS.picture) for frame in frames]
    totals["scale"] += time.perf_counter() - began
    totals["frames"] += len(frames)
    step = max(1, (len(frames) - 1) // PAIRS)
    wanted = list(range(0, len(frames) - 1, step))[:PAIRS]
    grey = {t: picture.grey(scaled[t]) for w in wanted for t in (w, w + 1)}
    totals["pairs"] += len(wanted)
    for algorithm in ("dis", "tvl1"):
        began = time.perf_counter()
        flow.quantised_flows(grey, wanted, RULES[algorithm])
        totals[algorithm] += time.perf_counter() - began
frames_a_clip = totals["frames"] / len(paths)
print(f"{len(paths)} clips, {frames_a_clip:.0f} frames each on average")
for stage in ("decode", "scale"):
    print(f"{stage:<8} {totals[stage] / totals['frames'] * 1e3:8.2f} ms a frame   {totals[stage] / len(paths):8.2f} s a clip")
for stage in ("dis", "tvl1"):
    pair = totals[stage] / totals["pairs"]
    print(f"{stage:<8} {pair * 1e3:8.2f} ms a pair    {pair * frames_a_clip:8.2f} s a clip")
print(f"TV-L1 : DIS = {totals['tvl1'] / totals['dis']:.0f} : 1")
