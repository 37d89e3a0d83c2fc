"""The commands as functions, for notebooks and scripts: `cia_adapt.train` and `predict`."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cia_extract.common import console, flags
from cia_extract.common.errors import UsageError
from cia_extract.common.settings import docs
from cia_extract.common.suggest import did_you_mean

import cia_adapt.cli.predictions as predictions
from cia_adapt import config
from cia_adapt.cli.options import ON_A_TERMINAL, Data, Device, Machine
from cia_adapt.cli.requests import request
from cia_adapt.cli.train import Training

if TYPE_CHECKING:
    from cia_adapt.results import predicting
    from cia_adapt.runs import Run


def train_method(
    features: str | Path,
    method: str = "cia",
    setup: str = "uh",
    *,
    source: str | Sequence[str] = (),
    target: str | None = None,
    seeds: int = 1,
    settings: Sequence[str] = (),
    runs: str | Path = "runs",
    device: str = "auto",
    **more: Any,
) -> "list[Run]":
    """Train one method in every direction with every seed, as `cia-adapt` does; finished runs are read, not repeated.

    Args:
        features: the feature file.
        method: a name that `cia-adapt methods` lists, or a file that ends in .toml.
        setup: uh, e55, e100, demo, or a file that ends in .toml.
        source: labelled domain, or several that train together; none: every one in turn.
        target: unlabelled domain; None: every other one.
        seeds: how many, from 0.
        settings: of parts, `["adversarial.video=0.5"]`; what `--set` takes.
        runs: folder that runs are written below.
        device: auto, cpu, cuda, cuda:1, …
        more: every other flag of `cia-adapt`, with `_` for `-`: `epochs=10`, `modality=["rgb"]`, `pooling="att"`, ….

    Returns:
        The runs, by direction and seed.

    Raises:
        CiaError: for what `cia-adapt` ends with.
    """
    science = docs(config.Setup).keys() | docs(config.Method).keys()
    sources = [source] if isinstance(source, str) else list(source)
    named = {"features": features, "source": sources, "target": target, "device": device, "runs": runs}
    asked = {**named, "method": method, "setup": setup, "seeds": seeds, "settings": settings, **more}
    groups = Data, Training, Machine
    flagged = {f.name for cls in groups for f in fields(cls)} - set(ON_A_TERMINAL)
    for name in asked.keys() - flagged - science:
        raise UsageError(f"{name}: unknown{did_you_mean(name, flagged | science)}; take a flag of cia-adapt, with _ for -")
    data, training, machine = flags.groups(groups, {name: asked[name] for name in asked if name in flagged}, ON_A_TERMINAL)
    changes = {name: _listed(asked[name]) for name in asked if name not in flagged}
    chosen = config.load(training.setup, training.method, changes, training.settings)
    wanted = request(chosen, data, machine, training, training.resume)
    from cia_adapt.experiments import runner
    from cia_adapt.runs import folder_of, load_run

    return [load_run(folder_of(result, wanted.runs)) for result in runner.run(wanted, console.say)]


def predict_clips(
    run: "Run | str | Path",
    features: str | Path | None = None,
    dataset: str | None = None,
    split: str = "all",
    *,
    which: Literal["selected", "last"] = "selected",
    mapping: Sequence[str] = (),
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
) -> "predicting.Scores":
    """What a finished run says of any clips with features, as `cia-adapt predict` does; labels are neither needed nor read.

    Args:
        run: what `train` or `load_run` gave, or the folder of a run.
        features: the feature file; None: that of the run.
        dataset: a domain or a dataset of the file; None: the run's target.
        split: a split of it, or all.
        which: the model of the selected epoch, or of the last.
        mapping: where a foreign HDF5 file has its arrays; what `--map` takes.
        device: auto, cpu, cuda, cuda:1, …
        precision: fp32 or bf16.

    Returns:
        The scores. `table` has a row for each clip: the likeliest class, its probability, and the probabilities of all classes.

    Raises:
        CiaError: for what `cia-adapt predict` ends with.
    """
    asked = {"features": features, "dataset": dataset, "split": split, "which": which, "mapping": mapping}
    machine = {"device": device, "precision": precision}
    from cia_adapt import runs

    folder = run.folder if isinstance(run, runs.Run) else runs.files.find_one(Path(run))
    return predictions.scores_of(folder, *flags.groups((predictions.Which, predictions.Clips, Device), asked | machine))


def _listed(value: Any) -> Any:
    """Several names as the flags take them, with commas between."""
    return ",".join(value) if isinstance(value, list | tuple) else value
