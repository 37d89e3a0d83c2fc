"""What an extraction would do, from the manifest and a short measurement: `cia-extract --dry-run`."""

import time
from collections import Counter
from typing import Any

import numpy as np
import torch

from cia_extract import features, flow, pipeline, preprocess, video, writer
from cia_extract.backbones.i3d import I3D
from cia_extract.clip import ClipJob, prepare
from cia_extract.errors import CiaError
from cia_extract.pipeline import Settings

# Multiply-accumulates of the trunk for one 16×224² window (convolutions; a test counts them again).
GMACS = {"rgb": 27.788, "flow": 25.585}


def plan(settings: Settings) -> dict[str, Any]:
    """Clips by split, bytes, free disk, arithmetic, and hours estimated from one clip and one window."""
    columns = settings.manifest.columns
    clips, modalities = len(settings.manifest), settings.modalities
    splits = Counter(zip(columns.get("domain", [settings.dataset] * clips), columns["split"], strict=True))
    windows = clips * settings.frames
    gmacs = sum(GMACS[modality] for modality in modalities) * settings.window / 16
    result: dict[str, Any] = {
        "dataset": settings.dataset,
        "out": str(settings.out),
        "clips": clips,
        "clips_by_domain_and_split": {f"{domain}/{split}": count for (domain, split), count in sorted(splits.items())},
        "clips_missing": sum(not settings.manifest.path(row, settings.root).is_file() for row in range(clips)),
        "modalities": list(modalities),
        "gigabytes": round(clips * len(modalities) * features.row_bytes(settings.frames) / 1e9, 3),
        "gigabytes_free": round(writer.free_bytes(settings.out) / 1e9, 1),
        "windows_at_most": windows * len(modalities),
        "peta_macs_at_most": round(windows * gmacs / 1e6, 4),
        "trunk_parameters": {m: sum(p.numel() for p in I3D(3 if m == "rgb" else 2).parameters()) for m in modalities},
    }
    result["hours_estimated"] = _hours(settings)
    return result


def _hours(settings: Settings) -> dict[str, float]:
    """Hours by stage, as if every clip were like the first readable one; the network's alone where no clip is there yet.

    Decoding and flow run in worker processes, beside the network: the whole takes about the longer of the two.
    """
    clips = len(settings.manifest)
    hours = {}
    windows = settings.frames
    for row in range(clips):
        start, stop = settings.manifest.seconds(row)
        path = settings.manifest.path(row, settings.root)
        job = ClipJob(path, start, stop, ("rgb",), settings.frames, settings.window, settings.flow)
        try:
            clip = prepare(job)
        except CiaError:
            continue
        windows = len(np.unique(clip.windows["rgb"].rows, axis=0))
        hours["decode"] = clips * clip.decode_s / settings.workers / 3600
        if "flow" in settings.modalities:
            hours["flow"] = clips * clip.n_frames * _flow_seconds(job, settings.flow) / settings.workers / 3600
        break
    hours["network"] = clips * windows * len(settings.modalities) * _window_seconds(settings) / 3600
    return {stage: round(value, 3) for stage, value in hours.items()}


def _flow_seconds(job: ClipJob, algorithm: str) -> float:
    """Seconds of one pair: the first two frames of the clip."""
    frames = video.decode(job.path, job.start, job.stop)
    grey = {t: preprocess.grey(preprocess.resize(frame.image)) for t, frame in zip(range(2), frames, strict=False)}
    began = time.perf_counter()
    flow.pairs(grey, [0], algorithm)
    return time.perf_counter() - began


def _window_seconds(settings: Settings) -> float:
    """Seconds of one window in a full batch, after a warm-up. Random weights: the time is the same."""
    device = settings.device
    network = I3D().fold().to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    images = np.zeros((settings.window, 224, 224, 3), np.uint8)
    windows = np.tile(np.arange(settings.window, dtype=np.int32), (pipeline.BATCH, 1))
    pipeline.describe(network, images, windows, device)
    began = time.perf_counter()
    pipeline.describe(network, images, windows, device)
    return (time.perf_counter() - began) / pipeline.BATCH
