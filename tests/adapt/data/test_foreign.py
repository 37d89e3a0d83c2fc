"""Features of other tools: foreign HDF5 files, imports, `--manifest`, `check`."""

import os
import pickle
import shutil

import h5py
import numpy as np
import pytest
import torch
from cia_adapt.data import checking, foreign, importing
from cia_adapt.data import domains as data
from cia_adapt.data.readers import Stores, gather
from cia_adapt.data.relabel import relabelled
from cia_extract.common import safe_pickle
from cia_extract.common.errors import DataError, MismatchError, UsageError
from cia_extract.datasets import manifest
from cia_extract.features.reader import open_features

from tests.adapt.data.test_task import CPU, make_task
from tests.conftest import make_dataset, make_small


def repacked(source, target):
    """A copy as h5repack makes it: chunked and compressed."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        new.attrs.update(old.attrs)

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                new.create_dataset(name, data=item[...], chunks=True, compression="gzip", compression_opts=1)

        old.visititems(copy)
    return target


def test_a_repacked_file_gives_the_same_batches(feature_file, tmp_path):
    ours, theirs = (data.find_domains(path) for path in (feature_file, repacked(feature_file, tmp_path / "r.h5")))
    assert isinstance(theirs["here"].dataset, foreign.ForeignDataset) and list(theirs) == ["here", "there"]
    positions, frames = np.array([4, 1]), np.array([[0, 3], [2, 2]])
    for maps in (False, True):
        a, b = (make_task(d["here"], d["there"], ("rgb", "flow"), maps, tier="map")[0] for d in (ours, theirs))
        assert b.target_val.readers["rgb"].tier == "hdf5"
        for modality, expected in a.target_val.batch(positions, frames).items():
            assert torch.equal(b.target_val.batch(positions, frames)[modality], expected)
        assert b.target_val.names == a.target_val.names


def test_another_byte_order_is_read(tmp_path):
    values = np.random.default_rng(0).random((4, 2, 8), np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["big"], file["y"], file["split"] = values.astype(">f4"), np.array([0, 1, 0, 1]), np.array([b"train"] * 4)
    domains = foreign.open_any(tmp_path / "x.h5", ["d/rgb/pooled=big", "d/label=y", "d/split=split"])
    for tier in ("hdf5", "ram"):
        reader = Stores(CPU, tier).reader(domains["d"], "rgb/pooled", np.arange(4))
        batch = gather([(reader, np.array([2, 0]), np.array([[1], [0]]))]).numpy()
        np.testing.assert_array_equal(batch[:, 0], values[[2, 0], [1, 0]])


def test_unfinished_rows_of_a_repacked_file_are_left_out(tmp_path):
    from cia_extract.common.outcomes import Outcome
    from cia_extract.features.writer import RowWriter

    dataset = make_dataset(tmp_path / "f.h5", "d", 0, clips_per_class=3)
    with RowWriter(dataset) as rows:
        rows.fail(4, "flow", Outcome("timeout"))
    assert len(data.find_domains(repacked(tmp_path / "f.h5", tmp_path / "r.h5"))["d"].rows) == 8


def test_other_names_are_mapped(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name in ("a", "b"):
            file[f"feats_{name}"] = np.random.default_rng(0).random((6, 40), np.float32)
            file[f"y_{name}"] = np.array([0, 1, 0, 1, 0, 1])
            file[f"part_{name}"] = np.array(["train"] * 4 + ["val"] * 2, dtype="S")
    entries = [f"{n}/{k}={p}_{n}" for n in ("a", "b") for k, p in (("rgb/pooled", "feats"), ("label", "y"), ("split", "part"))]
    domains = data.find_domains(tmp_path / "x.h5", entries)
    task, _ = make_task(domains["a"], domains["b"], ("rgb",), False, segments=1)
    assert task.sizes.channels == {"rgb": 40} and task.classes == {"label": ("0", "1")} and task.target_val.names == ["b4", "b5"]
    assert task.target_val.batch(np.array([0]), np.array([[0]]))["rgb"].shape == (1, 1, 40)
    with pytest.raises(UsageError, match="of rgb there are vectors only; take avg"):
        from cia_adapt.model import VideoModel

        from tests.adapt.runs_of import chosen

        VideoModel(chosen("sc-3").for_pair("", ""), make_task(domains["a"], domains["b"], ("rgb",), True)[0].sizes)


@pytest.mark.parametrize(
    ("entries", "error", "message"),
    [
        (["a=b"], UsageError, "--map a=b: write DOMAIN/NAME=PATH"),
        (["a/rgb/deep=x"], UsageError, "an array is called rgb, flow or audio"),
        (["a/label=nowhere"], DataError, "has no dataset nowhere (for a/label)"),
        (["a/label=y", "a/split=s"], DataError, "needs label, split and at least one array"),
        (["a/label=y", "a/split=s", "a/rgb/pooled=y"], DataError, "y is int64 (4,); a/rgb/pooled needs vectors"),
        (
            ["a/label=y", "a/split=s", "a/rgb/pooled=v"],
            DataError,
            "different numbers of rows: label 4, split 4, clip 5, rgb/pooled 5",
        ),
    ],
)
def test_mappings_that_do_not_fit_are_refused(tmp_path, entries, error, message):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["y"], file["s"], file["v"] = np.arange(4), np.array(["train"] * 4, dtype="S"), np.zeros((5, 3), np.float32)
    with pytest.raises(error) as raised:
        data.find_domains(tmp_path / "x.h5", entries)
    assert message in str(raised.value)


def test_files_without_features_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(DataError, match=r"text\.h5: not an HDF5 file, or a damaged one; get or make it again$"):
        data.find_domains(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(DataError, match=r"not a feature file of cia-extract; name its arrays: --map"):
        data.find_domains(tmp_path / "other.h5")
    with pytest.raises(DataError, match="no such file"):
        data.find_domains(tmp_path / "none.h5")


# --- import --------------------------------------------------------------------------------------------------------------


def listed(tmp_path, clips, **columns):
    rows = [
        {"clip": c, "path": c, "label": "x", "split": "train"} | {k: v[i] for k, v in columns.items()}
        for i, c in enumerate(clips)
    ]
    path = tmp_path / "clips.csv"
    manifest.check("test", rows).write(path)
    return path


def test_epic_100s_pickle_as_in_the_reference_file(tmp_path, shared):
    source = shared / "references/tbn_feature_layout/source_val.pkl"
    loaded = safe_pickle.load(source)
    ids = [str(i) for i in loaded["narration_ids"]]
    importing.import_features([source], listed(tmp_path, ids), "val", None, loaded["features"]["RGB"].shape[1], tmp_path / "f.h5")
    dataset = open_features(tmp_path / "f.h5")["val"]
    assert len(dataset) == len(ids) > 0 and dataset.columns["clip"].tolist() == ids
    for name, modality in (("RGB", "rgb"), ("Flow", "flow"), ("Audio", "audio")):
        np.testing.assert_array_equal(dataset.array(f"{modality}/pooled"), np.asarray(loaded["features"][name], np.float32))


def test_epic_100s_released_pickle(tmp_path):
    """The layout as released, two domains into one file."""
    random = np.random.default_rng(0)
    for name in ("source", "target"):
        ids = np.array([f"P01_{name}_{i}" for i in range(4)])
        arrays = {m: random.random((4, 25, 1024)).astype(np.float32) for m in ("RGB", "Flow", "Audio")}
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps({"features": arrays, "narration_ids": ids}))
        path = listed(tmp_path, [*ids[:3], "P01_gone"])
        counts = importing.import_features([tmp_path / f"{name}.pkl"], path, name, None, 25, tmp_path / "f.h5")
        assert counts["imported"] == 3 and counts["of the manifest, without features"] == 1
        dataset = open_features(tmp_path / "f.h5")[name]
        assert dataset.modalities == ("rgb", "flow", "audio") and dataset.done().all() and len(dataset) == 3
        np.testing.assert_array_equal(dataset.array("audio/pooled"), arrays["Audio"][:3])
        assert all(dataset.damaged_rows(m) == {} for m in dataset.modalities)
    assert list(data.find_domains(tmp_path / "f.h5")) == ["source", "target"]


def test_one_file_a_frame_in_the_order_of_their_numbers(tmp_path):
    """TA3N's layout: a folder a clip, img_00001.t7 … of torch.save."""
    for clip in ("a", "b"):
        (tmp_path / "rgb" / clip).mkdir(parents=True)
        for frame in range(1, 13):
            torch.save(torch.full((8,), float(frame)), tmp_path / f"rgb/{clip}/img_{frame}.t7")
    importing.import_features([tmp_path / "rgb"], listed(tmp_path, ["a", "b"]), "d", None, 4, tmp_path / "f.h5")
    assert open_features(tmp_path / "f.h5")["d"].columns["clip"].tolist() == ["a", "b"]
    stored = open_features(tmp_path / "f.h5")["d"].array("rgb/pooled")
    assert stored.shape == (2, 4, 8) and stored[0, :, 0].tolist() == [2, 5, 8, 11]  # TSN's centres of twelve


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".pkl"])
def test_one_file_a_clip_vectors_and_maps(tmp_path, suffix):
    folder = tmp_path / "flow"
    folder.mkdir()
    random = np.random.default_rng(0)
    arrays = {clip: random.random((3, 6, 7, 7)).astype(np.float32) for clip in ("a", "b.c")}
    for clip, array in arrays.items():
        path = folder / f"{clip}{suffix}"
        if suffix == ".npy":
            np.save(path, array)
        elif suffix == ".npz":
            np.savez(path, array)
        elif suffix == ".pt":
            torch.save(torch.from_numpy(array), path)
        else:
            path.write_bytes(pickle.dumps(array))
    importing.import_features([folder], listed(tmp_path, ["a", "b.c"]), "d", None, 3, tmp_path / "f.h5")
    dataset = open_features(tmp_path / "f.h5")["d"]
    np.testing.assert_array_equal(dataset.array("flow/maps")[1], arrays["b.c"].astype(np.float16))
    np.testing.assert_allclose(dataset.array("flow/pooled")[1], arrays["b.c"].mean((2, 3)), rtol=1e-6)
    assert dataset.damaged_rows("flow") == {}


def test_pickles_of_one_domain_and_folders_of_two_modalities_are_taken_together(tmp_path, feature_file):
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        arrays = {"RGB": random.random((2, 25, 8)).astype(np.float32)}
        (tmp_path / f"{split}.pkl").write_bytes(
            pickle.dumps({"features": arrays, "narration_ids": [f"{split}{i}" for i in (0, 1)]})
        )
    path = listed(tmp_path, ["train0", "train1", "val0", "val1"], split=["train", "train", "val", "val"])
    pickles = [tmp_path / "train.pkl", tmp_path / "val.pkl"]
    assert importing.import_features(pickles, path, "target", None, 25, tmp_path / "f.h5")["imported"] == 4
    for modality, width in (("rgb", 4), ("audio", 6)):
        (tmp_path / modality).mkdir()
        for clip in ("a", "b"):
            np.save(tmp_path / modality / f"{clip}.npy", np.ones((3, width), np.float32))
    folders = [tmp_path / "rgb", tmp_path / "audio"]
    importing.import_features(folders, listed(tmp_path, ["a", "b"]), "two", None, 3, tmp_path / "f.h5")
    datasets = open_features(tmp_path / "f.h5")
    assert list(datasets) == ["target", "two"] and datasets["two"].modalities == ("rgb", "audio")
    with pytest.raises(MismatchError, match="holds extracted features; import into another file"):
        importing.import_features(folders, listed(tmp_path, ["a", "b"]), "two", None, 3, feature_file)


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_features_that_cannot_be_imported_are_refused(tmp_path, capsys):
    path, out = listed(tmp_path, ["a", "b"]), tmp_path / "f.h5"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match=r"this pickle asks for builtins.print"):
        importing.import_features([tmp_path / "evil.pkl"], path, "d", None, 3, out)
    assert "ran" not in capsys.readouterr().out
    folder = tmp_path / "x"
    folder.mkdir()
    with pytest.raises(DataError, match="no features in it"):
        importing.import_features([folder], path, "d", "rgb", 3, out)
    np.save(folder / "a.npy", np.zeros((2, 4), np.float32))
    np.save(folder / "b.npy", np.zeros((2, 5), np.float32))
    with pytest.raises(UsageError, match="does not say which modality it holds"):
        importing.import_features([folder], path, "d", None, 3, out)
    with pytest.raises(DataError, match=r"b: rgb has shapes {'pooled': \(3, 5\)}, a has {'pooled': \(3, 4\)}"):
        importing.import_features([folder], path, "d", "rgb", 3, out)
    np.save(folder / "b.npy", np.full((2, 4), np.inf, np.float32))
    with pytest.raises(DataError, match="b: has values that are not finite"):
        importing.import_features([folder], path, "d", "rgb", 3, out)
    assert not out.exists() and not list(tmp_path.glob(".*part*"))  # nothing half done is left
    np.save(folder / "b.npy", np.zeros((2, 4), np.float32))
    importing.import_features([folder], path, "d", "rgb", 3, out)
    with pytest.raises(MismatchError, match="already has a dataset 'd'"):
        importing.import_features([folder], path, "d", "rgb", 3, out)
    before = out.read_bytes()
    for name in ("", "a/b", "..", " "):
        with pytest.raises(UsageError, match=r"--dataset '.*': .*; give a plain name"):
            importing.import_features([folder], path, name, "rgb", 3, out)
    lua = tmp_path / "lua"
    lua.mkdir()
    for clip in ("a", "b"):
        (lua / f"{clip}.t7").write_bytes(b"\x04\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00V 1")  # how torch.save of Lua begins
    with pytest.raises(DataError, match=r"a.t7: not plain tensors of torch.save.*Lua's own \.t7, too\) as \.npy$"):
        importing.import_features([lua], path, "e", "rgb", 3, out)
    with pytest.raises(DataError, match="has none of the clips"):
        importing.import_features([folder], listed(tmp_path, ["z"]), "e", "rgb", 3, out)
    assert out.read_bytes() == before


def test_check_names_imported_clips_that_are_short(tmp_path):
    (tmp_path / "rgb").mkdir()
    for clip, frames in (("a", 3), ("b", 9)):
        np.save(tmp_path / f"rgb/{clip}.npy", np.random.default_rng(frames).random((frames, 4), np.float32))
    importing.import_features([tmp_path / "rgb"], listed(tmp_path, ["a", "b"]), "d", None, 5, tmp_path / "f.h5")
    notes = [finding.message for finding in checking.check(tmp_path / "f.h5", (), ())]
    assert [note for note in notes if "shorter than 5 frames" in note] == ["1 clips are shorter than 5 frames, which repeat: a"]


def test_a_foreign_files_digest_depends_on_its_contents_alone(feature_file, tmp_path):
    path = repacked(feature_file, tmp_path / "r.h5")
    first = data.find_domains(path)["here"].dataset.digest()
    os.utime(path, (1, 1))
    copy = shutil.copy(path, tmp_path / "copy.h5")
    assert data.find_domains(path)["here"].dataset.digest() == data.find_domains(copy)["here"].dataset.digest() == first
    with h5py.File(path, "a") as file:
        file["here/rgb/pooled"][3] += 1
    assert data.find_domains(path)["here"].dataset.digest() != first


# --- other labels, and what may be wrong ----------------------------------------------------------------------------------


def test_a_manifest_replaces_labels_and_splits(feature_file, tmp_path):
    domains = data.find_domains(feature_file)
    rows = [
        {"clip": f"here{i}", "path": "p", "label": "new", "split": "val" if i < 4 else "train", "group": "g"} for i in range(10)
    ]
    manifest.check("test", rows).write(tmp_path / "m.csv")
    said = []
    changed = relabelled(domains, [f"here={tmp_path / 'm.csv'}"], said.append)
    assert len(changed["here"].rows) == 10 and len(changed["here"].split("val")) == 4
    assert set(changed["here"].text_labels(changed["here"].rows, "label")) == {"new"}
    assert said == [f"note: 8 clips of 'here' are not in {tmp_path / 'm.csv'}; left out"]
    assert data.digest(changed["here"]) != data.digest(domains["here"])
    assert data.digest(changed["there"]) == data.digest(domains["there"])
    part = [
        {"clip": f"here{i}", "path": f"here{i}.avi", "label": domains["here"].dataset.columns["label"][i], "split": "train"}
        for i in (0, 1)
    ]
    manifest.check("test", part).write(tmp_path / "part.csv")  # nothing but fewer clips
    assert data.digest(relabelled(domains, [f"here={tmp_path / 'part.csv'}"], print)["here"]) != data.digest(domains["here"])
    with pytest.raises(UsageError, match="no domain mars in the feature file"):
        relabelled(domains, [f"mars={tmp_path / 'm.csv'}"], print)
    with pytest.raises(DataError, match="lists no clip of 'there'"):
        relabelled(domains, [f"there={tmp_path / 'm.csv'}"], print)


def test_a_manifest_needs_no_paths_to_label_or_to_check(feature_file, tmp_path):
    """The file's own paths stay."""
    lines = ["clip,label,split", *(f"here{i},new,train" for i in range(19))]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    domains = data.find_domains(feature_file)
    changed = relabelled(domains, [f"here={tmp_path / 'm.csv'}"], print)["here"]
    assert set(changed.text_labels(changed.rows, "label")) == {"new"}
    assert (changed.dataset.columns["path"] == domains["here"].dataset.columns["path"]).all()
    findings = checking.check(feature_file, (), [f"here={tmp_path / 'm.csv'}"])
    assert [finding.message for finding in findings] == [f"1 clips of {tmp_path / 'm.csv'} are missing: here18"]


def test_check_finds_nothing_in_a_sound_file(feature_file):
    assert checking.check(feature_file, (), ()) == []


def test_check_finds_what_is_wrong(tmp_path):
    path = make_small(tmp_path / "f.h5", channels=4)
    with h5py.File(path, "a") as file:
        pooled = file["here/rgb/pooled"]
        pooled[3, 1, 2] = np.nan
        pooled[5, 2] = 0
        pooled[8] = pooled[7]
        file["there/flow/wide"] = file["there/flow/pooled"][...].astype(np.float64)
        del file["there/flow/pooled"]
        file.move("there/flow/wide", "there/flow/pooled")
        clips = file["there/clips/clip"]
        clips[1] = clips[0]
    rows = [{"clip": f"here{i}", "path": "p", "label": "x", "split": "train"} for i in range(1, 20)]
    manifest.check("test", rows).write(tmp_path / "m.csv")
    findings = {(f.severity, f.domain, f.message) for f in checking.check(path, (), [f"here={tmp_path / 'm.csv'}"])}
    assert findings == {
        ("fault", "here", f"2 clips of {tmp_path / 'm.csv'} are missing: here18, here19"),
        ("note", "here", f"1 clips are not in {tmp_path / 'm.csv'}: here0"),
        ("fault", "here", "rgb/pooled: 1 clips have values that are not finite: here3"),
        ("fault", "here", "rgb/pooled: 1 clips have frames of zeros only: here5"),
        ("note", "here", "rgb/pooled: 1 groups of clips have equal features, such as here7, here8"),
        ("note", "there", "flow/pooled is float64; float16 or float32 is enough"),
        ("fault", "there", "1 clip ids occur twice: there0"),
    }


def test_check_notes_short_clips_and_allows_silence(tmp_path):
    dataset = make_dataset(tmp_path / "f.h5", "d", 0, clips_per_class=3, modalities=("rgb", "audio"))
    from cia_extract.features.writer import RowWriter

    with RowWriter(dataset) as rows:
        rows.write_clip(2, 3, 25.0, np.array([0, 0, 1, 2, 2], np.int32))
        rows.write_row(4, "audio", np.ones((5, 1024, 1, 1), np.float32), present=np.zeros(5, bool))
    (finding,) = checking.check(tmp_path / "f.h5", (), ())
    assert (finding.severity, finding.message) == ("note", "1 clips are shorter than 5 frames, which repeat: d2")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10**11, 5, 8), "different numbers of rows: label 4, split 4, clip 100000000000, rgb/pooled 100000000000"),
        ((4, 10**9, 8), "one clip would take 32.0 GB. Is the order of its sizes right?"),
    ],
)
def test_sizes_that_are_only_declared_cost_neither_time_nor_memory(tmp_path, shape, message):
    """Names for 10¹¹ clips were made before anything was compared."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", shape, "f4", chunks=(1, 5, 8))
        file["y"], file["s"] = np.arange(4), np.array([b"train"] * 4)
    with pytest.raises(DataError) as raised:
        data.find_domains(tmp_path / "x.h5", ["d/rgb/pooled=x", "d/label=y", "d/split=s"])
    assert message in str(raised.value)


def test_a_column_of_a_thousand_million_declared_labels_is_refused_before_it_is_read(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (10**9, 8), "f4", chunks=(1, 8))
        file.create_dataset("y", (10**9,), "i1", chunks=(1000,))
    with pytest.raises(DataError, match="y has 1000000000 values of 1 bytes; too many for a column"):
        data.find_domains(tmp_path / "x.h5", ["d/rgb/pooled=x", "d/label=y", "d/split=y"])
