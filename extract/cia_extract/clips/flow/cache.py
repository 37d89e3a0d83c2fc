"""Quantised, cropped flow kept between extractions (`--flow-cache`): TV-L1 is the slow part, and other windows, frames or
networks reuse it. One compressed file a clip, written whole or not at all; safe to delete at any time."""

import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cia_extract.clips.flow.methods import implementation
from cia_extract.common.writes import whole

if TYPE_CHECKING:
    from cia_extract.clips.job import ClipJob

Flows = dict[int, npt.NDArray[np.uint8]]


def path_of(folder: Path, job: "ClipJob") -> Path:
    """Where a clip's flow lies: named by everything that decides its numbers, the video's size and time among it."""
    found = job.path.stat()
    rule = {
        k: v
        for k, v in asdict(job.recipe.flow).items()
        if k in {"algorithm", "median", "stride", "dilation", "bound", "quantiser"}
    }
    video = [str(job.path.resolve()), found.st_size, found.st_mtime_ns, job.start, job.stop, job.rate]
    by = implementation(job.flow_by)
    # The version too: it says by which rules a clip's frames are chosen.
    knobs = [video, rule, by, asdict(job.recipe.picture), job.recipe.version]
    digest = hashlib.sha256(json.dumps(knobs).encode()).hexdigest()
    return folder / digest[:2] / f"{digest[2:34]}.npz"


def load(folder: Path, job: "ClipJob") -> Flows:
    """{flow index: [224, 224, 2] uint8} of a clip; empty where nothing is kept or the file is damaged."""
    try:
        with np.load(path_of(folder, job), allow_pickle=False) as kept:
            return dict(zip(kept["indices"].tolist(), kept["flows"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}


def save(folder: Path, job: "ClipJob", flows: Flows) -> str:
    """Keep a clip's flow. Returns what went wrong, if anything: a full cache must not cost the clip."""
    order = sorted(flows)
    try:
        path = path_of(folder, job)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part, part.open("wb") as file:
            np.savez_compressed(file, indices=np.array(order, np.int32), flows=np.stack([flows[i] for i in order]))
    except OSError as error:
        return f"--flow-cache {folder}: {error.strerror or error}; flow is not kept"
    return ""
