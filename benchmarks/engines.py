"""One 16×224² window through I3D: as it is commonly scripted, by each engine of cia-extract, and by OpenVINO's own benchmark.

python benchmarks/engines.py [--windows 12] [--rounds 5] [--only openvino]

"OpenVINO's own" is the median latency of its `benchmark_app -hint latency -infer_precision f32` on the converted network, in
turns with the engines; where that command is missing, that of bare infer requests. Engines include bringing a window from the
pipeline's channels-last layout into the one that they want, and copying the maps back.
"""

import argparse
import importlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from cia_extract import recipes
from cia_extract.common import switches
from cia_extract.common.console import say
from cia_extract.networks import engines, weights
from cia_extract.networks.engines import Engine
from common import machine, side_by_side

switches.openvino_without_telemetry()
openvino = importlib.import_module("openvino")
CPU = torch.device("cpu")
SHAPE = [1, 3, 16, 224, 224]


def convert(network: torch.nn.Module, path: Path) -> None:
    """The network as OpenVINO's file, in float32."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing: sizes are fixed here
        model = openvino.convert_model(engines.Trunk(network, "mean").eval(), example_input=torch.zeros(SHAPE), input=[SHAPE])
    openvino.save_model(model, path, compress_to_fp16=False)


def own_seconds(path: Path, seconds: int) -> float:
    """Median latency of one window by OpenVINO's own measure."""
    command = Path(sys.executable).with_name("benchmark_app")
    if command.exists():
        asked = f"-m {path} -d CPU -hint latency -infer_precision f32 -t {seconds}".split()
        printed = subprocess.run([command, *asked], capture_output=True, text=True, check=True).stdout
        found = re.search(r"Median:\s*([\d.]+) ms", printed)
        assert found is not None, printed
        return float(found[1]) / 1e3
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(path, "CPU", hints).create_infer_request()
    request.infer([np.zeros(SHAPE, np.float32)])
    latencies, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        request.infer()
        latencies.append(time.perf_counter() - began)
    return statistics.median(latencies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=12, help="windows a turn; rounded up to a multiple of 4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of benchmark_app, each round")
    parser.add_argument("--only", choices=("eager", "compiled", "openvino"), help="of the engines")
    options = parser.parse_args()
    count = -(-options.windows // 4) * 4
    random = weights.load("i3d", "rgb", "random", say)
    plain, folded = weights.build("i3d", "rgb", random), weights.build("i3d", "rgb", random).fold()
    images = torch.rand(count, 16, 224, 224, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    windows = images.permute(0, 4, 1, 2, 3)  # channels last in memory, as `batches` makes them
    contiguous = windows.contiguous()

    def plain_eager() -> torch.Tensor:
        """One window at a time, batch normalisation as it stands."""
        with torch.inference_mode():
            return torch.cat([plain.maps(window[None]) for window in contiguous])

    def all_by(engine: Engine) -> torch.Tensor:
        return torch.cat([engine.run(batch) for batch in windows.split(engine.batch)])

    expected, made, differences = plain_eager(), {}, {}
    for name, batch in (("eager", 4), ("compiled", 1), ("compiled", 4), ("openvino", 1)):
        if options.only not in {None, name}:
            continue
        recipe = recipes.load("kinetics")
        engine = engines.build(folded, recipe, contiguous[:1], CPU, name, batch=batch, say=say)
        title = f"{name}, batch {batch}"
        made[title] = lambda engine=engine: all_by(engine)
        differences[title] = float((made[title]() - expected).abs().max() / expected.abs().max())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "i3d.xml"
        convert(folded, path)
        turns, own = [], []
        for _ in range(options.rounds):
            turns.append(side_by_side({"plain eager, batch 1": plain_eager, **made}, rounds=1))
            own.append(own_seconds(path, options.seconds))
            print(f"round {len(turns)} of {options.rounds}", file=sys.stderr, flush=True)
    table = {name: statistics.median(turn[name] for turn in turns) / count for name in turns[0]}
    table["OpenVINO's own"] = statistics.median(own)
    print(f"{machine()}, OpenVINO {openvino.__version__}")
    print(f"{'':<24}{'ms a window':>12}{'× plain eager':>15}{'× OpenVINO':>12}{'difference':>12}")
    for name, seconds in table.items():
        speeds = (table["plain eager, batch 1"] / seconds, table["OpenVINO's own"] / seconds)
        difference = f"{differences[name]:12.1e}" if name in differences else ""
        print(f"{name:<24}{seconds * 1e3:12.1f}{speeds[0]:15.2f}{speeds[1]:12.2f}{difference}")
    print("OpenVINO's own, round by round: " + ", ".join(f"{seconds * 1e3:.1f}" for seconds in own) + " ms")
    if "openvino, batch 1" in table:
        ratios = [turn["openvino, batch 1"] / count / seconds for turn, seconds in zip(turns, own, strict=True)]
        listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"--engine openvino : its own, round by round: {listed}; median {statistics.median(ratios):.2f}")
    print("difference: the largest, relative to plain eager's largest value")


if __name__ == "__main__":
    main()
