"""The frames of a clip as the network saw them, read again from the clip's video or frame folder."""

from pathlib import Path

from cia_extract import recipes
from cia_extract.clips import Pixels
from cia_extract.clips import preparation as extraction
from cia_extract.datasets import manifest
from cia_extract.features import DatasetFeatures


def frames_of(dataset: DatasetFeatures, row: int, root: Path | None, indices: list[int]) -> list[Pixels]:
    """The frames [224, 224, 3] that the features of a row at these indices describe.

    The code that extracted the features decodes, counts, scales and crops them, by the feature file's own recipe. `root` goes
    before the folder that the file names. Raises CiaError where the clip cannot be read or is another one now.
    """
    recipe = recipes.restored(dataset.provenance.get("preprocessing"), f"{dataset.path}: '{dataset.name}'")
    cells = {"label": "-", "split": "-"} | {column: str(values[row]) for column, values in dataset.columns.items()}
    job = extraction.job_of(manifest.check(str(dataset.path), [cells]), 0, root or Path(dataset.root), recipe, ("rgb",))
    return extraction.seen_frames(job, indices)
