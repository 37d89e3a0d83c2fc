"""Stage one from rows to a filled feature file."""

import csv
import os
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from cia_extract import __version__, features, weights, writer
from cia_extract.backbones.i3d import I3D
from cia_extract.clip import ClipJob, PreparedClip
from cia_extract.console import Progress, Say
from cia_extract.errors import DataError
from cia_extract.features import DatasetFeatures, Recipe
from cia_extract.manifest import Manifest
from cia_extract.preprocess import CROP, SHORT_SIDE, to_unit_range
from cia_extract.workers import prepared_clips

BATCH: Final = 4  # windows; fastest a window on two cores, and 1 GB of activations


@dataclass(frozen=True)
class Settings:
    """What one extraction is asked to do."""

    dataset: str
    """Name of the group in the feature file."""
    manifest: Manifest
    root: Path
    """Folder that the manifest's paths are relative to."""
    out: Path
    """The feature file."""
    backbone: str = "i3d"
    modalities: tuple[str, ...] = ("rgb", "flow")
    frames: int = 25
    """Frames described per clip."""
    window: int = 16
    """Frames around each that the network sees."""
    flow: str = "tvl1"
    """Flow algorithm: tvl1 (reference) or dis (about a hundred times faster, approximate)."""
    weights: tuple[str, ...] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 2
    """Processes that decode and compute flow."""
    overwrite: bool = False
    retry_failed: bool = False


@dataclass
class Summary:
    """What became of the clips; `seconds` by stage (decode and flow are summed over workers)."""

    clips: int
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Clip id → why."""
    extracted_now: int = 0
    windows: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "flow": 0.0, "network": 0.0, "wall": 0.0})


def recipe_of(settings: Settings, used: dict[str, weights.Weights]) -> Recipe:
    """Everything that decides the numbers in the file, and what they were made with."""
    recipe: dict[str, Any] = {
        "dataset": settings.dataset,
        "backbone": settings.backbone,
        "modalities": list(settings.modalities),
        "weights": {modality: used[modality].describe() for modality in settings.modalities},
        "frames": settings.frames,
        "frame_rule": "tsn",
        "window": {
            "frames": settings.window,
            "first": -(settings.window // 2),
            "edge": "replicate",
            "reduce": "mean over Mixed_5c's time",
        },
        "preprocessing": {
            "name": "kinetics",
            "version": 1,
            "short_side_px": SHORT_SIDE,
            "resize": "bilinear, antialiased",
            "crop_px": CROP,
            "range": "[-1, 1]",
        },
        "arithmetic": "torch float32, batch normalisation folded",
        "manifest_sha256": settings.manifest.sha256(),
        "code_version": __version__,
    }
    if "flow" in settings.modalities:
        recipe["flow"] = {
            "algorithm": settings.flow,
            "on": "grey scaled frames, t to t+1",
            "bound_px": 20,
            "quantiser": "floor of (v+20)/40*255",
        }
    return recipe


def extract(settings: Settings, say: Say) -> Summary:
    """Fill the feature file and return what happened. Raises CiaError; per-clip failures are in the summary."""
    began = time.perf_counter()
    choices = weights.choose(settings.modalities, list(settings.weights))
    used = {modality: weights.load(modality, choice, say) for modality, choice in choices.items()}
    for modality in settings.modalities:
        say(f"{modality} weights: {used[modality].name} ({used[modality].provenance})")
    # Whatever can be wrong with weights or device shows here, before a file is made or replaced.
    networks = {modality: _network(modality, used[modality], settings.device) for modality in settings.modalities}
    dataset = writer.prepare(
        settings.out,
        settings.dataset,
        settings.manifest.columns,
        recipe_of(settings, used),
        settings.root,
        settings.overwrite,
    )
    todo = _rows_to_do(dataset, settings.retry_failed)
    summary = Summary(len(dataset), failed=_read_failures(settings, dataset))
    _write_failures(settings, summary.failed)  # an overwritten dataset starts without any
    if todo:
        try:
            _extract_rows(settings, dataset, todo, networks, settings.device, summary)
        finally:
            summary.seconds["wall"] = time.perf_counter() - began
    summary.done = int(dataset.done().sum())
    return summary


def _rows_to_do(dataset: DatasetFeatures, retry_failed: bool) -> dict[int, tuple[str, ...]]:
    """Rows with the modalities that they lack; what is done is never written again."""
    wanted = (features.TO_DO, features.FAILED) if retry_failed else (features.TO_DO,)
    lacking = np.isin(dataset.array("status"), wanted)
    return {
        row: tuple(m for m, lacks in zip(dataset.modalities, lacking[row], strict=True) if lacks)
        for row in np.flatnonzero(lacking.any(axis=1)).tolist()
    }


def _network(modality: str, used: weights.Weights, device: torch.device) -> I3D:
    torch.backends.cudnn.allow_tf32 = False  # torch's default for convolutions; the recipe says float32
    model = weights.build(modality, used).fold().to(device)
    return model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def _extract_rows(
    settings: Settings,
    dataset: DatasetFeatures,
    todo: dict[int, tuple[str, ...]],
    networks: dict[str, I3D],
    device: torch.device,
    summary: Summary,
) -> None:
    jobs = [_job(settings, row, modalities) for row, modalities in todo.items()]
    progress = Progress(len(dataset), f"{settings.dataset}", done=len(dataset) - len(todo))
    with (
        writer.RowWriter(dataset) as rows,
        progress,
        closing(prepared_clips(jobs, settings.workers)) as results,
    ):
        for (row, modalities), result in zip(todo.items(), results, strict=True):
            clip = settings.manifest.columns["clip"][row]
            try:
                if isinstance(result, DataError):
                    raise result
                _store(rows, row, result, networks, device, summary)
                summary.extracted_now += 1
                if summary.failed.pop(clip, None):
                    _write_failures(settings, summary.failed)
            except DataError as error:
                summary.failed[clip] = str(error)
                _write_failures(settings, summary.failed)
                for modality in modalities:
                    rows.mark(row, modality, features.FAILED)
                progress.line(f"failed: {clip}: {error}")
            progress.step()


def _job(settings: Settings, row: int, modalities: tuple[str, ...]) -> ClipJob:
    start, stop = settings.manifest.seconds(row)
    path = settings.manifest.path(row, settings.root)
    return ClipJob(path, start, stop, modalities, settings.frames, settings.window, settings.flow)


def _store(
    rows: writer.RowWriter,
    row: int,
    clip: PreparedClip,
    networks: dict[str, I3D],
    device: torch.device,
    summary: Summary,
) -> None:
    rows.write_clip(row, clip.n_frames, clip.fps, clip.centres)
    summary.seconds["decode"] += clip.decode_s
    summary.seconds["flow"] += clip.flow_s
    for modality, windows in clip.windows.items():
        began = time.perf_counter()
        distinct, inverse = np.unique(windows.rows, axis=0, return_inverse=True)  # short clips repeat windows
        maps = describe(networks[modality], windows.images, distinct, device)
        summary.windows += len(distinct)
        summary.seconds["network"] += time.perf_counter() - began
        rows.write_row(row, modality, maps[inverse.reshape(-1)])


@torch.inference_mode()
def describe(
    network: I3D, images: npt.NDArray[np.uint8], windows: npt.NDArray[np.int32], device: torch.device
) -> npt.NDArray[np.float32]:
    """Maps [T, 1024, 7, 7] float32 of windows [T, L] over images [U, 224, 224, C] uint8.

    Batches never cross clips, so that a clip's numbers do not depend on what was extracted before it.
    """
    scaled = torch.from_numpy(to_unit_range(images)).to(device)  # [U, H, W, C]
    maps = []
    for first in range(0, len(windows), BATCH):
        rows = torch.from_numpy(windows[first : first + BATCH].astype(np.int64)).to(device)
        batch = scaled[rows].permute(0, 4, 1, 2, 3)  # [B, C, L, H, W], channels last in memory as it stands
        maps.append(network.maps(batch).cpu().numpy())
    return np.ascontiguousarray(np.concatenate(maps))


def failures_path(out: Path) -> Path:
    return out.with_suffix(".failed.csv")


def _read_failures(settings: Settings, dataset: DatasetFeatures) -> dict[str, str]:
    """Clips marked failed in the file, with the reasons a former run noted beside it."""
    noted: dict[str, str] = {}
    path = failures_path(settings.out)
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            noted = {row["clip"]: row["why"] for row in csv.DictReader(file) if row["dataset"] == settings.dataset}
    failed = (dataset.array("status") == features.FAILED).any(axis=1)
    return {clip: noted.get(clip, "failed in a former run") for clip in dataset.columns["clip"][failed].tolist()}


def _write_failures(settings: Settings, failed: dict[str, str]) -> None:
    """Keep `<out>.failed.csv` (dataset, clip, why) current; other datasets' lines stay."""
    path = failures_path(settings.out)
    rows: list[list[str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [[r["dataset"], r["clip"], r["why"]] for r in csv.DictReader(file) if r["dataset"] != settings.dataset]
    rows += [[settings.dataset, clip, why] for clip, why in failed.items()]
    if not rows:
        path.unlink(missing_ok=True)
        return
    part = path.with_suffix(".csv-part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer_ = csv.writer(file, lineterminator="\n")
        writer_.writerow(["dataset", "clip", "why"])
        writer_.writerows(rows)
    os.replace(part, path)
