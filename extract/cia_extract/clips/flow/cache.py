"""A cache of quantised, cropped flow (`--flow-cache`): TV-L1 is the slow part, and other windows, frames or networks reuse it.

One compressed file a clip, written whole or not at all. The cache may be deleted at any time.
"""

import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from cia_extract.clips.flow.methods import implementation
from cia_extract.common.arrays import npy_files
from cia_extract.common.errors import CiaError
from cia_extract.common.writes import remove_old, whole

if TYPE_CHECKING:
    from cia_extract.clips.job import ClipJob

Flows = dict[int, npt.NDArray[np.uint8]]
MOST_BYTES: Final = 2 << 30  # of a clip's flow that is read; 20,000 flows, 13 minutes of video


def path_of(folder: Path, job: "ClipJob") -> Path:
    """The file of a clip's flow. Its name is a digest of all that decides the numbers, the video's size and time included."""
    status = job.path.stat()
    rule = {
        k: v
        for k, v in asdict(job.recipe.flow).items()
        if k in {"algorithm", "median", "stride", "dilation", "bound", "quantiser"}
    }
    video = [str(job.path.resolve()), status.st_size, status.st_mtime_ns, job.start, job.stop, job.rate]
    by = implementation(job.flow_by)
    # The recipe's version decides the rules by which a clip's frames are read.
    knobs = [video, rule, by, asdict(job.recipe.picture), job.recipe.version]
    digest = hashlib.sha256(json.dumps(knobs).encode()).hexdigest()
    return folder / digest[:2] / f"{digest[2:34]}.npz"


def load(folder: Path, job: "ClipJob") -> Flows:
    """{flow index: [crop, crop, 2] uint8} of a clip; empty if nothing is cached, or the file is damaged or somebody's trap."""
    try:
        path = path_of(folder, job)
        if not path.is_file():
            return {}
        stored = npy_files.npz(path)
        indices, flows = stored["indices"], stored["flows"]
        (count,), side = indices.shape, job.recipe.picture.crop
        if (indices.kind, flows.type, flows.shape) != ("i", "uint8", (count, side, side, 2)) or flows.nbytes > MOST_BYTES:
            return {}
        return dict(zip(indices.read().tolist(), flows.read(), strict=True))
    except (CiaError, OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return {}


def save(folder: Path, job: "ClipJob", flows: Flows) -> str:
    """Cache a clip's flow. Returns a warning if that failed, else "": a full disk must not cost the clip."""
    order = sorted(flows)
    try:
        path = path_of(folder, job)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part, part.open("wb") as file:
            np.savez_compressed(file, indices=np.array(order, np.int32), flows=np.stack([flows[i] for i in order]))
    except OSError as error:
        return f"--flow-cache {folder}: {error.strerror or error}; the flow of this clip is not cached"
    return ""


def tidy(folder: Path | None) -> None:
    """Remove what killed processes left half written of a cache, if there is one."""
    if folder:
        remove_old(folder, "??/.*.npz.*.part")
