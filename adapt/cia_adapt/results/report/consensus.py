"""Consensus maps of a finished run over the real frames of a few target clips."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cia_extract import recipes
from cia_extract.clips import Pixels
from cia_extract.clips import preparation as extraction
from cia_extract.common.errors import CiaError, DataError
from cia_extract.datasets import manifest
from cia_extract.features import DatasetFeatures

from cia_adapt.config import Method, Setup
from cia_adapt.data import Stores, centre_frames, digest, find_domains, make_task
from cia_adapt.model import VideoModel
from cia_adapt.results.report.figures import consensus
from cia_adapt.runs import files


@dataclass(frozen=True)
class Panel:
    """The picture of one clip."""

    clip: str
    """The clip's id."""
    png: bytes
    """The picture as a PNG file."""


def panels(folder: Path, root: Path | None, seed: int, count: int) -> tuple[list[Panel], list[str]]:
    """Draw the consensus maps of `count` target validation clips of the run in `folder`; `seed` picks the clips.

    Returns (the panels, a line for each clip whose frames cannot be read); nothing for a method without SC. `root` goes before
    the clips' folder that the feature file names. Raises CiaError where no clip can be drawn: the feature file is gone, has
    changed since, or does not say how clips were read.
    """
    config, stamp = files.read_json(folder / "config.json"), files.read_json(folder / "stamp.json")
    method = Method(**config["method"])
    if method.pooling != "sc":
        return [], []
    if config["setup"].get("input") == "clips":
        raise DataError(f"{folder}: was trained on clips; consensus maps are drawn of runs over features only")
    domains = find_domains(Path(stamp["feature_file"]))
    if not {config["source"], config["target"]} <= set(domains):
        raise DataError(
            f"{stamp['feature_file']}: no longer holds {config['source']} and {config['target']}; put the file of this run back"
        )
    target = domains[config["target"]]
    dataset = target.dataset
    if not isinstance(dataset, DatasetFeatures) or "clips/indices" not in dataset.regions:
        raise DataError(
            f"{stamp['feature_file']}: does not say where the clips and their frames are; a file written by cia-extract does"
        )
    if config["features"] != digest(domains[config["source"]], domains[config["target"]]):
        raise DataError(
            f"{stamp['feature_file']}: its features are no longer those of this run, or the run used --manifest or --map"
        )
    setup, stores = Setup(**config["setup"]), Stores(torch.device("cpu"), "map")
    task, _ = make_task(domains[config["source"]], target, config["modalities"], True, setup, stores)
    model = VideoModel(method, task.sizes)
    try:
        model.load_state_dict(files.load_model(folder, "selected"))
    except RuntimeError:
        raise DataError(f"{folder}: its model is of another version of cia-adapt; train it again with --overwrite") from None
    model.eval()
    clips, segments = task.target_val, config["setup"]["segments"]
    positions = np.sort(np.random.default_rng(seed).permutation(len(clips))[:count])  # [count]
    frames = centre_frames(clips.frames, segments)  # [S]
    with torch.inference_mode():
        output = model(clips.batch(positions, np.tile(frames, (len(positions), 1))))
    assert output.consensus is not None
    predicted = output.probabilities()[0].argmax(1).tolist()
    drawn, missing = [], []
    for position, maps, number in zip(positions, output.consensus.double().numpy(), predicted, strict=True):
        row = int(clips.rows[position])
        name = str(dataset.columns["clip"][row])
        try:
            images = frames_of(dataset, row, root, dataset.array("clips/indices")[row, frames].tolist())
        except CiaError as error:
            missing.append(str(error))
            continue
        title = f"{name}: predicted {task.classes[task.label][number]}"
        drawn.append(Panel(name, consensus(images, maps, title)))
    return drawn, missing


def frames_of(dataset: DatasetFeatures, row: int, root: Path | None, indices: list[int]) -> list[Pixels]:
    """The frames [224, 224, 3] that the features of a row at these indices describe.

    The code that extracted the features decodes, counts, scales and crops them, by the feature file's own recipe. `root` goes
    before the folder that the file names. Raises CiaError where the clip cannot be read or is another one now.
    """
    recipe = recipes.restored(dataset.provenance.get("preprocessing"), f"{dataset.path}: '{dataset.name}'")
    cells = {"label": "-", "split": "-"} | {column: str(values[row]) for column, values in dataset.columns.items()}
    job = extraction.job_of(manifest.check(str(dataset.path), [cells]), 0, root or Path(dataset.root), recipe, ("rgb",))
    return extraction.seen_frames(job, indices)
