"""The frames of clips as the network saw them, read again from the clips' videos or frame folders.

Worker processes decode them, as in extraction: a clip that crashes the decoder, or never ends, costs its own picture.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from cia_extract import recipes
from cia_extract.clips import ClipJob, Pixels, PreparedClip, Windows, prepared_clips
from cia_extract.clips import preparation as extraction
from cia_extract.common.errors import CiaError
from cia_extract.common.outcomes import ClipError
from cia_extract.datasets import manifest
from cia_extract.features import DatasetFeatures


@dataclass(frozen=True, kw_only=True)
class FramesJob(ClipJob):
    """A worker's task: these frames of a clip, counted from 0."""

    indices: Sequence[int]


def frames_of(dataset: DatasetFeatures, row: int, root: Path | None, indices: Sequence[int]) -> list[Pixels]:
    """As `frames_of_each`, of one row. Raises CiaError where its frames cannot be read."""
    frames = frames_of_each(dataset, root, {row: indices})[row]
    if isinstance(frames, CiaError):
        raise frames
    return frames


def frames_of_each(
    dataset: DatasetFeatures, root: Path | None, indices: Mapping[int, Sequence[int]]
) -> dict[int, list[Pixels] | CiaError]:
    """{row: the frames [224, 224, 3] that its features at these indices describe, or why they cannot be read}.

    The code that extracted the features decodes, counts, scales and crops them, by the feature file's own recipe. `root` goes
    before the folder that the file names. A clip that is another one now is an error of its row. Raises CiaError where no worker
    process can be started.
    """
    frames: dict[int, list[Pixels] | CiaError] = {}
    jobs: list[tuple[int, ClipJob]] = []
    for row in indices:
        try:
            jobs.append((row, job_of(dataset, row, root, indices[row])))
        except CiaError as error:
            frames[row] = error
    with closing(prepared_clips(iter(jobs), workers=1, work=see)) as seen:
        for row, result in seen:
            frames[row] = _said(result) if isinstance(result, ClipError) else list(result.windows["rgb"].images)
    return frames


def _said(error: ClipError) -> ClipError:
    """The error without the advice to raise a flag that only extraction has."""
    return ClipError(str(error).partition("; raise --timeout")[0]) if error.outcome.name == "timeout" else error


def job_of(dataset: DatasetFeatures, row: int, root: Path | None, indices: Sequence[int]) -> FramesJob:
    """The task for one row. Raises CiaError where the file does not say how its clips were read, or where they are."""
    recipe = recipes.restored(dataset.provenance.get("preprocessing"), f"{dataset.path}: '{dataset.name}'")
    cells = {"label": "-", "split": "-"} | {column: str(values[row]) for column, values in dataset.columns.items()}
    job = extraction.job_of(manifest.check(str(dataset.path), [cells]), 0, root or Path(dataset.root), recipe, ("rgb",))
    return FramesJob(**{field.name: getattr(job, field.name) for field in fields(job)}, indices=indices)


def see(job: ClipJob, beat: Callable[[], None]) -> PreparedClip:
    """What a worker does: the frames of a `FramesJob`, one after the other. Raises ClipError."""
    assert isinstance(job, FramesJob)
    images = extraction.seen_frames(job, job.indices)
    order = np.arange(len(images), dtype=np.int32)
    return PreparedClip(len(images), 0.0, order, {"rgb": Windows(np.stack(images), order[:, None])})
