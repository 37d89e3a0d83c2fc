"""Real clips through both stages, as few-shot problems: UCF101 and HMDB51 in ../shared/data.

python benchmarks/real_footage.py FOLDER [--clips ../shared/data/clips] [--frames 25] [--seeds 5] [--jobs 2] [--dry-run]

Halves: UCF101's clips of climb, punch, pushup and ride_bike are halved by group (their scene): no scene lies on both sides. A
method trains on one half's labels and is tested on the other half. UCF → HMDB: all clips of the classes of which both data sets
have clips (climb, punch, shoot_bow). No label of a target is seen in training, but its clips are those that are tested
(`--train-split all --val-split all`: transductive). A handful of clips a class: the figures show that both stages work on real
footage, not which method is better.
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
SHARED = {"climb", "punch", "shoot_bow"}  # of UCF-HMDB's classes those with clips of both data sets
PAIRS = ("ucf-b", "ucf-a"), ("ucf-a", "ucf-b"), ("ucf-shared", "hmdb-shared")  # source, target
METHODS = "source-only,concat,dann,mcc,cia,cia-im"
Row = tuple[str, str, str, str]
"""(clip, path, label, split)"""
Vectors = tuple[npt.NDArray[np.float32], npt.NDArray[np.str_]]
"""(features [N, D], labels [N])"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=Path, default=Path(__file__).parents[2] / "shared/data/clips")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--dry-run", action="store_true", help="write the manifests and say what would be extracted")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    features, runs = options.folder / "feats.h5", options.folder / "runs"
    for name, (root, rows) in datasets(options.clips).items():
        manifest = options.folder / f"{name}.csv"
        with open(manifest, "w", newline="") as file:
            csv.writer(file).writerows([("clip", "path", "label", "split"), *rows])
        dataset = ["--dataset", name, "--root", root, "--manifest", manifest]
        dry = ["--dry-run"] if options.dry_run else []
        _run("cia-extract", *dataset, "--frames", options.frames, "--flow", "dis", "--out", features, *dry, quiet=not dry)
    if options.dry_run:
        return
    sweep = ["cia-adapt", "sweep", "--features", features, "--setup", "demo", "--train-split", "all", "--val-split", "all"]
    sweep += ["--batch", 8, "--epochs", 30, "--seeds", options.seeds, "--jobs", options.jobs]
    for source, target in PAIRS:
        _run(*sweep, "--source", source, "--target", target, "--method", METHODS, "--runs", runs)
    _show(features, runs)


def datasets(clips: Path) -> dict[str, tuple[Path, list[Row]]]:
    """{dataset: (folder of its clips, rows)}."""
    ucf, hmdb = clips / "ucf101", clips / "hmdb51"
    halved = {half: (ucf, rows) for half, rows in halves(ucf).items()}
    return halved | {
        "ucf-shared": (ucf, shared(ucf, CLASSES | {"Archery": "shoot_bow"})),
        "hmdb-shared": (hmdb, shared(hmdb, {})),
    }


def shared(root: Path, called: dict[str, str]) -> list[Row]:
    """Rows of the clips of `SHARED`; `called` has the classes of folders that are not named by them."""
    labels = {path: called.get(path.parent.name, path.parent.name) for path in sorted(root.glob("*/*.avi"))}
    return [(path.stem, str(path.relative_to(root)), label, "all") for path, label in labels.items() if label in SHARED]


def halves(root: Path) -> dict[str, list[Row]]:
    """{"ucf-a" and "ucf-b": rows}: of each class the groups (scenes) go to the halves in turn."""
    rows: dict[str, list[Row]] = {"ucf-a": [], "ucf-b": []}
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
    by_domain = {name: vectors(features, name) for pair in PAIRS for name in pair}
    clips = {name: len(labels) for name, (_, labels) in by_domain.items()}
    rows = {"logistic regression": {pair: _baseline(*(by_domain[name] for name in pair)) for pair in PAIRS}}
    for (method, pair), group in comparison.groups(files.find([runs])).items():
        rows.setdefault(f"`{method}`", {})[pair] = 100 * float(group.right("last").mean())
    print("| method | " + " | ".join(f"{a} ({clips[a]} clips) → {b} ({clips[b]})" for a, b in PAIRS) + " | mean of the halves |")
    print("|---|" + "---|" * (len(PAIRS) + 1))
    for method, by_pair in rows.items():
        cells = [by_pair[pair] for pair in PAIRS]
        print(f"| {method} | " + " | ".join(f"{cell:.1f}" for cell in [*cells, np.mean(cells[:2])]) + " |")


def vectors(features: Path, domain: str) -> Vectors:
    """(the mean over frames of RGB and flow of each clip [N, 2048], labels [N])."""
    with h5py.File(features) as file:
        means = [file[f"{domain}/{modality}/pooled"][:].mean(axis=1) for modality in ("rgb", "flow")]
        return np.concatenate(means, axis=1), file[f"{domain}/clips/label"].asstr()[:].astype(str)


def _baseline(source: Vectors, target: Vectors) -> float:
    """Percent right of scikit-learn's classifier of the source on the target."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(*source)
    return 100 * float(model.score(*target))


def _run(program: str, *arguments: object, quiet: bool = True) -> None:
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


if __name__ == "__main__":
    main()
