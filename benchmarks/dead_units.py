"""Units of the shared layer that answer to no training clip any more, with and without `--normalise`, and started by the data;
and what SC without an embedding looks at.

python benchmarks/dead_units.py study.h5 [--epochs 20] [--seeds 2]

For each method: their share, and accuracies on the source's and the target's validation clips, in % (means over directions and
seeds). Then, of one direction: the largest weight of SC's maps and its cell, and logistic regression on standardised features,
trained and validated within the source.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from cia_adapt import config
from cia_adapt.data import clips
from cia_adapt.data import domains as data_domains
from cia_adapt.data import task as data_task
from cia_adapt.data.readers import Stores
from cia_adapt.training.evaluate import Evaluator
from cia_adapt.training.trainer import Trainer
from common import machine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CPU = torch.device("cpu")
MODALITIES = ("rgb", "flow")
WAYS: dict[str, dict[str, object]] = {
    "as in uh-paper": {"normalise": False},
    "--normalise": {"normalise": True},
    "--warm-up 0.1": {"normalise": False, "warm_up": 0.1},
    "--initialise data": {"normalise": False, "initialise": "data"},
    "--initialise data --warm-up 0.1": {"normalise": False, "initialise": "data", "warm_up": 0.1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    print(machine())
    domains, stores = data_domains.find_domains(options.features), Stores(CPU)
    pairs = [(source, target) for (source,), target in data_domains.pairs(domains, (), None)]
    for name in ("source-only", "concat"):
        for start, way in WAYS.items():
            overrides = {"epochs": options.epochs, "segments": 3, "reversal": 1.0} | way
            found = [trained(name, overrides, domains, pair, seed, stores) for pair in pairs for seed in range(options.seeds)]
            dead, source, target = np.mean(found, axis=0)
            print(f"{name:12} {start:35}: dead {dead:.0f}, source validation {source:.1f}, target {target:.1f}")
    for name in ("avg", "sc-identity"):
        print(name, looked_at(name, domains, pairs[0], stores))


def trainer_of(
    name: str,
    overrides: dict[str, object],
    domains: dict[str, data_domains.Domain],
    pair: tuple[str, str],
    seed: int,
    stores: Stores,
) -> tuple[Trainer, clips.SealedLabels]:
    chosen = config.load("demo", name, overrides)
    method = chosen.for_pair(*pair)
    source, target = (domains[end] for end in pair)
    task, labels = data_task.make_task(source, target, MODALITIES, method.needs_maps, chosen.setup, stores, method.supervision)
    return Trainer(task, chosen.setup, method, seed, CPU), labels


def trained(
    name: str,
    overrides: dict[str, object],
    domains: dict[str, data_domains.Domain],
    pair: tuple[str, str],
    seed: int,
    stores: Stores,
) -> tuple[float, float, float]:
    """(dead units, source validation, target validation), in %, after the last epoch."""
    trainer, labels = trainer_of(name, overrides, domains, pair, seed, stores)
    for _ in range(trainer.setup.epochs):
        trainer.epoch()
    evaluator = Evaluator(trainer.task, labels, trainer.setup.segments, CPU)
    source, target = (evaluator.predict(trainer.model, c) for c in (trainer.task.source_val.clips, trainer.task.target_val))
    trainer.model.eval()
    with torch.inference_mode():
        frames = [trainer.model(trainer.read(draw)[0]).frames["all"].flatten(0, 1) for draw in trainer.draws()]
    dead = 100 * float((torch.cat(frames) <= 0).all(0).float().mean())
    right = evaluator.target_accuracy(target)
    assert right is not None, "the demo's clips have labels"
    return dead, evaluator.source_accuracy(source), right


@torch.inference_mode()
def looked_at(name: str, domains: dict[str, data_domains.Domain], pair: tuple[str, str], stores: Stores) -> str:
    """Before any training; features of a clip are the means over its frames of what is pooled."""
    trainer, _ = trainer_of(name, {"segments": 3, "shared_features": 0}, domains, pair, 0, stores)
    features, labels, cells, weights = [], [], [], []
    for labelled in (trainer.task.source_train, trainer.task.source_val):
        positions = np.arange(len(labelled.labels))
        output = trainer.model.eval()(labelled.clips.batch(positions, np.tile(np.arange(3), (len(positions), 1))))
        features.append(output.frames["all"].mean(1).numpy())
        labels.append(labelled.labels[:, 0])
        if output.consensus is not None:
            flat = output.consensus.flatten(2).flatten(0, 1).float()
            cells += [divmod(int(i), output.consensus.shape[-1]) for i in flat.argmax(1)]
            weights.append(float(flat.max()))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.1)).fit(features[0], labels[0])
    said = f"logistic regression {100 * model.score(features[1], labels[1]):.0f} %, mean feature {features[0].mean():.2f}"
    if cells:
        cell = max(set(cells), key=cells.count)
        said += (
            f", largest weight {max(weights):.2f}, in {100 * cells.count(cell) / len(cells):.0f} % of the frames at cell {cell}"
        )
    return f"{pair[0]}: {said}"


if __name__ == "__main__":
    main()
