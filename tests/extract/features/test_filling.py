"""Who writes rows holds the dataset: nobody lays it out anew meanwhile, and whoever comes late is told."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
from cia_extract import features
from cia_extract.common.errors import MismatchError
from cia_extract.features import DatasetFeatures, merging, writer

from tests.conftest import make_dataset

CLAIM_ROW_0 = """
import sys
from pathlib import Path
from cia_extract.features import Claims
with Claims(Path(sys.argv[1]), "d") as claims:
    claims.take(0)
    print("taken", flush=True)
    sys.stdin.read()
"""


def begun_anew(dataset: DatasetFeatures, clips: int, **changes: object) -> DatasetFeatures:
    """As --overwrite does: the first clips of the dataset, with other provenance."""
    columns = {name: values[:clips].tolist() for name, values in dataset.columns.items()}
    return writer.begin_or_continue(
        dataset.path, dataset.name, columns, dict(dataset.provenance) | changes, dataset.path.parent, overwrite=True
    )


def test_nobody_begins_a_dataset_anew_while_another_process_fills_it(tmp_path):
    dataset = make_dataset(tmp_path / "f.h5", "d", 1, clips_per_class=2, frames=1)
    before = (tmp_path / "f.h5").read_bytes()
    words = [sys.executable, "-c", CLAIM_ROW_0, str(dataset.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "taken\n"
        with pytest.raises(MismatchError, match="another process is filling 'd' right now"):
            begun_anew(dataset, 2, manifest_sha256="other")
        assert (tmp_path / "f.h5").read_bytes() == before
        other.stdin.close()
    begun_anew(dataset, 2, manifest_sha256="other")
    assert len(features.open_features(dataset.path)["d"]) == 2


@pytest.mark.parametrize(("clips", "changes"), [(2, {"manifest_sha256": "other"}), (4, {"weights": {"rgb": {"name": "new"}}})])
def test_who_read_the_file_before_it_was_begun_anew_is_told_and_writes_nothing(tmp_path, clips, changes):
    dataset = make_dataset(tmp_path / "f.h5", "d", 1, clips_per_class=4, frames=1)
    make_dataset(tmp_path / "f.h5", "other", 2, clips_per_class=1, frames=1)
    anew = begun_anew(dataset, clips, **changes)
    with pytest.raises(MismatchError, match="has begun 'd' anew meanwhile; run the same command again"):  # noqa: SIM117
        with features.to_fill(dataset):
            pytest.fail("must not be entered")
    assert not np.array(anew.array("status")).any(), "no row of the old one is in the new one"
    assert set(features.open_features(tmp_path / "f.h5")) == {"d", "other"}
    with features.to_fill(anew) as (claims, rows):
        assert claims.take(0)
        rows.write_row(0, "rgb", np.ones((1, 1024, 7, 7), np.float32))
    assert not features.open_features(tmp_path / "f.h5")["d"].damaged_rows("rgb")


def test_merging_leaves_the_rows_that_another_process_has(tmp_path):
    part = make_dataset(tmp_path / "part.h5", "d", 1, clips_per_class=2, frames=1)
    columns = {name: values.tolist() for name, values in part.columns.items()}
    writer.begin_or_continue(tmp_path / "all.h5", "d", columns, part.provenance, tmp_path, overwrite=False)
    words = [sys.executable, "-c", CLAIM_ROW_0, str(tmp_path / "all.h5")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "taken\n"
        list(merging.merge([tmp_path / "part.h5"], tmp_path / "all.h5", print))
        other.stdin.close()
    done = features.open_features(tmp_path / "all.h5")["d"].done()
    assert not done[0] and done[1:].all()
    list(merging.merge([tmp_path / "part.h5"], tmp_path / "all.h5", print))
    assert features.open_features(tmp_path / "all.h5")["d"].done().all()
    assert not list(tmp_path.glob(".*")), "the claims' file is gone once all is done"


def test_a_dataset_that_is_gone_is_told(tmp_path):
    dataset = make_dataset(tmp_path / "f.h5", "d", 1, clips_per_class=1, frames=1)
    with h5py.File(dataset.path, "r+") as file:
        del file["d"]
    with pytest.raises(MismatchError, match="anew meanwhile"), features.to_fill(dataset):
        pytest.fail("must not be entered")
