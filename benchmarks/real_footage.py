"""Real clips through both stages, as a few-shot problem: four classes of UCF101 in ../shared/data.

python benchmarks/real_footage.py FOLDER [--clips ../shared/data/clips] [--frames 25] [--seeds 5] [--jobs 2]

UCF101's clips of climb, punch, pushup and ride_bike are halved by group (their scene): no scene lies on both sides. A method
trains on one half's labels and is tested on the other half, of whose clips it sees no label (`--train-split target=all`:
transductive). A handful of clips a class: the figures show that both stages work on real footage, not which method is better.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from cia_adapt.results import comparison
from cia_adapt.runs import files
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CLASSES = {
    "RopeClimbing": "climb", "RockClimbingIndoor": "climb", "Punch": "punch", "BoxingPunchingBag": "punch",
    "BoxingSpeedBag": "punch", "PushUps": "pushup", "Biking": "ride_bike",
}  # fmt: skip
METHODS = "source-only,concat,dann,mcc,cia,cia-im"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=Path, default=Path(__file__).parents[2] / "shared/data/clips")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    features, runs = options.folder / "feats.h5", options.folder / "runs"
    for half, rows in halves(options.clips / "ucf101").items():
        manifest = options.folder / f"{half}.csv"
        with open(manifest, "w", newline="") as file:
            csv.writer(file).writerows([("clip", "path", "label", "split"), *rows])
        _run(
            "cia-extract", "--dataset", half, "--root", options.clips / "ucf101", "--manifest", manifest,
            "--frames", options.frames, "--flow", "dis", "--out", features,
        )  # fmt: skip
    sweep = ["cia-adapt", "sweep", "--features", features, "--setup", "demo", "--train-split", "all", "--val-split", "all"]
    sweep += ["--batch", 8, "--epochs", 30, "--seeds", options.seeds, "--jobs", options.jobs]
    _run(*sweep, "--source", "ucf-a", "--target", "ucf-b", "--method", METHODS, "--runs", runs)
    _run(*sweep, "--source", "ucf-b", "--target", "ucf-a", "--method", METHODS, "--runs", runs)
    _show(features, runs)


def halves(root: Path) -> dict[str, list[tuple[str, str, str, str]]]:
    """{"ucf-a" and "ucf-b": rows (clip, path, label, split)}: of each class the groups (scenes) go to the halves in turn."""
    rows: dict[str, list[tuple[str, str, str, str]]] = {"ucf-a": [], "ucf-b": []}
    groups: dict[str, list[str]] = {}
    for path in sorted(root.glob("*/*.avi")):
        if label := CLASSES.get(path.parent.name):
            group = path.stem.rsplit("_", 1)[0]  # v_Biking_g01_c04: scene 1, cut 4
            scenes = groups.setdefault(label, [])
            if group not in scenes:
                scenes.append(group)
            half = "ucf-a" if scenes.index(group) % 2 == 0 else "ucf-b"
            rows[half].append((path.stem, str(path.relative_to(root)), label, "all"))
    return rows


def _show(features: Path, runs: Path) -> None:
    by_domain = {name: vectors(features, name) for name in ("ucf-a", "ucf-b")}
    print("| method | " + " | ".join(f"→ {name} ({len(labels)} clips)" for name, (_, labels) in by_domain.items()) + " | mean |")
    print("|---|---|---|---|")
    groups = comparison.groups(files.find([runs]))
    rows = {"logistic regression": {name: _baseline(by_domain, name) for name in by_domain}}
    for (method, (_, target)), group in groups.items():
        rows.setdefault(f"`{method}`", {})[target] = 100 * float(group.right("last").mean())
    for method, by_target in rows.items():
        cells = [by_target[name] for name in by_domain]
        print(f"| {method} | " + " | ".join(f"{cell:.1f}" for cell in [*cells, np.mean(cells)]) + " |")


def vectors(features: Path, domain: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.str_]]:
    """(the mean over frames of RGB and flow of each clip [N, 2048], labels [N])."""
    with h5py.File(features) as file:
        means = [file[f"{domain}/{modality}/pooled"][:].mean(axis=1) for modality in ("rgb", "flow")]
        return np.concatenate(means, axis=1), file[f"{domain}/clips/label"].asstr()[:].astype(str)


def _baseline(by_domain: dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.str_]]], target: str) -> float:
    """Percent right of scikit-learn's classifier, trained on the other half."""
    (source,) = by_domain.keys() - {target}
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(*by_domain[source])
    return 100 * float(model.score(*by_domain[target]))


def _run(program: str, *arguments: object) -> None:
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
