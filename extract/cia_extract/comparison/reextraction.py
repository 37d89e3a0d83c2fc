"""Clips of a feature file extracted again in other ways, for `cia-extract compare --again`: which of them made the other file?"""

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

# Weights that can be had again by name; other files are asked for.
BY_NAME: Final = {"rgb_scratch": "kinetics", "rgb_scratch-inflated": "kinetics", "random": "random"}


class Reextraction:
    """Calls extract one clip and modality of a dataset under changes of its recipe: pooled [T, C] float32."""

    def __init__(self, dataset: features.DatasetFeatures, given: list[str]) -> None:
        columns = {name: values.tolist() for name, values in dataset.columns.items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        self.recipe = recipes.restored(dataset.provenance.get("preprocessing"), f"{dataset.path}: '{dataset.name}'")
        self.note = _version_note(dataset, self.recipe)
        self.weights = self._weights(dataset, given)
        self.rows = {clip: row for row, clip in enumerate(columns["clip"])}
        self.cache = tempfile.TemporaryDirectory()  # flow is the slow part, and most changes leave it as it is
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
            raise UsageError(f"--again: the clips of {dataset.path} are not in {dataset.root} any more")

    def __call__(self, clip: str, modality: str, changes: dict[str, Any]) -> npt.NDArray[np.float32]:
        recipe = changed(self.recipe, changes)
        job = replace(self.settings, recipe=recipe).job(self.rows[clip], (modality,), self.flow_by)
        clip_ = prepare_clip(job)
        if modality in clip_.errors:
            raise clip_.errors[modality]
        windows = clip_.windows[modality]
        if changes.get("flow_order") == "yx":
            windows = Windows(windows.images[..., ::-1].copy(), windows.rows)
        backbone = network_of(recipe.backbone, modality)
        eps = recipe.network.bn_eps if backbone == recipe.backbone else None  # not for sound beside I3D
        network = weights.build(backbone, modality, self.weights[modality], eps=eps).fold()
        engine = engines.build(network, recipe, example(recipe, modality), torch.device("cpu"), "eager")
        batcher = Batcher(engine, recipe, modality)
        (_, maps), *_ = [*batcher.add(0, windows), *batcher.flush()]
        pooled: npt.NDArray[np.float32] = maps.mean(axis=(2, 3))
        return pooled

    def _weights(self, dataset: features.DatasetFeatures, given: list[str]) -> dict[str, weights.Weights]:
        found = {}
        wanted = dataset.provenance.get("weights")
        if not isinstance(wanted, dict) or not all(
            isinstance(wanted.get(m), dict) and wanted[m].keys() >= {"name", "sha256"} for m in dataset.modalities
        ):
            raise DataError(f"{dataset.path}: '{dataset.name}' does not say by which weights it was made; --again needs them")
        defaults = [f"{m}={BY_NAME[wanted[m]['name']]}" for m in dataset.modalities if wanted[m]["name"] in BY_NAME]
        choices = weights.choose(dataset.modalities, given or defaults, self.recipe.backbone)
        for modality, choice in choices.items():
            backbone = network_of(self.recipe.backbone, modality)
            found[modality] = weights.load(backbone, modality, choice, lambda line: None)
            if found[modality].sha256 != wanted[modality]["sha256"]:
                raise DataError(
                    f"{dataset.path}: its {modality} weights are {wanted[modality]['name']}; pass them with --weights"
                )
        return found


def _version_note(dataset: features.DatasetFeatures, recipe: Recipe) -> str:
    """What to know before a clip of an older file is extracted again; empty for a file of this version."""
    now = recipes.load(recipes.BASE).version
    if recipe.version == now:
        return ""
    return (
        f"--again: {dataset.path} was made by version {recipe.version} of its recipe; its clips are extracted again by the rules "
        f"of version {now}, which read some clips differently (cia-extract recipes kinetics says which)"
    )


def of(path: Path, dataset: str | None, given: list[str]) -> Reextraction:
    """For a dataset of a feature file. Raises UsageError where several could be meant, or the clips are gone."""
    found = features.open_features(path)
    if dataset is None and len(found) > 1:
        raise UsageError(f"{path}: holds {', '.join(found)}; say which with --dataset")
    name = dataset or next(iter(found))
    if name not in found:
        raise UsageError(f"--dataset {name}: {path} holds {', '.join(found)}")
    return Reextraction(found[name], given)


def changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """A recipe with the changes that `compare.HYPOTHESES` names."""
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
