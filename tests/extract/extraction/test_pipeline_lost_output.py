"""What an extraction says when its output is taken away under it."""

import pytest
from cia_extract import recipes
from cia_extract.common.errors import DataError
from cia_extract.datasets import class_folders
from cia_extract.extraction import pipeline
from cia_extract.extraction.settings import Settings

from tests.extract.clips.test_video import encode


def test_features_removed_while_they_are_extracted_are_not_reported_as_done(tmp_path):
    (tmp_path / "clips" / "run").mkdir(parents=True)
    encode(tmp_path / "clips" / "run" / "a.mp4", 20)
    out = tmp_path / "f.h5"
    settings = Settings(
        dataset="d",
        manifest=class_folders.read(tmp_path / "clips").manifest,
        root=tmp_path / "clips",
        out=out,
        modalities=("rgb",),
        recipe=recipes.load("tbn-epic100", {"sampling.frames": 2}),
        weights=("random",),
        workers=1,
    )
    pipeline.Extraction(settings, print).begin_or_continue()

    def remove(message: str) -> None:
        if "rgb network:" in message:
            out.unlink()

    with pytest.raises(DataError, match=r"f\.h5: was removed or renamed"):
        pipeline.extract(settings, remove)
