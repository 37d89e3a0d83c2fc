"""Consensus maps of a finished run over the real frames of a few target clips."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cia_extract import preprocess, recipes, video
from cia_extract.errors import CiaError, DataError

from cia_adapt import runs
from cia_adapt.config import Method, Setup
from cia_adapt.data import centre_frames, digest, find_domains, make_task
from cia_adapt.foreign import ForeignDataset
from cia_adapt.model import VideoModel
from cia_adapt.report import figures
from cia_adapt.store import Stores


@dataclass(frozen=True)
class Panel:
    """One clip's picture."""

    clip: str
    png: bytes


def panels(folder: Path, root: Path | None, seed: int, count: int) -> list[Panel]:
    """Draw `count` target validation clips chosen by `seed`. Raises CiaError when file, features or clips are not there."""
    config, stamp = runs.read_json(folder / "config.json"), runs.read_json(folder / "stamp.json")
    method = Method(**config["method"])
    if method.pooling != "sc":
        return []
    domains = find_domains(Path(stamp["feature_file"]))
    if not {config["source"], config["target"]} <= set(domains):
        raise DataError(f"{stamp['feature_file']}: no longer holds {config['source']} and {config['target']}")
    target = domains[config["target"]]
    if isinstance(target.dataset, ForeignDataset) or "clips/indices" not in target.dataset.regions:
        raise DataError(f"{stamp['feature_file']}: does not say where the clips and their frames are")
    if config["features"] != digest(domains[config["source"]], domains[config["target"]]):
        raise DataError(f"{stamp['feature_file']}: its features are no longer those of this run, or it had --manifest or --map")
    setup, stores = Setup(**config["setup"]), Stores(torch.device("cpu"), "map")
    task, _ = make_task(domains[config["source"]], target, config["modalities"], True, setup, stores)
    model = VideoModel(method, task.sizes)
    try:
        model.load_state_dict(runs.load_model(folder, "selected"))
    except RuntimeError:
        raise DataError(
            f"{folder}: its model was made by another version of cia-adapt; train it again with --overwrite"
        ) from None
    model.eval()
    clips, segments = task.target_val, config["setup"]["segments"]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(clips))[:count])
    frames = centre_frames(clips.frames, segments)
    with torch.inference_mode():
        output = model(clips.batch(chosen, np.tile(frames, (len(chosen), 1))))
    assert output.consensus is not None
    predicted = output.probabilities()[0].argmax(1).tolist()
    drawn = []
    for position, maps, number in zip(chosen, output.consensus.double().numpy(), predicted, strict=True):
        row = clips.rows[position]
        columns = clips.dataset.columns
        path = (root or Path(clips.dataset.root)) / str(columns["path"][row])
        times = tuple(float(columns[c][row]) if c in columns and columns[c][row] else None for c in ("start", "stop"))
        wanted = clips.dataset.array("clips/indices")[row, frames].tolist()
        images = _frames(path, times[0], times[1], wanted)
        title = f"{columns['clip'][row]}: predicted {task.classes[task.label][number]}"
        drawn.append(Panel(str(columns["clip"][row]), figures.consensus(images, maps, title)))
    return drawn


def _frames(path: Path, start: float | None, stop: float | None, wanted: list[int]) -> list[preprocess.Pixels]:
    """The frames as the network saw them: scaled and cropped."""
    found = {}
    for index, frame in enumerate(video.decode(path, start, stop)):
        if index in wanted:
            found[index] = preprocess.centre_crop(preprocess.resize(frame.image, recipes.load(recipes.BASE).picture))
    if set(found) != set(wanted):
        raise CiaError(f"{path}: is not the clip that was extracted, it is shorter")
    return [found[index] for index in wanted]
