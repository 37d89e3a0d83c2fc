"""Clips of a feature file extracted again under changed recipes, for `cia-extract compare --again`."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from cia_extract import features, recipes
from cia_extract.clips import Windows, flow, prepare_clip
from cia_extract.common.errors import DataError, UsageError
from cia_extract.datasets import check
from cia_extract.extraction import Batcher, Settings
from cia_extract.networks import engines, example, network_of, weights
from cia_extract.recipes import Recipe

# {name in the feature file: the value of --weights that loads the same weights}; files must be given again.
BY_NAME: Final = {"rgb_scratch": "kinetics", "rgb_scratch-inflated": "kinetics", "random": "random"}


class Reextraction:
    """Extracts clips of a dataset again: a call with clip, modality and changes of the recipe gives pooled [T, C] float32.

    `requests` are values of `--weights`, for weights that cannot be loaded by name. Raises DataError or UsageError if the weights
    or clips cannot be had.
    """

    def __init__(self, dataset: features.DatasetFeatures, requests: list[str]) -> None:
        columns = {name: values.tolist() for name, values in dataset.columns.items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        self.recipe = recipes.restored(dataset.provenance.get("preprocessing"), f"{dataset.path}: '{dataset.name}'")
        self.note = _version_note(dataset, self.recipe)
        self.weights = self._weights(dataset, requests)
        self.rows = {clip: row for row, clip in enumerate(columns["clip"])}
        self.cache = tempfile.TemporaryDirectory()  # flow is the slow part, and few changes affect it
        self.settings = Settings(
            dataset=dataset.name,
            manifest=check(str(dataset.path), rows),
            root=Path(dataset.root),
            out=dataset.path,
            flow_cache=Path(self.cache.name),
        )
        engine = dataset.provenance.get("engine")
        begun_by = str(engine.get("flow_by", "")) if isinstance(engine, dict) else ""
        self.flow_by = flow.choose("auto", self.recipe.flow, "cpu", begun_by)
        if not self.settings.root.is_dir():
            raise UsageError(f"--again: the clips of {dataset.path} are not in {dataset.root} any more; put them back there")

    def __call__(self, clip: str, modality: str, changes: dict[str, Any]) -> npt.NDArray[np.float32]:
        recipe = changed(self.recipe, changes)
        prepared = prepare_clip(replace(self.settings, recipe=recipe).job(self.rows[clip], (modality,), self.flow_by))
        if modality in prepared.errors:
            raise prepared.errors[modality]
        windows = prepared.windows[modality]
        if changes.get("flow_order") == "yx":
            windows = Windows(windows.images[..., ::-1].copy(), windows.rows)
        backbone = network_of(recipe.backbone, modality)
        eps = recipe.network.bn_eps if backbone == recipe.backbone else None  # not for audio beside I3D, which goes through TBN
        network = weights.build(backbone, modality, self.weights[modality], eps=eps).fold()
        engine = engines.build(network, recipe, example(recipe, modality), torch.device("cpu"), "eager")
        batcher = Batcher(engine, recipe, modality)
        (_, maps), *_ = [*batcher.add(0, windows), *batcher.flush()]
        pooled: npt.NDArray[np.float32] = maps.mean(axis=(2, 3))
        return pooled

    def _weights(self, dataset: features.DatasetFeatures, requests: list[str]) -> dict[str, weights.Weights]:
        """{modality: the weights with which the dataset was extracted}. Raises DataError for others."""
        recorded = dataset.provenance.get("weights")
        if not isinstance(recorded, dict) or not all(
            isinstance(recorded.get(m), dict) and recorded[m].keys() >= {"name", "sha256"} for m in dataset.modalities
        ):
            raise DataError(f"{dataset.path}: '{dataset.name}' does not record its weights, which --again needs")
        by_name = BY_NAME | {name: name for name in weights.KNOWN if weights.cache.cached(name).is_file()}
        names = {m: str(recorded[m]["name"]) for m in dataset.modalities}
        defaults = [f"{m}={by_name[name]}" for m, name in names.items() if name in by_name]
        choices = weights.choose(dataset.modalities, requests or defaults, self.recipe.backbone)
        choices = weights.settle(choices, names, lambda line: None)
        loaded = {}
        for modality, choice in choices.items():
            backbone = network_of(self.recipe.backbone, modality)
            loaded[modality] = weights.load(backbone, modality, choice, lambda line: None)
            if loaded[modality].sha256 != recorded[modality]["sha256"]:
                raise DataError(
                    f"{dataset.path}: its {modality} weights are {recorded[modality]['name']}; pass them with --weights"
                )
        return loaded


def _version_note(dataset: features.DatasetFeatures, recipe: Recipe) -> str:
    """A warning that this version reads some clips of an older file differently; empty for a file of this version."""
    now = recipes.load(recipes.BASE).version
    if recipe.version == now:
        return ""
    return (
        f"--again: {dataset.path} was extracted with version {recipe.version} of its recipe; its clips are extracted again by "
        f"the rules of version {now}, which read some clips differently (cia-extract recipes kinetics says which)"
    )


def load(path: Path, dataset: str | None, requests: list[str]) -> Reextraction:
    """The re-extraction of a dataset of a feature file; `requests` are values of `--weights`.

    Raises UsageError if the file holds several datasets and none is named, or the clips are gone, DataError for other weights.
    """
    datasets = features.open_features(path)
    if dataset is None and len(datasets) > 1:
        raise UsageError(f"{path}: holds several datasets; choose with --dataset from: {', '.join(datasets)}")
    name = dataset or next(iter(datasets))
    if name not in datasets:
        raise UsageError(f"--dataset {name}: not in {path}, which holds {', '.join(datasets)}")
    return Reextraction(datasets[name], requests)


def changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """A recipe with changes as in `diagnosis.HYPOTHESES`; "flow_order" is not a change of the recipe."""
    rgb, flow, network = recipe.rgb, recipe.flow, recipe.network
    if "bn_eps" in changes:
        network = replace(network, bn_eps=changes["bn_eps"])
    if "channel_order" in changes:
        rgb = replace(rgb, order=changes["channel_order"])
    if "pixel_range" in changes:
        low, high = changes["pixel_range"]
        std = 255 / (high - low)
        rgb = replace(rgb, mean=(-low * std,) * 3, std=(std,) * 3)
        flow = replace(flow, mean=(-low * std,) * 2, std=(std,) * 2)
    if "window_shift" in changes:
        rgb = replace(rgb, first=rgb.first + changes["window_shift"])
        flow = replace(flow, first=flow.first + changes["window_shift"])
    if "edge" in changes:
        rgb, flow = replace(rgb, edge=changes["edge"]), replace(flow, edge=changes["edge"])
    return replace(recipe, rgb=rgb, flow=flow, network=network)
