"""Files that version 1 of the recipes made: they are read by everything, and never continued by other rules."""

import json

import h5py
import numpy as np
import pytest
from cia_adapt.cli import main as adapt
from cia_adapt.data.domains import find_domains
from cia_extract import features, recipes
from cia_extract.common.errors import UsageError
from cia_extract.comparison import reextraction
from cia_extract.datasets import manifest
from cia_extract.extraction import pipeline
from cia_extract.extraction import settings as extraction_settings

from tests.command_line import in_this_process
from tests.extract.cli.test_application import cia_extract
from tests.extract.clips.test_video import encode


def rewritten(path, change) -> None:
    """A feature file whose recipe is changed in place."""
    with h5py.File(path, "r+") as file:
        recipe = json.loads(file["d"].attrs["recipe"])
        change(recipe)
        file["d"].attrs["recipe"], file["d"].attrs["recipe_sha256"] = json.dumps(recipe), features.provenance_sha256(recipe)


def made_by_version_1(recipe) -> None:
    recipe["preprocessing"]["version"] = 1


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """RGB of six clips by TBN, as version 1 would have written it, and the command line that made it."""
    root = tmp_path_factory.mktemp("old")
    rows = []
    for index in range(6):
        encode(root / f"{index}.mp4", 12 + index)
        split = "val" if index % 3 == 2 else "train"
        rows.append({"clip": str(index), "path": f"{index}.mp4", "label": "ab"[index % 2], "split": split})
    rows_ = manifest.check("test", rows)
    rows_.write(root / "manifest.csv")
    settings = extraction_settings.Settings(
        dataset="d",
        manifest=rows_,
        root=root,
        out=root / "f.h5",
        modalities=("rgb",),
        recipe=recipes.load("tbn-epic100", {"sampling.frames": 2}),
        weights=("random",),
        engine="eager",
        workers=1,
    )
    assert not pipeline.extract(settings, lambda line: None).failed
    (root / "new.h5").write_bytes((root / "f.h5").read_bytes())
    rewritten(root / "f.h5", made_by_version_1)
    return root / "f.h5"


def again(path) -> list[object]:
    line = ["--dataset", "d", "--root", path.parent, "--out", path, "--backbone", "tbn", "--modality", "rgb"]
    return [*line, "--weights", "random", "--frames", "2", "--workers", "1", "--engine", "eager"]


def test_a_file_of_version_1_is_not_continued_by_other_rules(file, tmp_path):
    run = cia_extract(*again(file))
    assert run.returncode == 4 and "preprocessing" in run.stderr.splitlines()[-1]
    assert "preprocessing.version: 1 → 2" in run.stderr and "The versions read some clips differently" in run.stderr
    assert "choose another --out, or --overwrite" in run.stderr
    whole = cia_extract("recipes", "kinetics").stdout
    assert "2: consecutive cuts share no frame" in whole, "the message sends its reader here"


def test_a_file_of_version_1_is_read_by_every_command(file, tmp_path):
    assert "6 rows, all as they were written" in cia_extract("verify", file).stdout
    info = json.loads(cia_extract("info", file, "--json").stdout)["d"]
    assert info["recipe"]["preprocessing"]["version"] == 1 and info["rgb"]["done"] == 6
    merged = cia_extract("merge", file, "--out", tmp_path / "m.h5")
    assert merged.returncode == 0, merged.stderr
    assert features.open_features(tmp_path / "m.h5")["d"].provenance["preprocessing"]["version"] == 1
    compared = cia_extract("compare", file, file.parent / "new.h5")
    assert compared.returncode == 0 and "the recipes differ in preprocessing.version: 1 → 2" in compared.stdout
    assert "rgb: identical" in compared.stdout
    checked = in_this_process(adapt, "check", file)
    assert checked.returncode in {0, 3} and "unexpected" not in checked.stderr, checked.stderr  # 3: its clips are few and alike
    assert set(find_domains(file)) == {"d"}


def test_files_of_two_versions_are_not_merged(file, tmp_path):
    run = cia_extract("merge", file, file.parent / "new.h5", "--out", tmp_path / "m.h5")
    assert run.returncode == 4 and "preprocessing.version" in run.stderr


def test_comparing_again_says_by_which_rules_it_extracts(file):
    run = cia_extract("compare", file, file.parent / "new.h5", "--again", "--weights", "random")
    assert run.returncode == 0, run.stderr
    assert "was extracted with version 1 of its recipe; its clips are extracted again by the rules of version 2" in run.stdout
    as_json = json.loads(cia_extract("compare", file, file.parent / "new.h5", "--again", "--weights", "random", "--json").stdout)
    assert "by the rules of version 2" in as_json["diagnosis"][0]
    assert reextraction.load(file.parent / "new.h5", None, []).note == ""
    repeated = reextraction.load(file, None, [])("2", "rgb", {})
    np.testing.assert_allclose(repeated, features.open_features(file)["d"].array("rgb/pooled")[2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda recipe: recipe.pop("preprocessing"),
        lambda recipe: recipe["preprocessing"].pop("name"),
        lambda recipe: recipe["preprocessing"]["rgb"].update(window="many"),
        lambda recipe: recipe.pop("weights"),
        lambda recipe: recipe.update(weights={"rgb": {}}),
        lambda recipe: recipe.update(engine=[1, 2]),
    ],
)
def test_comparing_again_with_a_damaged_recipe_is_one_line(file, tmp_path, change):
    path = tmp_path / "damaged.h5"
    path.write_bytes(file.read_bytes())
    rewritten(path, change)
    run = cia_extract("compare", path, file, "--again", "--weights", "random")
    assert run.returncode in {0, 3} and "unexpected" not in run.stderr, run.stderr
    if run.returncode:
        assert run.stderr.count("\n") == 1


def test_clips_that_are_read_by_a_rate_or_cut_are_extracted_again_as_they_were(tmp_path):
    """By the same job that extraction made of the row: start, stop and rate."""
    encode(tmp_path / "a.mp4", 40)
    rows = [{"clip": "c", "path": "a.mp4", "label": "x", "split": "train", "start": "0.2", "stop": "1.2", "rate": "10"}]
    settings = extraction_settings.Settings(
        dataset="d",
        manifest=manifest.check("test", rows),
        root=tmp_path,
        out=tmp_path / "f.h5",
        modalities=("rgb",),
        recipe=recipes.load("tbn-epic55", {"sampling.frames": 3}),
        weights=("random",),
        engine="eager",
        workers=1,
    )
    assert not pipeline.extract(settings, lambda line: None).failed
    dataset = features.open_features(tmp_path / "f.h5")["d"]
    assert dataset.array("clips/n_frames").tolist() == [10]
    repeated = reextraction.load(tmp_path / "f.h5", None, [])("c", "rgb", {})
    np.testing.assert_allclose(repeated, dataset.array("rgb/pooled")[0], rtol=1e-3, atol=1e-3)


def test_a_file_whose_clips_are_gone_says_so(file, tmp_path):
    path = tmp_path / "gone.h5"
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "r+") as opened:
        opened["d"].attrs["root"] = str(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"the clips of .* are not in .*nowhere any more"):
        reextraction.load(path, None, [])
