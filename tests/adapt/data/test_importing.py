"""`cia-adapt import`: which features become which clip's, vectors of small benchmarks, and files that are no features."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from cia_adapt.cli import main
from cia_adapt.data import domains as data
from cia_adapt.data import importing
from cia_extract.common.errors import DataError
from cia_extract.features.reader import open_features

from tests import hostile
from tests.command_line import in_this_process

DOMAINS = ("amazon", "caltech", "dslr", "webcam")


def save(folder, files):
    """{path without suffix: value of all its features} as .npy [5, 8]."""
    for name, value in files.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((5, 8), value, np.float32))
    return folder


def listed(path, rows, header="clip,path,label,split"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def taken(tmp_path, rows, *folders, header="clip,path,label,split", frames=5):
    """{clip: the value that its features came with}."""
    out = tmp_path / "f.h5"
    importing.import_features(folders, listed(tmp_path / "m.csv", rows, header), "d", "rgb", frames, out)
    dataset = open_features(out)["d"]
    return dict(zip(dataset.columns["clip"].tolist(), dataset.array("rgb/pooled")[:, 0, 0].tolist(), strict=True))


JUMP, RUN = "v1,jump/v1.mp4,jump,train", "w1,run/v1.mp4,run,train"


def test_a_clip_gets_the_file_of_its_path_where_two_have_its_name(tmp_path):
    folder = save(tmp_path / "feats", {"rgb/jump/v1": 2, "rgb/run/v1": 1})
    assert taken(tmp_path, [JUMP, RUN], folder) == {"v1": 2, "w1": 1}


@pytest.mark.parametrize(
    ("rows", "files", "values"),
    [
        (["jump/v1,clips/jump/v1.mp4,jump,train"], {"jump/v1": 2, "run/v1": 1}, {"jump/v1": 2}),
        (["a,ucf/jump/v1.avi,jump,train"], {"jump/v1": 2, "run/v1": 1}, {"a": 2}),
        (["a,jump/v1.avi,jump,train"], {"x/jump/v1": 2, "x/run/v1": 1}, {"a": 2}),
        (["a,jump/v1.avi,jump,train", "b,jump/v1.mp4,jump,train"], {"jump/v1.avi": 2, "jump/v1.mp4": 1}, {"a": 2, "b": 1}),
        (["a,jump/v1,jump,train"], {"jump/v1": 2, "run/v1": 1}, {"a": 2}),  # a folder of frames
        (["v1,jump/v1.mp4,jump,train"], {"jump/V1": 2}, {"v1": 2}),
        (["v1,Jump/v1.mp4,jump,train"], {"jump/v1": 2, "run/v1": 1}, {"v1": 2}),
        (["v1,jump/v1.mp4,jump,train"], {"jump/V1": 1, "jump/v1": 2}, {"v1": 2}),
        (
            ["P01_1,P01/P01_01,x,train", "P01_2,P01/P01_01,x,train"],
            {"P01_1": 1, "P01_2": 2, "P01_01": 3},
            {"P01_1": 1, "P01_2": 2},
        ),
        (["b.c,b.c,x,train", "b.d,b.d,x,train"], {"b.c": 1, "b.d": 2}, {"b.c": 1, "b.d": 2}),
        (["v1,other/v1.mp4,jump,train"], {"jump/v1": 2}, {"v1": 2}),
    ],
)
def test_a_clip_gets_the_features_of_its_own_id_or_path(tmp_path, rows, files, values):
    assert taken(tmp_path, rows, save(tmp_path / "feats", files)) == values


@pytest.mark.parametrize(
    ("rows", "files", "words"),
    [
        (["v1,other/v1.mp4,jump,train"], {"jump/v1": 2, "run/v1": 1}, "clip 'v1' is ambiguous: "),
        (["v1,jump/v1.mp4,jump,train"], {"a/jump/v1": 2, "b/jump/v1": 1}, "a/jump/v1 and "),
        (["v1,other/v1.mp4,jump,train"], {"jump/V1": 2, "run/V1": 1}, "clip 'v1' is ambiguous: "),
        (["a,jump/v1.avi,jump,train", "b,jump/v1.mp4,jump,train"], {"jump/v1": 2}, "'a' and 'b' would both have the features "),
    ],
)
def test_features_that_fit_two_clips_are_refused_and_named(tmp_path, rows, files, words):
    save(tmp_path / "feats", files)
    listed(tmp_path / "m.csv", rows)
    arguments = ("feats", "--manifest", "m.csv", "--dataset", "d", "--modality", "rgb", "--out", "f.h5")
    run = in_this_process(main, "import", *arguments, cwd=tmp_path)
    assert run.returncode == 3 and words in run.stderr and len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "f.h5").exists()


def test_two_folders_are_told_apart_by_their_own_names(tmp_path):
    folders = [save(tmp_path / name, {"v1": value}) for name, value in (("jump", 2), ("run", 1))]
    assert taken(tmp_path, [JUMP, RUN], *folders) == {"v1": 2, "w1": 1}
    with pytest.raises(DataError, match="clip 'v1' is ambiguous"):
        taken(tmp_path, ["v1,v1.mp4,jump,train"], *folders)


def test_frames_of_two_folders_of_one_name_are_no_single_clip(tmp_path):
    for part in ("rgb/jump/v1", "RGB/jump/v1"):
        (tmp_path / "feats" / part).mkdir(parents=True)
        for frame in range(2):
            np.save(tmp_path / "feats" / part / f"img_{frame}.npy", np.ones(4, np.float32))
    with pytest.raises(DataError, match="are the same clip, jump/v1; keep one"):
        taken(tmp_path, [JUMP], tmp_path / "feats")


def test_a_frame_in_two_files_is_refused(tmp_path):
    folder = tmp_path / "feats" / "v1"
    folder.mkdir(parents=True)
    np.save(folder / "img_1.npy", np.ones(4, np.float32))
    np.savez(folder / "img_1.npz", np.ones(4, np.float32))
    with pytest.raises(DataError, match=r"img_1\.np. and v1/img_1\.np. are the same clip"):
        taken(tmp_path, [JUMP], tmp_path / "feats")


def test_frames_go_to_the_clip_whose_path_is_their_folder(tmp_path):
    for label, value in (("jump", 2), ("run", 1)):
        folder = tmp_path / "feats" / label / "v1"
        folder.mkdir(parents=True)
        for frame in range(5):
            np.save(folder / f"img_{frame:05d}.npy", np.full(8, value, np.float32))
    assert taken(tmp_path, [JUMP, RUN], tmp_path / "feats") == {"v1": 2, "w1": 1}


# --- vectors: four domains, one frame a clip, ids that are numbers ------------------------------------------------------------


def vectors(dtype=np.float32):
    """{clip id: a vector} of four domains and two classes; files are named by numbers alone."""
    random = np.random.default_rng(0)
    ids = [f"{domain}/{label}/{i:03d}" for domain in DOMAINS for label in ("mug", "bike") for i in range(6)]
    return {clip: random.integers(0, 255, 16).astype(dtype) for clip in ids}


def vector_manifest(path, clips):
    rows = [f"{clip},{clip.split('/')[1]},{'val' if clip.endswith('5') else 'train'},{clip.split('/')[0]}" for clip in clips]
    return listed(path, rows, "clip,label,split,domain")


@pytest.mark.parametrize("form", ["files", "npz", "npz with frames"])
def test_vectors_of_four_domains_are_one_import_without_a_path_column(tmp_path, form):
    clips = vectors()
    vector_manifest(tmp_path / "m.csv", clips)
    if form == "files":
        for clip, vector in clips.items():
            (tmp_path / "rgb" / clip).parent.mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "rgb" / f"{clip}.npy", vector)
    else:
        values = np.stack(list(clips.values()))
        np.savez(tmp_path / "rgb", clip=np.array(list(clips)), rgb=values[:, None] if form == "npz with frames" else values)
    given = "rgb" if form == "files" else "rgb.npz"
    run = in_this_process(main, "import", given, "--manifest", "m.csv", "--dataset", "oc", "--out", "f.h5", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    domains = data.find_domains(tmp_path / "f.h5")
    assert list(domains) == list(DOMAINS) and all(len(domain.rows) == 12 for domain in domains.values())
    dataset = open_features(tmp_path / "f.h5")["oc"]
    assert dataset.frames == 1 and dataset.array("rgb/pooled").shape == (48, 1, 16)  # stored once, not 25 times
    for clip, stored in zip(dataset.columns["clip"].tolist(), dataset.array("rgb/pooled"), strict=True):
        np.testing.assert_array_equal(stored[0], clips[clip])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64, np.float16])
def test_vectors_of_any_number_type_are_taken(tmp_path, dtype):
    clips = vectors(dtype)
    np.savez(tmp_path / "v.npz", clip=np.array(list(clips)), rgb=np.stack(list(clips.values())))
    importing.import_features(
        [tmp_path / "v.npz"], vector_manifest(tmp_path / "m.csv", clips), "d", None, None, tmp_path / "f.h5"
    )
    stored = open_features(tmp_path / "f.h5")["d"].array("rgb/pooled")
    np.testing.assert_array_equal(stored[:, 0], np.stack(list(clips.values())).astype(np.float32))


def test_clips_of_many_frames_keep_25_and_one_among_vectors_is_refused(tmp_path):
    for clip, frames in (("a", 30), ("b", 1)):
        (tmp_path / "rgb").mkdir(exist_ok=True)
        np.save(tmp_path / f"rgb/{clip}.npy", np.arange(frames * 4.0).reshape(frames, 4))
    rows = ["a,x,train", "b,x,train"]
    importing.import_features(
        [tmp_path / "rgb"], listed(tmp_path / "m.csv", rows, "clip,label,split"), "d", None, None, tmp_path / "f.h5"
    )
    assert open_features(tmp_path / "f.h5")["d"].frames == 25
    path = listed(tmp_path / "m.csv", rows[::-1], "clip,label,split")
    with pytest.raises(DataError, match="a: has 30 frames, but the first clip has one; give the number to store with --frames"):
        importing.import_features([tmp_path / "rgb"], path, "e", None, None, tmp_path / "f.h5")
    importing.import_features([tmp_path / "rgb"], path, "e", None, 1, tmp_path / "f.h5")
    assert open_features(tmp_path / "f.h5")["e"].array("rgb/pooled")[:, 0, 0].tolist() == [0, 60]


def test_import_says_what_the_manifest_needs():
    run = in_this_process(main, "import", "--help")
    words = " ".join(run.stdout.replace("│", " ").split())
    assert "clip, label, split; path where two files have one name" in words and "default: 1 where clips have one" in words


# --- text in other encodings ---------------------------------------------------------------------------------------------------


def one_line(run, code, *words):
    assert run.returncode == code, run.stderr
    assert len(run.stderr.splitlines()) == 1 and "unexpected" not in run.stderr and run.stderr[:-1].isprintable(), run.stderr
    assert all(word in run.stderr for word in words), run.stderr


LATIN = "café".encode("latin1")
OLD_PICKLE = b"(dp0\nS'features'\n(dp2\nS'RGB'\n(lp4\n(lp5\n(lp6\nF1.0\naF2.0\naaassS'narration_ids'\n(lp8\nS'caf\\xe9'\nas."
ENCODED = {
    "ids of an .npz as Latin-1 bytes": lambda f: np.savez(f / "x.npz", clip=np.array([LATIN]), rgb=np.ones((1, 2))),
    "ids of a pickle as Latin-1 bytes": lambda f: (f / "x.pkl").write_bytes(
        pickle.dumps({"features": {"RGB": np.ones((1, 1, 2))}, "narration_ids": np.array([LATIN])})
    ),
    "ids of a pickle of Python 2": lambda f: (f / "x.pkl").write_bytes(OLD_PICKLE),
    "a manifest in Latin-1": lambda f: (f / "m.csv").write_bytes(b"clip,label,split\n" + LATIN + b",x,train\n"),
    "a manifest in UTF-16 that does not say so": lambda f: (f / "m.csv").write_bytes("clip,label\na,x\n".encode("utf-16-le")),
}


@pytest.mark.parametrize("kind", ENCODED)
def test_text_of_another_encoding_is_one_line_and_not_guessed(tmp_path, kind):
    listed(tmp_path / "m.csv", ["café,x,train"], "clip,label,split")
    np.savez(tmp_path / "y.npz", clip=np.array(["café"]), rgb=np.ones((1, 2)))
    ENCODED[kind](tmp_path)
    (given,) = [*tmp_path.glob("x.*")] or [tmp_path / "y.npz"]
    run = in_this_process(main, "import", given, "--manifest", "m.csv", "--dataset", "d", "--out", "f.h5", cwd=tmp_path)
    one_line(run, 3, "UTF-8")


@pytest.mark.parametrize("ids", [["café"], np.array(["café"]), np.array(["café".encode()]), ["café".encode()]])
def test_ids_in_utf_8_are_read_as_text_or_bytes(tmp_path, ids):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"features": {"RGB": np.ones((1, 1, 2))}, "narration_ids": ids}))
    path = listed(tmp_path / "m.csv", ["café,x,train"], "clip,label,split")
    importing.import_features([tmp_path / "x.pkl"], path, "d", None, 1, tmp_path / "f.h5")
    assert open_features(tmp_path / "f.h5")["d"].columns["clip"].tolist() == ["café"]


# --- files that are no features -------------------------------------------------------------------------------------------------


def npy(path, shape, descr="<f4", content=b""):
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        file.write(content)


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("rgb.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"descr": "<f4", "fortran_order": False, "shape": (96, 1 << 18)})
        for _ in range(96):
            entry.write(bytes(1 << 20))


def npy_of_a_hole(path):
    """100 MiB that take a few kilobytes on the disk."""
    npy(path, (24, 1 << 20))
    os.truncate(path, 100 << 20)


NO_FEATURES = {
    "an .npy of pickled objects": lambda f: np.save(f / "a.npy", np.array([{}, None], dtype=object)),
    "an .npy of text": lambda f: np.save(f / "a.npy", np.array([["x"]])),
    "an .npy of complex numbers": lambda f: np.save(f / "a.npy", np.ones((2, 2), complex)),
    "an .npy of truth values": lambda f: np.save(f / "a.npy", np.ones((2, 2), bool)),
    "an .npy of records": lambda f: np.save(f / "a.npy", np.zeros(2, [("x", "f4")])),
    "an .npy of dates": lambda f: np.save(f / "a.npy", np.zeros((2, 2), "M8[s]")),
    "an .npy of one number": lambda f: np.save(f / "a.npy", np.float32(1)),
    "an .npy of five axes": lambda f: np.save(f / "a.npy", np.ones((1, 2, 1, 1, 1))),
    "an .npy without frames": lambda f: np.save(f / "a.npy", np.ones((0, 4))),
    "an .npy of 10¹³ values by its header": lambda f: npy(f / "a.npy", (10**6, 10**7)),
    "an .npy whose values end too early": lambda f: npy(f / "a.npy", (2, 4), content=bytes(31)),
    "an .npy with a header that is code": lambda f: (f / "a.npy").write_bytes(b"\x93NUMPY\1\0\x10\0__import__('os')"),
    "an .npy with a header of 4 GB": lambda f: (f / "a.npy").write_bytes(b"\x93NUMPY\2\0\xff\xff\xff\xff{"),
    "an .npy of values that are not finite": lambda f: np.save(f / "a.npy", np.full((2, 4), np.nan)),
    "an .npy of values beyond float32": lambda f: np.save(f / "a.npy", np.full((2, 4), 1e300)),
    "an .npy that is almost all hole": lambda f: npy_of_a_hole(f / "a.npy"),
    "an empty .npy": lambda f: (f / "a.npy").write_bytes(b""),
    "an empty .npz": lambda f: np.savez(f / "a.npz"),
    "an .npz that unpacks to far more": lambda f: bomb(f / "a.npz"),
    "an empty .pt": lambda f: (f / "a.pt").write_bytes(b""),
    "a .pt of nested dictionaries": lambda f: torch.save({"rgb": {"x": torch.ones(2)}}, f / "a.pt"),
    "a .pt of a list": lambda f: torch.save([torch.ones(2)], f / "a.pt"),
    "a .pt of 64 GB by its strides": lambda f: torch.save(torch.zeros(1).expand(1 << 17, 1 << 17), f / "a.pt"),
    "a .pt of a sparse tensor": lambda f: torch.save(torch.eye(3).to_sparse(), f / "a.pt"),
    "a .pt of a meta tensor": lambda f: torch.save(torch.ones(3, device="meta"), f / "a.pt"),
    "a .pkl of text": lambda f: (f / "a.pkl").write_bytes(pickle.dumps(["a", "b"])),
    "a .pkl of ragged lists": lambda f: (f / "a.pkl").write_bytes(pickle.dumps([[1.0], [1.0, 2.0]])),
    "a .pkl of bytes as addresses": lambda f: (f / "a.pkl").write_bytes(hostile.array_pickle()),
    "a .pkl that doubles": lambda f: (f / "a.pkl").write_bytes(b"\x80\x04K\x01" + b"2\x86" * 60 + b"."),
    "an array of a name with a line break": lambda f: np.savez(f / "a.npz", **{"x\ny": np.ones(2), "z": np.ones(2)}),
    "a folder that is named as a file": lambda f: (f / "a.npy").mkdir(),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", NO_FEATURES)
def test_files_without_features_are_one_line_from_import_and_compare(tmp_path, kind):
    from cia_extract.cli import main as extract

    (tmp_path / "rgb").mkdir()
    NO_FEATURES[kind](tmp_path / "rgb")
    save(tmp_path / "good" / "rgb", {"a": 1})
    listed(tmp_path / "m.csv", ["a,x,train"], "clip,label,split")
    arguments = ("--manifest", "m.csv", "--dataset", "d", "--out", "f.h5")
    one_line(in_this_process(main, "import", "rgb", *arguments, cwd=tmp_path), 3)
    assert not (tmp_path / "f.h5").exists() and not [*tmp_path.glob(".*part*")]
    run = in_this_process(extract, "compare", "good/rgb", "rgb", cwd=tmp_path)
    if "finite" not in kind and "beyond" not in kind:  # compare measures such values, and says so
        one_line(run, 3)
    assert run.returncode in (0, 3) and "unexpected" not in run.stderr


FILES = {
    "text": b"hello",
    "nothing": b"",
    "an attack": hostile.array_pickle(),
    "a list": pickle.dumps([1]),
    "features that are text": pickle.dumps({"features": {"RGB": "x"}, "narration_ids": ["a"]}),
    "features of another name": pickle.dumps({"features": {"Depth": np.ones((1, 1, 2))}, "narration_ids": ["a"]}),
    "features of no dictionary": pickle.dumps({"features": [1], "narration_ids": ["a"]}),
    "more rows than ids": pickle.dumps({"features": {"RGB": np.ones((2, 1, 2))}, "narration_ids": ["a"]}),
    "ids that are lists": pickle.dumps({"features": {"RGB": np.ones((1, 1, 2))}, "narration_ids": [["a"]]}),
    "ids that are a number": pickle.dumps({"features": {"RGB": np.ones((1, 1, 2))}, "narration_ids": 3}),
    "the same id twice": pickle.dumps({"features": {"RGB": np.ones((2, 1, 2))}, "narration_ids": ["a", "a"]}),
    "an id of an escape sequence": pickle.dumps({"features": {"RGB": np.ones((1, 1, 2))}, "narration_ids": ["\x1b[31m"]}),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("suffix", [".pkl", ".npz", ".npy", ".mat", ""])
def test_a_file_that_is_not_epics_is_one_line(tmp_path, kind, suffix):
    (tmp_path / f"x{suffix}").write_bytes(FILES[kind])
    listed(tmp_path / "m.csv", ["a,x,train"], "clip,label,split")
    arguments = ("--manifest", "m.csv", "--dataset", "d", "--out", "f.h5")
    run = in_this_process(main, "import", f"x{suffix}", *arguments, cwd=tmp_path)
    assert run.returncode == 3 and len(run.stderr.splitlines()) == 1 and "unexpected" not in run.stderr, run.stderr


# --- damaged files -------------------------------------------------------------------------------------------------------------

FUZZ = """
import json, random, sys
from pathlib import Path
import numpy as np
from cia_extract.features import collection as collected
from tests import hostile
chance, count, folder = random.Random(3), int(sys.argv[1]), Path(sys.argv[2])
sound = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
np.seterr(all="ignore")
before = hostile.peak_mb()

def cases():
    for _ in range(count):
        name = chance.choice(list(sound))
        damaged = hostile.mutated(sound[name], chance.choice(list(sound.values())), chance)
        yield Path(name).suffix.encode() + b" " + damaged
        yield b".pkl " + hostile.improvised(chance)

def read(case):
    suffix, _, content = case.partition(b" ")
    for old in (folder / "case").glob("*") if (folder / "case").exists() else ():
        old.unlink()
    (folder / "case").mkdir(exist_ok=True)
    path = folder / "case" / f"a_rgb{suffix.decode()}"
    path.write_bytes(content)
    try:
        ids, arrays = collected.rows_of(path)
        assert all(isinstance(name, str) for name in ids) and all(len(array) == len(ids) for array in arrays.values())
    except collected.DataError:
        pass
    for by_modality in collected.from_folder(folder / "case").clips.values():
        for one in by_modality.values():
            assert one().pooled.dtype == np.float64

counts = hostile.attempts(read, cases())
print(json.dumps(counts | {"mb": hostile.peak_mb() - before}))
"""


@pytest.fixture
def sound_files(tmp_path) -> Path:
    array = np.random.default_rng(0).random((5, 8), np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", rgb=array)
    np.savez_compressed(tmp_path / "c.npz", clip=np.array(["a", "b", "c", "d", "e"]), rgb=array)
    torch.save(torch.from_numpy(array), tmp_path / "d.pt")
    torch.save(torch.from_numpy(array), tmp_path / "e.t7", _use_new_zipfile_serialization=False)
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(array, 2))
    epic = {"features": {"RGB": array[:, None]}, "narration_ids": ["a", "b", "c", "d", "e"]}
    (tmp_path / "g.pkl").write_bytes(pickle.dumps(epic, 4))
    return tmp_path


def fuzz(count, folder):
    counts = json.loads(hostile.in_its_own_process(FUZZ, count, folder, memory_gb=4, seconds=3000))
    assert counts["read"] + counts["refused"] == 2 * count
    assert counts["read"] > count / 50 and counts["refused"] > count / 2
    assert counts["mb"] < 300


def test_damaged_feature_files_give_features_or_one_line(sound_files):
    fuzz(1500, sound_files)


@pytest.mark.slow
def test_many_damaged_feature_files_give_features_or_one_line(sound_files):
    fuzz(60_000, sound_files)


@pytest.mark.parametrize("name", ["x.npz", "x.pkl"])
def test_a_file_of_many_clips_that_is_almost_all_hole_is_refused_for_that(tmp_path, name):
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, 100 << 20)
    path = listed(tmp_path / "m.csv", ["a,x,train"], "clip,label,split")
    with pytest.raises(DataError, match=rf"{name}: has 104,857,600 bytes and takes 0 on the disk; it is damaged"):
        importing.import_features([tmp_path / name], path, "d", None, 1, tmp_path / "f.h5")


def test_an_import_without_enough_memory_is_one_line(tmp_path, monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr(importing, "centre_frames", exhausted)
    save(tmp_path / "rgb", {"a": 1})
    listed(tmp_path / "m.csv", ["a,x,train"], "clip,label,split")
    arguments = ("--manifest", "m.csv", "--dataset", "d", "--frames", "3", "--out", "f.h5")
    one_line(in_this_process(main, "import", "rgb", *arguments, cwd=tmp_path), 2, "import: not enough memory; store fewer frames")
    assert not (tmp_path / "f.h5").exists() and not [*tmp_path.glob(".*part*")]


def test_a_file_whose_name_holds_a_line_break_is_one_line(tmp_path):
    (tmp_path / "rgb").mkdir()
    (tmp_path / "rgb" / "a\n\x1b[31m.npy").write_text("no array")
    listed(tmp_path / "m.csv", ["a,x,train"], "clip,label,split")
    run = in_this_process(main, "import", "rgb", "--manifest", "m.csv", "--dataset", "d", "--out", "f.h5", cwd=tmp_path)
    one_line(run, 3)
    (tmp_path / "rgb" / "a\n\x1b[31m.npy").unlink()
    save(tmp_path / "rgb", {"x/a\n": 1, "y/a\n": 1})
    one_line(in_this_process(main, "import", "rgb", "--manifest", "m.csv", "--dataset", "d", "--out", "f.h5", cwd=tmp_path), 3)


@pytest.mark.parametrize("out", [".", "no/f.h5", "x" * 300, "text.h5", "m.csv/f.h5", "/dev/full"], ids=str)
def test_an_output_that_cannot_be_written_is_one_line(tmp_path, out):
    save(tmp_path / "rgb", {"a": 1})
    (tmp_path / "text.h5").write_text("no features")
    listed(tmp_path / "m.csv", ["a,x,train"], "clip,label,split")
    run = in_this_process(main, "import", "rgb", "--manifest", "m.csv", "--dataset", "d", "--out", out, cwd=tmp_path)
    assert run.returncode in (2, 3) and "unexpected" not in run.stderr and len(run.stderr.splitlines()) == 1, run.stderr
    assert (tmp_path / "text.h5").read_text() == "no features" and not [*tmp_path.glob(".*part*")]


@pytest.mark.parametrize("column", [".", "a\0b", "..", "crc32c"])
def test_a_manifest_column_that_hdf5_does_not_take_is_one_line(tmp_path, column):
    save(tmp_path / "rgb", {"a": 1})
    listed(tmp_path / "m.csv", ["a,x,train,1"], f"clip,label,split,{column}")
    run = in_this_process(main, "import", "rgb", "--manifest", "m.csv", "--dataset", "d", "--out", "f.h5", cwd=tmp_path)
    assert run.returncode in (0, 2, 3) and "unexpected" not in run.stderr and len(run.stderr.splitlines()) == 1, run.stderr


@pytest.mark.parametrize("name", ["none", "x" * 300, "a/" * 3000, "m.csv/x"], ids=["none", "long", "deep", "in a file"])
def test_a_path_that_cannot_exist_is_one_line(tmp_path, name):
    from cia_extract.cli import main as extract

    listed(tmp_path / "m.csv", ["a,x,train"], "clip,label,split")
    save(tmp_path / "rgb", {"a": 1})
    arguments = ("--manifest", "m.csv", "--dataset", "d", "--out", "f.h5")
    for main_, words in (
        (main, ("import", name, *arguments)),
        (extract, ("weights", "identify", f"{name}.pt")),
        (extract, ("compare", "rgb", name)),
    ):
        run = in_this_process(main_, *words, cwd=tmp_path)
        assert run.returncode in (2, 3) and "unexpected" not in run.stderr and len(run.stderr.splitlines()) == 1, run.stderr
