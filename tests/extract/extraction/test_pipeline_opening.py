"""How often an extraction reads the feature file, and what it goes on with."""

from dataclasses import replace

import numpy as np
import pytest
from cia_extract import recipes
from cia_extract.datasets import manifest
from cia_extract.extraction import pipeline
from cia_extract.extraction.settings import Settings
from cia_extract.features import RowWriter, journal, open_features, writer
from cia_extract.networks import weights

ROWS = [{"clip": name, "path": f"{name}.mp4", "label": "x", "split": "train"} for name in ("a", "b")]


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(
        dataset="d",
        manifest=manifest.check("test", ROWS),
        root=tmp_path,
        out=tmp_path / "f.h5",
        modalities=("flow",),
        recipe=recipes.load("tbn-epic100", {"sampling.frames": 2}),
        weights=("random",),
        engine="eager",
    )


def test_continuing_reads_the_file_once(settings, monkeypatch):
    pipeline.Extraction(settings, print).begin_or_continue()
    read = []
    monkeypatch.setattr(writer, "open_features", lambda path, real=open_features: read.append(path) or real(path))
    extraction = pipeline.Extraction(settings, print)
    dataset = extraction.begin_or_continue()
    assert len(extraction.engines) == 1 and read == [dataset.path]


def test_auto_weights_are_those_that_the_dataset_was_begun_with(settings, monkeypatch):
    """The choice is recorded, and `settle` is told of it when the dataset is continued."""
    told = []

    def settle(choices, begun, say):
        told.append((choices, begun))
        return dict.fromkeys(choices, "random")

    monkeypatch.setattr(weights, "settle", settle)
    auto = replace(settings, recipe=recipes.load("kinetics", {"sampling.frames": 2}), weights=("auto",))
    begun = pipeline.Extraction(auto, print).begin_or_continue()
    assert begun.provenance["weights"]["flow"]["name"] == "random"
    assert len(pipeline.Extraction(auto, print).begin_or_continue()) == 2
    other = replace(auto, dataset="another domain")
    pipeline.Extraction(other, print)  # domains of one file are compared: they get the same weights
    assert told == [({"flow": "auto"}, {}), ({"flow": "auto"}, {"flow": "random"}), ({"flow": "auto"}, {"flow": "random"})]


def test_the_same_command_finishes_what_a_killed_one_left_in_the_journal(settings, monkeypatch):
    """Killed when the journal was complete and the file not yet changed."""
    monkeypatch.setattr(journal, "_replay", lambda path, descriptor: None)
    with journal.transaction(settings.out) as file:
        writer.lay_out(file, "d", settings.manifest.columns, _provenance(settings), settings.root)
    assert {path.name for path in settings.root.iterdir()} == {"f.h5", "f.h5.journal"}
    monkeypatch.undo()
    assert len(pipeline.Extraction(settings, print).begin_or_continue()) == 2
    assert {path.name for path in settings.root.iterdir()} == {"f.h5"}


def _provenance(settings: Settings) -> dict:
    extraction = pipeline.Extraction(replace(settings, out=settings.root / "none.h5"), print)
    _ = extraction.engines
    return extraction._provenance()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_dataset_that_another_process_made_meanwhile_is_dealt_with_as_if_it_had_been_there(settings, overwrite):
    late = pipeline.Extraction(replace(settings, overwrite=overwrite), print)
    with RowWriter(pipeline.Extraction(settings, print).begin_or_continue()) as rows:
        rows.write_row(0, "flow", np.ones((2, 1024, 7, 7), np.float32))
    assert late.begin_or_continue().done().tolist() == [not overwrite, False]
