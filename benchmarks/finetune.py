"""From clips to fine-tuned features on the demo: is a backbone that was fine-tuned on the source better than the frozen one?

python benchmarks/finetune.py FOLDER [--clips-per-class 2] [--frames 2] [--epochs 8] [--seeds 3] [--method source-only,dann]

In FOLDER: the clips are rendered; I3D's RGB stream is trained on the labels of `studio` from Kinetics' weights (source-only,
layers after Mixed_4f, statistics frozen, 8 uniform frames at 224 px); features are extracted with the frozen and with the tuned
stream (cia-extract --weights); the methods are trained over both, studio → street. Goes on where it stopped.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from cia_adapt.runs import files
from cia_extract.datasets import sources
from common import machine

TUNING = (
    "--setup demo-i3d --method source-only --modality rgb --source studio --target street --short-side 256 --width 256 "
    "--crop 224 --segments 8 --batch 4 --lr 3e-3 --backbone-lr 1e-4 --freeze-until Mixed_4f --batch-norm frozen "
    "--no-validators --resume"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips-per-class", type=int, default=2)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", default="source-only,dann")
    options = parser.parse_args()
    folder = options.folder
    clips = sources.find("demo", None, folder / "clips", options.clips_per_class, 0, 1, True)
    clips.manifest.write(folder / "demo.csv")

    run(
        f"cia-adapt --clips {folder}/demo.csv --root {folder}/clips --frame-cache {folder}/frame-cache {TUNING} "
        f"--epochs {options.epochs} --runs {folder}/tuning"
    )
    tuned = folder / "tuning/demo-i3d/source-only/studio-street/seed0"
    weights = {"frozen": "kinetics", "fine-tuned": f"rgb={tuned}/backbone-rgb.safetensors"}
    extract = f"cia-extract --dataset demo --clips-per-class {options.clips_per_class} --root {folder}/clips --modality rgb"
    print(machine())
    print("| backbone | method | selected, % | last | source val |\n|---|---|---|---|---|")
    for name, choice in weights.items():
        run(f"{extract} --frames {options.frames} --weights {choice} --out {folder}/{name}.h5")
        run(
            f"cia-adapt sweep --features {folder}/{name}.h5 --setup demo --segments {options.frames} --source studio "
            f"--target street --method {options.method} --seeds {options.seeds} --runs {folder}/runs-{name}"
        )
        for method in options.method.split(","):
            results = [files.read(each) for each in files.find([folder / f"runs-{name}/demo/{method}"])]
            means = [sum(result[which] for result in results) / len(results) for which in ("selected", "last", "source_val")]
            print(f"| {name} | {method} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |", flush=True)
    end_to_end = files.read(tuned)
    print(
        f"The fine-tuning run itself: {end_to_end['selected']:.1f} % on street, {end_to_end['source_val']:.1f} % on studio's val."
    )
    print(f"What tables over the fine-tuned features say: {results[0].get('backbone')}")


def run(command: str) -> None:
    """One of our commands; its own output goes to stderr."""
    program, *arguments = command.split()
    subprocess.run([str(Path(sys.executable).with_name(program)), *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
