"""Vectors of one modality, four domains, through `cia-adapt import`, against scikit-learn: Office-Caltech's shape, real data.

python benchmarks/vectors.py FOLDER [--seeds 5] [--jobs 2]

scikit-learn's handwritten digits (UCI; 1,797 pictures of 8×8), each in one of four domains only: as they are, turned by 25°,
blurred, and paler with noise. A vector of 64 numbers a picture, T = 1. The baseline is logistic regression on the source, on
standardised numbers, and the same after CORAL (Sun et al., AAAI 2016, https://arxiv.org/abs/1511.05547). All twelve directions.
"""

import argparse
import csv
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cia_adapt.results import comparison
from cia_adapt.runs import files
from scipy.linalg import fractional_matrix_power
from scipy.ndimage import gaussian_filter, rotate
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Vectors = npt.NDArray[np.float32]
DOMAINS = ("plain", "turned", "blurred", "noisy")
METHODS = "source-only,dann,coral,mcc,target-only"
SETUP = ["--setup", "demo", "--segments", "1", "--batch", "32", "--epochs", "30"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    data = domains()
    features, runs = options.folder / "digits.h5", options.folder / "runs"
    if not features.exists():
        _import(options.folder, features, data)
    sweep = ["sweep", "--features", features, *SETUP, "--seeds", options.seeds, "--jobs", options.jobs, "--runs", runs]
    _adapt(*sweep, "--method", METHODS)
    rows = baselines(data) | accuracies(runs)
    print("| method | " + " | ".join(f"→ {name}" for name in DOMAINS) + " | mean of 12 |\n|---|" + "---|" * (len(DOMAINS) + 1))
    for name, by_pair in rows.items():
        cells = [np.mean([value for (_, target), value in by_pair.items() if target == domain]) for domain in DOMAINS]
        print(f"| {name} | " + " | ".join(f"{cell:.1f}" for cell in [*cells, np.mean(list(by_pair.values()))]) + " |")


def domains() -> dict[str, tuple[Vectors, npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """{domain: (vectors [N, 64] in 0 … 1, digits [N], which of them validate [N])}; every fourth picture goes into one domain."""
    pictures, digits = load_digits(return_X_y=True)
    pictures = (pictures / 16).reshape(-1, 8, 8)
    random = np.random.default_rng(0)
    changes = {
        "plain": lambda picture: picture,
        "turned": lambda picture: rotate(picture, 25, reshape=False, order=1),
        "blurred": lambda picture: gaussian_filter(picture, 1.0),
        "noisy": lambda picture: 0.5 * picture + random.normal(0, 0.2, picture.shape),
    }
    parts = {}
    for i, (name, change) in enumerate(changes.items()):
        vectors = np.stack([change(picture).ravel() for picture in pictures[i::4]]).astype(np.float32)
        parts[name] = vectors, digits[i::4], np.arange(len(vectors)) % 3 == 0
    return parts


def baselines(
    data: dict[str, tuple[Vectors, npt.NDArray[np.int64], npt.NDArray[np.bool_]]],
) -> dict[str, dict[tuple[str, str], float]]:
    """{name: {(source, target): percent right on the target's validation pictures}} of scikit-learn."""
    plain, coral = {}, {}
    for source, target in permutations(data, 2):
        x, y, held_out = data[source]
        x_target, y_target, tested = data[target]
        scaled, scaled_target = (StandardScaler().fit(v[~out]) for v, out in ((x, held_out), (x_target, tested)))
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x[~held_out], y[~held_out])
        plain[source, target] = 100 * model.score(x_target[tested], y_target[tested])
        own, other = scaled.transform(x[~held_out]), scaled_target.transform(x_target)
        aligned = own @ _power(own, -0.5) @ _power(other[~tested], 0.5)
        coral[source, target] = 100 * LogisticRegression(max_iter=2000).fit(aligned, y[~held_out]).score(
            other[tested], y_target[tested]
        )
    return {"logistic regression": plain, "CORAL, then logistic regression": coral}


def _power(vectors: Vectors, exponent: float) -> Vectors:
    """The power of (covariance + 1), [64, 64]."""
    covariance = np.cov(vectors, rowvar=False) + np.eye(vectors.shape[1])
    return np.asarray(fractional_matrix_power(covariance, exponent).real, dtype=np.float32)


def accuracies(runs: Path) -> dict[str, dict[tuple[str, str], float]]:
    """{method: {(source, target): percent right at the selected epochs, mean over seeds}}."""
    by_method: dict[str, dict[tuple[str, str], float]] = {}
    for (method, pair), group in comparison.groups(files.find([runs])).items():
        by_method.setdefault(f"`{method}`", {})[pair] = 100 * float(group.right("selected").mean())
    return by_method


def _import(folder: Path, features: Path, data: dict[str, tuple[Vectors, npt.NDArray[np.int64], npt.NDArray[np.bool_]]]) -> None:
    for name, (vectors, digits, held_out) in data.items():
        clips = [f"{name}-{i:04d}" for i in range(len(vectors))]
        np.savez(folder / f"{name}.npz", clip=clips, rgb=vectors)
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["clip", "label", "split"])
            writer.writerows(zip(clips, digits, np.where(held_out, "val", "train"), strict=True))
        _adapt("import", folder / f"{name}.npz", "--manifest", folder / f"{name}.csv", "--dataset", name, "--out", features)


def _adapt(*arguments: object) -> None:
    command = [str(Path(sys.executable).with_name("cia-adapt")), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
