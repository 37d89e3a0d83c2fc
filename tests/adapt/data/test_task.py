import itertools
import os

import h5py
import numpy as np
import pytest
import torch
from cia_adapt import config
from cia_adapt.data import domains as data_domains
from cia_adapt.data import sampling
from cia_adapt.data import task as data_task
from cia_adapt.data.foreign import open_any
from cia_adapt.data.readers import Stores, gather
from cia_extract.common.errors import DataError, UsageError

from tests.conftest import make_dataset

CPU = torch.device("cpu")


def make_task(source: data_domains.Domain, target: data_domains.Domain, modalities, maps: bool, tier=None, **setup):
    return data_task.make_task(source, target, modalities, maps, config.load("demo", "cia", setup).setup, Stores(CPU, tier))


@pytest.mark.parametrize("tier", ["map", "ram"])
def test_batches_equal_what_hdf5_reads(feature_file, tier):
    domains = data_domains.find_domains(feature_file)
    assert list(domains) == ["here", "there"]
    task, _ = make_task(domains["here"], domains["there"], ("rgb", "flow"), maps=True, tier=tier)
    assert task.source_train.clips.readers["rgb"].tier == tier
    positions, frames = np.array([3, 0, 5]), np.array([[0, 2], [4, 4], [1, 3]])
    batch = task.source_train.clips.batch(positions, frames)
    rows = task.source_train.clips.rows[positions]
    with h5py.File(feature_file) as file:
        for modality in ("rgb", "flow"):
            stored = file[f"here/{modality}/maps"]
            expected = np.stack([[stored[row, f] for f in fs] for row, fs in zip(rows, frames, strict=True)])
            np.testing.assert_array_equal(batch[modality].numpy(), expected)
            assert batch[modality].dtype == torch.float16


def test_a_method_without_maps_reads_vectors(feature_file):
    domains = data_domains.find_domains(feature_file)
    task, _ = make_task(domains["here"], domains["there"], ("flow",), maps=False)
    batch = task.target_val.batch(np.array([1]), np.array([[2, 3]]))
    assert list(batch) == ["flow"] and batch["flow"].shape == (1, 2, 1024)
    with h5py.File(feature_file) as file:
        np.testing.assert_array_equal(batch["flow"][0], file["there/flow/pooled"][task.target_val.rows[1], 2:4])


def reachable(thing: object, seen: set[int]) -> list[object]:
    """Everything that can be reached from an object by attributes, items and dictionary values."""
    if id(thing) in seen or isinstance(thing, type | str | bytes | int | float | np.dtype):
        return [thing]
    seen.add(id(thing))
    inner = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    inner += list(thing.values()) if isinstance(thing, dict) else list(thing) if isinstance(thing, list | tuple) else []
    return [thing, *(x for part in inner for x in reachable(part, seen))]


def test_a_task_holds_no_target_label(feature_file):
    """Nothing that training can reach from the target's clips names a class or numbers them."""
    domains = data_domains.find_domains(feature_file)
    task, sealed = make_task(domains["here"], domains["there"], ("rgb",), maps=False)
    for clips in (task.target_train, task.target_val):
        assert "label" not in clips.dataset.columns
        for thing in reachable(clips, set()):
            if isinstance(thing, np.ndarray) and thing.dtype.kind == "U":
                assert not {"jump", "run", "wave"} & set(thing.tolist())
    assert sealed.openings == {}
    sealed.open("a test")
    assert sealed.openings == {"a test": 1}


def test_splits_and_classes(feature_file):
    domains = data_domains.find_domains(feature_file)
    task, sealed = make_task(domains["here"], domains["there"], ("rgb",), maps=False)
    assert task.classes == {"label": ("jump", "run", "wave")} and task.sizes.channels == {"rgb": 1024} and task.sizes.grids == {}
    assert (len(task.source_train.clips), len(task.source_val.clips), len(task.target_train), len(task.target_val)) == (
        12,
        6,
        12,
        6,
    )
    assert np.bincount(task.source_train.labels[:, 0]).tolist() == [4, 4, 4]
    assert sealed.open("test")[:, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_pairs_are_all_directions_or_the_named_one(feature_file):
    domains = data_domains.find_domains(feature_file)
    assert data_domains.pairs(domains, (), None) == [(("here",), "there"), (("there",), "here")]
    assert data_domains.pairs(domains, ("there",), None) == [(("there",), "here")]
    three = dict.fromkeys(("D1", "D2", "D3"), domains["here"])
    assert len(data_domains.pairs(three, (), None)) == 6
    with pytest.raises(UsageError, match="--source nowhere: not in the file, which holds here, there"):
        data_domains.pairs(domains, ("nowhere",), None)
    with pytest.raises(UsageError, match="is the source as well"):
        data_domains.pairs(domains, ("here",), "here")
    with pytest.raises(UsageError, match="needs two domains"):
        data_domains.pairs({"here": domains["here"]}, (), None)


def test_unfinished_clips_are_left_out(tmp_path):
    dataset = make_dataset(tmp_path / "f.h5", "d", seed=0, clips_per_class=3)
    from cia_extract.common.outcomes import Outcome
    from cia_extract.features.writer import RowWriter

    with RowWriter(dataset) as rows:
        rows.fail(4, "flow", Outcome("timeout"))
    assert len(data_domains.find_domains(tmp_path / "f.h5")["d"].rows) == 8


def test_domains_that_do_not_fit_are_refused(feature_file, tmp_path):
    domains = data_domains.find_domains(feature_file)
    with pytest.raises(DataError, match="'here' has no audio"):
        make_task(domains["here"], domains["there"], ("rgb", "audio"), maps=False)
    make_dataset(tmp_path / "g.h5", "four", seed=3, frames=4)
    four = data_domains.find_domains(tmp_path / "g.h5")["four"]
    with pytest.raises(DataError, match="5 frames a clip and four 4"):
        make_task(domains["here"], four, ("rgb",), maps=False)
    with pytest.raises(DataError, match="no finished clip in split 'test'"):
        domains["here"].split("test")


def test_labels_that_the_source_lacks(feature_file):
    """They are unknown, count as wrong and are never an obstacle (EPIC-100's source val has classes that its train lacks)."""
    domains = data_domains.find_domains(feature_file)
    domains["there"].dataset.columns["label"][[2, 5]] = "swim", ""
    _, sealed = make_task(domains["here"], domains["there"], ("rgb",), maps=False)
    assert sealed.open("test")[:, 0].tolist() == [-1, -1, 1, 1, 2, 2]
    task, _ = make_task(domains["there"], domains["here"], ("rgb",), maps=False)
    assert task.source_val.labels[:, 0].tolist() == [-1, -1, 1, 1, 2, 2]


def test_centres_are_tsns(feature_file):
    assert sampling.centre_frames(25, 5).tolist() == [2, 7, 12, 17, 22]  # 3, 8, 13, 18, 23 counted from one
    assert sampling.centre_frames(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert sampling.centre_frames(3, 5).tolist() == [0, 0, 1, 2, 2]


def test_random_shift_stays_in_its_segment():
    random = np.random.default_rng(0)
    frames = np.stack([sampling.shifted_frames(25, 5, 8, random) for _ in range(200)])
    assert (frames // 5 == np.arange(5)).all()
    assert set(np.unique(frames)) == set(range(25))
    assert (sampling.shifted_frames(7, 5, 3, random) == sampling.centre_frames(7, 5)).all()


def test_target_only_trains_on_the_targets_clips_and_records_it(feature_file):
    domains = data_domains.find_domains(feature_file)
    setup = config.load("demo", "target-only", {}).setup
    task, sealed = data_task.make_task(domains["here"], domains["there"], ("rgb",), False, setup, Stores(CPU), "target")
    assert task.source_train.clips.names[0].startswith("there") and task.source_val.clips.names[0].startswith("here")
    assert any(purpose.startswith("TRAINING") for purpose in sealed.openings)


def test_a_task_of_several_labels_has_a_head_for_each(feature_file):
    domains = data_domains.find_domains(feature_file)
    for domain in domains.values():
        domain.dataset.columns["noun"] = np.array(["cup" if i % 2 else "pan" for i in range(18)])
    task, sealed = make_task(domains["here"], domains["there"], ("rgb",), False, labels="label,noun")
    assert task.classes == {"label": ("jump", "run", "wave"), "noun": ("cup", "pan")} and task.sizes.heads == (3, 2)
    assert task.source_train.labels.shape == (12, 2) and sealed.open("test").shape == (6, 2)
    assert task.source_train.labels[:4, 1].tolist() == [1, 0, 0, 1]  # rows 0, 1, 3, 4
    with pytest.raises(DataError, match="has no column 'colour'; see --labels"):
        make_task(domains["here"], domains["there"], ("rgb",), False, labels="colour")


def test_another_split_is_evaluated(feature_file):
    domains = data_domains.find_domains(feature_file)
    for domain in domains.values():
        split = domain.dataset.columns["split"]
        split[split == "val"] = "test"
    with pytest.raises(DataError, match=r"no finished clip in split 'val' .*--val-split"):
        make_task(domains["here"], domains["there"], ("rgb",), False)
    task, _ = make_task(domains["here"], domains["there"], ("rgb",), False, val_split="test")
    assert len(task.target_val) == 6


def test_two_domains_of_one_dataset_are_loaded_together_and_once(tmp_path):
    dataset = make_dataset(tmp_path / "f.h5", "both", 0)
    half = np.arange(18) % 2
    stores = Stores(CPU, "ram")
    first, second = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
    stores.reader(dataset, "rgb/maps", first)
    reader = stores.reader(dataset, "rgb/maps", second)
    assert stores.reader(dataset, "rgb/maps", first) is reader and stores.reader(dataset, "rgb/maps", second) is reader
    frames = np.array([[1], [4]])
    for rows in (first[:2], second[3:5]):
        batch = gather([(reader, rows, frames)]).numpy()
        np.testing.assert_array_equal(batch, dataset.array("rgb/maps")[rows[:, None], frames])


@pytest.mark.parametrize("array", ["rgb/maps", "rgb/pooled"])
@pytest.mark.parametrize("tiers", list(itertools.product(("map", "ram", "hdf5"), repeat=2)))
def test_clips_of_two_domains_are_gathered_from_any_two_tiers(tmp_path, array, tiers):
    """Where one domain fits into memory and the other does not; the hdf5 tier is that of foreign files."""
    datasets = [make_dataset(tmp_path / "f.h5", name, seed) for seed, name in enumerate(("here", "there"))]
    places = {array: array, "label": "clips/label", "split": "clips/split"}
    foreign = open_any(
        tmp_path / "f.h5", [f"{d.name}/{name}={d.name}/{place}" for d in datasets for name, place in places.items()]
    )
    rows, frames = np.array([5, 0, 17]), np.array([[0, 4], [2, 2], [1, 3]])
    parts = []
    for dataset, tier in zip(datasets, tiers, strict=True):
        read_from = foreign[dataset.name] if tier == "hdf5" else dataset
        parts.append((Stores(CPU, "map" if tier == "hdf5" else tier).reader(read_from, array, np.arange(18)), rows, frames))
    assert [reader.tier for reader, _, _ in parts] == list(tiers)
    for reader, _, _ in parts:
        reader.announce(rows, frames)  # changes nothing
    expected = np.concatenate([dataset.array(array)[rows[:, None], frames] for dataset in datasets])
    np.testing.assert_array_equal(gather(parts).numpy(), expected)


def test_announcing_names_the_bytes_of_the_next_batch(tmp_path, monkeypatch):
    dataset = make_dataset(tmp_path / "f.h5", "d", 0)
    make_dataset(tmp_path / "f.h5", "e", 1)
    asked: list[bytes] = []

    def ask(file: int, offset: int, size: int, advice: int) -> None:
        asked.append(os.pread(file, size, offset))

    monkeypatch.setattr(os, "posix_fadvise", ask, raising=False)  # macOS has none
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    rows, frames = np.array([5, 0]), np.array([[0, 4], [2, 3]])
    for array in ("rgb/maps", "flow/pooled"):
        asked.clear()
        Stores(CPU, "map").reader(dataset, array, np.arange(18)).announce(rows, frames)
        assert asked == [
            dataset.array(array)[row, frame].tobytes() for row, of_row in zip(rows, frames, strict=True) for frame in of_row
        ]
    asked.clear()
    Stores(CPU, "ram").reader(dataset, "rgb/maps", np.arange(18)).announce(rows, frames)
    monkeypatch.delattr(os, "posix_fadvise")
    Stores(CPU, "map").reader(dataset, "rgb/maps", np.arange(18)).announce(rows, frames)
    assert not asked


def test_features_that_do_not_fit_into_memory_are_mapped(monkeypatch):
    from cia_adapt.data import readers

    monkeypatch.setattr(readers, "free_memory", lambda: 10_000_000_000)
    assert readers.fastest_tier(1_000_000_000, CPU, slow=False) == "ram"
    assert (
        readers.fastest_tier(9_000_000_000, CPU, slow=False) == "map"
        and readers.fastest_tier(9_000_000_000, CPU, slow=True) == "hdf5"
    )
