"""On which thread rows are claimed, counted and written."""

import threading

import pytest
from cia_extract import recipes
from cia_extract.common.console import Progress
from cia_extract.datasets import class_folders
from cia_extract.extraction import clips_to_rows, pipeline
from cia_extract.extraction.settings import Settings
from cia_extract.features import Claims, filling

from tests.extract.clips.test_video import encode


@pytest.mark.parametrize("workers", [1, 2])
def test_claims_progress_and_jobs_belong_to_one_thread(tmp_path, monkeypatch, workers):
    """Clips are prepared beside the network, but nothing that is counted or claimed is shared between threads."""
    threads: dict[str, set[int]] = {}

    def note(what: str) -> None:
        threads.setdefault(what, set()).add(threading.get_ident())

    class NotingClaims(Claims):
        def take(self, row: int) -> bool:
            note("take")
            return row != 1 and super().take(row)

        def give_back(self, row: int) -> None:
            note("give back")
            super().give_back(row)

    class NotingProgress(Progress):
        def step(self, message: str = "") -> None:
            note("step")
            super().step(message)

    class NotingPass(clips_to_rows.Pass):
        def _claimed_jobs(self):
            for row, job in super()._claimed_jobs():
                note("job")
                yield row, job

    monkeypatch.setattr(filling, "Claims", NotingClaims)
    for name, noting in (("Progress", NotingProgress), ("Pass", NotingPass)):
        monkeypatch.setattr(pipeline, name, noting)
    for index in range(8):
        (tmp_path / "clips" / "run").mkdir(parents=True, exist_ok=True)
        encode(tmp_path / "clips" / "run" / f"{index}.mp4", 8)
    settings = Settings(
        dataset="d",
        manifest=class_folders.read(tmp_path / "clips").manifest,
        root=tmp_path / "clips",
        out=tmp_path / "f.h5",
        modalities=("rgb",),
        recipe=recipes.load("tbn-epic100", {"sampling.frames": 1}),
        weights=("random",),
        engine="eager",
        workers=workers,
    )
    summary = pipeline.extract(settings, print)
    assert (summary.extracted_now, summary.elsewhere) == (7, 1)
    assert threads == {what: {threading.get_ident()} for what in ("take", "job", "step", "give back")}
