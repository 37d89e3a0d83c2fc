"""From clips to fine-tuned features on the demo: is a backbone that was fine-tuned on the source better than the frozen one?

python benchmarks/finetune.py FOLDER [--clips-per-class 6] [--windows 3] [--epochs 12] [--seeds 3] [--method source-only,dann]
                               [--precision bf16]

In FOLDER: the clips are rendered; I3D's RGB stream is trained on the labels of `studio` from Kinetics' weights (source-only,
layers after Mixed_4f, statistics frozen, 224 px); features are extracted with the frozen and with the tuned stream
(cia-extract --weights); the methods are trained over both, studio → street. Goes on where it stopped.

What is trained on are windows of 16 consecutive frames, the very ones that extraction describes. 16 frames spread over a clip
show it several times as fast, and a stream that learned such clips does not know the windows.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import av
from cia_adapt.runs import files
from cia_extract.datasets import Manifest, manifest, sources
from common import machine

WINDOW = 16
TUNING = (
    "--setup demo-i3d --method source-only --modality rgb --source studio --target street --batch 8 --lr 1e-3 "
    "--backbone-lr 1e-4 --freeze-until Mixed_4f --batch-norm frozen --no-validators --resume "
    "--short-side 256 --width 342 --crop 224"  # as extraction sees them: demo-i3d's smaller pictures give no map of 7×7
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips-per-class", type=int, default=6)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", default="source-only,dann")
    parser.add_argument("--precision", default="fp32", help="of the backbone, in training and extraction")
    options = parser.parse_args()
    folder = options.folder
    clips = sources.find("demo", None, folder / "clips", options.clips_per_class, 0, 1, True)
    windows(clips.manifest, folder / "clips", options.windows, folder / "windows.csv")

    run(
        f"cia-adapt --clips {folder}/windows.csv --root {folder}/clips --frame-cache {folder}/frame-cache {TUNING} "
        f"--epochs {options.epochs} --precision {options.precision} --runs {folder}/tuning"
    )
    tuned = folder / "tuning/demo-i3d/source-only/studio-street/seed0"
    weights = {"frozen": "kinetics", "fine-tuned": f"rgb={tuned}/backbone-rgb.safetensors"}
    extract = (
        f"cia-extract --dataset demo --clips-per-class {options.clips_per_class} --root {folder}/clips --modality rgb "
        f"--frames {options.windows} --window {WINDOW} --precision {options.precision}"
    )
    print(machine())
    print("| backbone | method | selected, % | last | source val |\n|---|---|---|---|---|")
    for name, choice in weights.items():
        run(f"{extract} --weights {choice} --out {folder}/{name}.h5")
        run(
            f"cia-adapt sweep --features {folder}/{name}.h5 --setup demo --segments {options.windows} --source studio "
            f"--target street --method {options.method} --seeds {options.seeds} --runs {folder}/runs-{name}"
        )
        for method in options.method.split(","):
            results = [files.read(each) for each in files.find([folder / f"runs-{name}/demo/{method}"])]
            means = [sum(result[which] for result in results) / len(results) for which in ("selected", "last", "source_val")]
            print(f"| {name} | {method} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |", flush=True)
    end_to_end = files.read(tuned)
    print(
        f"The fine-tuning run itself, by windows: {end_to_end['selected']:.1f} % on street, {end_to_end['source_val']:.1f} % on "
        "studio's val."
    )
    print(f"What tables over the fine-tuned features say: {results[0].get('backbone')}")


def windows(clips: Manifest, root: Path, count: int, path: Path) -> None:
    """A manifest of the windows at the centres of `count` equal parts of each training clip, of others the middle one."""
    rows = []
    for row in range(len(clips)):
        clip = {name: values[row] for name, values in clips.columns.items()}
        with av.open(str(root / clip["path"])) as video:
            stream = video.streams.video[0]
            assert stream.average_rate
            frames, rate = stream.frames, float(stream.average_rate)
        for number in range(count) if clip["split"] == "train" else [count // 2]:
            first = min(max(0, int((number + 0.5) * frames / count) - WINDOW // 2), frames - WINDOW)
            times = {"start": f"{first / rate:.3f}", "stop": f"{(first + WINDOW) / rate:.3f}"}
            rows.append(clip | times | {"clip": f"{clip['clip']}-{number}"})
    manifest.check("windows", rows).write(path)


def run(command: str) -> None:
    """One of our commands; its own output goes to stderr."""
    program, *arguments = command.split()
    subprocess.run([str(Path(sys.executable).with_name(program)), *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
