"""Several processes over one file or several: claims, shards, merging, Ray."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cia_extract import features
from cia_extract.common.errors import DataError, MismatchError
from cia_extract.common.outcomes import Outcome
from cia_extract.extraction import settings
from cia_extract.features import merging, writer
from cia_extract.features.claims import Claims

from tests.command_line import in_a_process
from tests.conftest import make_dataset
from tests.extract.cli.test_application import cia_extract
from tests.extract.clips.test_video import encode

PROGRAM = [sys.executable, "-c", "from cia_extract.cli import main; main()"]
# TBN's RGB stream is the cheapest network: what is tested here is who does which row.
FAST = ["--backbone", "tbn", "--modality", "rgb", "--weights", "random", "--frames", "2", "--workers", "1", "--deterministic"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    (root / "wave").mkdir()
    for index in range(12):
        encode(root / "wave" / f"clip{index}.mp4", 8 + index)
    cia_extract("manifest", "--from-folders", root)
    return root


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory) -> features.DatasetFeatures:
    """One process, all rows: what everything else must equal."""
    out = tmp_path_factory.mktemp("whole") / "f.h5"
    assert cia_extract("--dataset", "d", "--root", root, "--out", out, *FAST).returncode == 0
    return features.open_features(out)["d"]


def assert_same(out: Path, whole: features.DatasetFeatures) -> None:
    found = features.open_features(out)["d"]
    for name in whole.regions:
        np.testing.assert_array_equal(found.array(name), whole.array(name), err_msg=name)


def test_a_row_is_claimed_by_one_process_and_freed_by_its_death(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from cia_extract.features.claims import Claims\n"
        "claims = Claims(Path(sys.argv[1]), 'd'); print(claims.take(3), flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "f.h5")], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline().strip() == "True"
    with Claims(tmp_path / "f.h5", "d") as claims:
        assert not claims.take(3) and claims.take(4)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert claims.take(3)


@pytest.mark.slow
def test_shards_fill_one_file_and_ignore_other_clips(root, whole, tmp_path):
    line = ["--dataset", "d", "--root", root, "--out", tmp_path / "f.h5", *FAST, "--json"]
    first = json.loads(in_a_process("cia_extract", *line, "--shard", "1/2").stdout)
    assert 0 < first["done"] < 12
    second = json.loads(in_a_process("cia_extract", *line, "--shard", "2/2").stdout)
    assert second["done"] == 12 and first["extracted_now"] + second["extracted_now"] == 12
    assert_same(tmp_path / "f.h5", whole)
    assert not list(tmp_path.glob(".*"))  # the claims' file is gone once all is done


def test_a_clips_shard_depends_on_its_id_alone():
    clips = [f"v_{index}" for index in range(1000)]
    shards = {clip: settings.shard_of(clip, 7) for clip in clips}
    assert {clip: settings.shard_of(clip, 7) for clip in clips[::3]}.items() <= shards.items()
    counts = np.bincount(list(shards.values()), minlength=8)[1:]
    assert counts.sum() == 1000 and counts.min() > 100


@pytest.mark.slow
def test_merging_files_made_apart(root, whole, tmp_path):
    parts = [tmp_path / f"part{i}.h5" for i in (1, 2)]
    for i, part in enumerate(parts, start=1):
        assert cia_extract("--dataset", "d", "--root", root, "--out", part, *FAST, "--shard", f"{i}/2").returncode == 0
    merged = cia_extract("merge", *parts, "--out", tmp_path / "all.h5")
    assert merged.returncode == 0 and "'d': 12 of 12 clips done" in merged.stdout
    assert_same(tmp_path / "all.h5", whole)
    assert cia_extract("verify", tmp_path / "all.h5").returncode == 0
    again = cia_extract("merge", *parts, "--out", tmp_path / "all.h5")
    assert "0 rows copied" in again.stdout
    itself = cia_extract("merge", *parts, "--out", parts[0])
    assert itself.returncode == 4 and "is one of the files to merge" in itself.stderr


def test_merging_keeps_datasets_failures_and_refuses_what_does_not_belong(tmp_path):
    one = make_dataset(tmp_path / "one.h5", "here", seed=1, clips_per_class=2)
    make_dataset(tmp_path / "two.h5", "there", seed=2, clips_per_class=2)
    with writer.RowWriter(one) as rows:
        rows.fail(1, "flow", Outcome("timeout", "no progress"))
    list(merging.merge([tmp_path / "one.h5", tmp_path / "two.h5"], tmp_path / "all.h5", print))
    merged = features.open_features(tmp_path / "all.h5")
    assert set(merged) == {"here", "there"}
    assert merged["here"].array("status").tolist() == one.array("status").tolist()
    assert bytes(merged["here"].array("message")[1, 1]) == b"no progress"
    assert "no progress" in (tmp_path / "all.failed.csv").read_text()
    make_dataset(tmp_path / "other.h5", "here", seed=1, clips_per_class=3)
    make_dataset(tmp_path / "five.h5", "here", seed=1, clips_per_class=2, frames=4)
    with pytest.raises(MismatchError, match="frames: 5 → 4"):
        list(merging.merge([tmp_path / "five.h5"], tmp_path / "all.h5", print))
    with pytest.raises(MismatchError, match="has other clips"):
        list(merging.merge([tmp_path / "other.h5"], tmp_path / "all.h5", print))
    with (tmp_path / "two.h5").open("r+b") as file:
        file.seek(features.open_features(tmp_path / "two.h5")["there"].regions["rgb/maps"].row_offset(2) + 99)
        file.write(b"\x12\x34")
    with pytest.raises(DataError, match="rgb does not match its CRC32C"):
        list(merging.merge([tmp_path / "two.h5"], tmp_path / "new.h5", print))
