"""Every command of the README and the pages, run in the order of its page, over data that are quick.

What a command costs is cut (`VALUES`, `ADDED`), what it does is not. Official downloads and a network cannot be had here: they
are missing as they are at first at a newcomer's, and the command must say so in one line (`REFUSED`). `make test` runs the quick
pages, `make test-all` the others.
"""

import itertools
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import h5py
import numpy as np
import pytest
import torch
from cia_adapt.cli import main as adapt
from cia_extract.cli import main as extract
from cia_extract.networks import weights
from cia_extract.networks.weights import cache, http_download
from PIL import Image

from tests.command_line import in_this_process
from tests.conftest import make_dataset
from tests.extract.clips.test_video import encode
from tests.extract.weight_files import save_tbn, to_torch
from tests.test_project import OURS, ROOT, commands

# Lines that are not run here, and who runs or reads them.
ELSEWHERE = {
    r"make |source ": "CI runs make test",
    r"python docs/": "test_documents.py compares what these scripts write",
    r"python -m (build|pip) |uv ": "make test-wheel builds the wheel and installs it",
    r"docker ": "no Docker runs here; test_project.py reads the Dockerfile",
    r"torchrun ": "run below, in processes of its own",
}
# What a command costs, cut: values in the place of the page's, and flags beside them.
VALUES = {"--seeds": "1", "--trials": "1", "--jobs": "1", "--nnodes": "1", "--nproc-per-node": "2"}
SMALL = "--short-side 64 --width 64 --crop 64 --flow dis --workers 1"
ADDED = {
    r"cia-adapt (--features|sweep |search )(?!.*--dry-run)": "--epochs 2 --batch 6",
    r"cia-extract --dataset (indoor|outdoor|new|demo)": "--frames 1 --flow dis --engine eager",
    r"cia-extract --dataset demo": "--clips-per-class 1 --dry-run",
    r"(torchrun .*)?cia-adapt --clips": f"--epochs 1 --batch 4 --segments 4 {SMALL}",
    r"cia-adapt --clips e100": "--root .",
    r"cia-extract --dataset e100 .*=runs/": "--manifest e100.csv --root . --frames 2 --flow dis --engine eager",
}
# Names of downloads that stand for small clips of ours: NAME=FILE, as the page says.
CLIPS = {name: f"{name}={name}.csv" for name in ("demo", "e55", "e100")}
# Commands that end with another code than 0, and what they say: what they need is not to be had here.
REFUSED = {
    r"cia-extract (manifest )?--dataset (ucf|hmdb|e55|e100)(?!.*=runs/)": (2, r"no such folder; for \w+, get .*https?://"),
    r"cia-extract weights get (rgb|flow)_imagenet": (2, r"cannot be downloaded.*--from FILE"),
    r"cia-extract compare .*--again": (3, "does not record its weights"),  # a file of random features, without clips
    r"cia-extract merge": (3, "part1.h5: no such file"),
}
# Splits of EPIC-100 whose labels are not published (data/manifests/e100.toml): the target cannot be a source.
LABEL_FREE = (("source", "test"), ("target", "train"), ("target", "test"))
SPACE = "[setup]\nlr = { low = 1e-4, high = 1e-2, log = true }\n"
SLOW = {"README", "own-clips", "training", "end-to-end", "large-jobs", "ucf-hmdb", "epic-100", "weights", "recipes"}


def clips() -> None:
    """clips/indoor and clips/outdoor: two classes of four tiny clips each."""
    for domain in ("indoor", "outdoor"):
        for label in ("run", "wave"):
            Path(f"clips/{domain}/{label}").mkdir(parents=True)
            for i in range(4):
                encode(Path(f"clips/{domain}/{label}/{domain}_{label}{i}.mp4"), 12)


def clips_of_a_user() -> None:
    """Those of the domains, and clips/new with two clips without labels."""
    clips()
    Path("clips/new").mkdir()
    for name in ("a", "b"):
        encode(Path(f"clips/new/{name}.mp4"), 12)
    Path("clips/new/manifest.csv").write_text("clip,path,label,split\na,a.mp4,,test\nb,b.mp4,,test\n")


def small(
    path: str,
    *domains: str,
    held_out: tuple[str, ...] = ("val",),
    labels: tuple[str, ...] = ("label",),
    label_free: tuple[tuple[str, str], ...] = (),
) -> None:
    """A foreign file of small maps and vectors, on which everything trains in no time. The words are classes of EPIC too.

    `label_free`: (domain, split) of clips whose labels are empty.
    """
    random = np.random.default_rng(0)
    split = ["train"] * 8 + [name for name in held_out for _ in range(4)]
    with h5py.File(path, "w") as file:
        for domain in domains:
            for label in labels:
                words = ("tap", "plate") if label == "noun" else ("take", "put")
                column = ["" if (domain, name) in label_free else words[i % 2] for i, name in enumerate(split)]
                file[f"{domain}/clips/{label}"] = np.array(column, dtype="S5")
            file[f"{domain}/clips/clip"] = np.array([f"{domain}{i}" for i in range(len(split))], dtype="S")
            file[f"{domain}/clips/split"] = np.array(split, dtype="S")
            for modality in ("rgb", "flow"):
                maps = random.random((len(split), 5, 16, 7, 7), dtype=np.float32)
                file[f"{domain}/{modality}/maps"], file[f"{domain}/{modality}/pooled"] = maps, maps.mean((3, 4))


def runs(folder: str) -> None:
    """Of two methods over a file of their own."""
    small("trained.h5", "hmdb", "ucf")
    for method in ("source-only", "concat"):
        words = f"--features trained.h5 --method {method} --setup demo --epochs 1 --batch 6 --runs {folder}"
        assert in_this_process(adapt, *words.split()).returncode == 0


def collections() -> None:
    """feats.h5 and other.h5 as cia-extract makes them, and the features of somebody else."""
    make_dataset(Path("feats.h5"), "ucf", seed=1, clips_per_class=2)
    shutil.copy("feats.h5", "other.h5")
    Path("other_features/rgb").mkdir(parents=True)
    for i in range(6):
        np.save(f"other_features/rgb/ucf{i}.npy", np.random.default_rng(i).random((5, 1024), dtype=np.float32))


def e100() -> None:
    """Features and frames of clips with verbs and nouns, and the challenge's list of those that are tested."""
    small("feats.h5", "source", "target", held_out=("val", "test"), labels=("label", "noun"), label_free=LABEL_FREE)
    footage("e100")
    Path("UDA_annotations").mkdir()
    listed = Path("UDA_annotations/EPIC_100_uda_target_test_timestamps.csv")
    listed.write_text("narration_id\n" + "".join(f"target{i}\n" for i in range(12, 16)))


def checkpoints() -> None:
    """Files of the published names and layouts, with random values."""
    for modality in ("rgb", "flow"):
        torch.save(to_torch(weights.load("i3d", modality, "random", print).tensors, "piergiaj"), f"{modality}_imagenet.pt")
    save_tbn(Path("TBN-epic-kitchens-55.pth"))


def foreign() -> None:
    """theirs.h5 with names of its own, a folder of features and EPIC's pickles, each with its manifest."""
    with h5py.File("theirs.h5", "w") as file:
        for domain in ("ucf", "hmdb"):
            file[f"{domain}/x"] = np.random.default_rng(0).random((12, 5, 16), dtype=np.float32)
            file[f"{domain}/y"] = np.array(["run", "wave"] * 6, dtype="S")
            file[f"{domain}/s"] = np.array(["train"] * 8 + ["val"] * 4, dtype="S")
        file["path/in/file"], file["path/of/labels"], file["path/of/splits"] = file["ucf/x"], file["ucf/y"], file["ucf/s"]
    rows = [f"clip{i},{'run' if i % 2 else 'wave'},{'val' if i > 7 else 'train'}" for i in range(12)]
    for manifest in ("clips.csv", "others.csv", "target.csv"):
        Path(manifest).write_text("\n".join(["clip,label,split", *rows]) + "\n")
    for modality in ("rgb", "flow"):
        Path(f"features/{modality}").mkdir(parents=True)
        for i in range(12):
            np.save(f"features/{modality}/clip{i}.npy", np.random.default_rng(i).random((30, 64), dtype=np.float32))
    for name, numbers in (("target_train.pkl", range(8)), ("target_val.pkl", range(8, 12))):
        arrays = {modality: np.ones((len(numbers), 25, 1024), np.float32) for modality in ("RGB", "Flow", "Audio")}
        Path(name).write_bytes(pickle.dumps({"features": arrays, "narration_ids": [f"clip{i}" for i in numbers]}))


DOMAINS = {"demo": ("studio", "street"), "e55": ("D1", "D2"), "e100": ("source", "target"), "a": ("a",), "b": ("b",)}


def footage(*names: str) -> None:
    """Clips of frames in the place of the demo, of EPIC's and of the user's own, with EPIC's classes; TBN's weights, random."""
    roots = {"e55": "data/EPIC-KITCHENS", "a": "clips", "b": "clips"}
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (72, 72, 3), dtype=np.uint8))
    for name in names:
        lines = ["clip,path,label,noun,split,domain"]
        for domain, i in itertools.product(DOMAINS[name], range(8 if name == "e100" else 6)):
            clip = Path(roots.get(name, ".")) / f"{domain}{i}"
            clip.mkdir(parents=True)
            for number in range(8):
                picture.rotate(number).save(clip / f"frame_{number:04d}.png")
            split = "train" if i < 4 else "test" if name == "e55" or i > 5 else "val"
            verb, noun = ("", "") if (domain, split) in LABEL_FREE else (("take", "put")[i % 2], ("tap", "plate")[i % 2])
            lines.append(f"{clip.name},{clip.name},{verb},{noun},{split},{domain}")
        Path(f"{name}.csv").write_text("\n".join(lines) + "\n")
    save_tbn(Path("TBN-epic-kitchens-55.pth"))


def readme() -> None:
    """The clips, what the official ones would have given, and the method of the page."""
    clips()
    small("uh.h5", "hmdb", "ucf")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    Path("my-method.toml").write_text(re.search(r"```toml\n(# my-method.*?)```", text, re.DOTALL)[1])


PREPARED = {
    "README.md": readme,
    "adding.md": lambda: None,
    "end-to-end.md": lambda: footage(*DOMAINS),
    "epic-100.md": e100,
    "epic-55.md": lambda: small("feats.h5", "D1", "D2", held_out=("test",)),
    "feature-file.md": lambda: small("mine.h5", "indoor", "outdoor"),
    "flow.md": lambda: None,
    "install.md": lambda: None,
    "large-jobs.md": lambda: small("feats.h5", "hmdb", "ucf"),
    "own-clips.md": clips_of_a_user,
    "own-features.md": foreign,
    "protocol.md": lambda: runs("runs"),
    "quick-start.md": lambda: runs("demo/runs"),
    "recipes.md": lambda: (collections(), checkpoints()),
    "training.md": lambda: (
        small("feats.h5", "hmdb", "ucf"),
        small("e55.h5", "D1", "D2", "D3", held_out=("test",)),
        Path("my-space.toml").write_text(SPACE),
    ),
    "ucf-hmdb.md": lambda: small("feats.h5", "hmdb", "ucf"),
    "weights.md": checkpoints,
}
PAGES = [pytest.param(name, marks=pytest.mark.slow) if Path(name).stem in SLOW else name for name in PREPARED]


def cheaper(line: str) -> list[str]:
    """The words of a command, at a cost that a test can bear."""
    words = shlex.split(line)
    words = [VALUES.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    words = [CLIPS.get(word, word) if before == "--clips" else word for before, word in zip(["", *words], words, strict=False)]
    words = [word.replace("~/", f"{Path.home()}/", 1) for word in words]
    return [*words, *(word for pattern, added in ADDED.items() if re.match(pattern, line) for word in added.split())]


def with_torchrun(words: list[str]) -> CompletedProcess[str]:
    """In processes that `torchrun` starts, on any free port."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run([*start, *words], capture_output=True, text=True, env=os.environ | {"PATH": path})


def no_network(*_: object, **__: object) -> None:
    raise ConnectionError("no network")


def test_every_page_with_commands_is_prepared():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert {page.name for page in pages if commands(page)} == PREPARED.keys()
    for page in pages:
        for line in commands(page):
            assert OURS.match(line) or "--help" in line or any(re.match(pattern, line) for pattern in ELSEWHERE), line


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_run_in_its_order(name, tmp_path, monkeypatch, kinetics):
    default = cache.cached()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / default.name).symlink_to(default)
    monkeypatch.setenv("CIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(http_download.urllib.request, "urlopen", no_network)
    monkeypatch.setattr(http_download, "PAUSES_S", (0.0,))
    monkeypatch.chdir(tmp_path)
    PREPARED[name]()
    for line in commands(ROOT / name if name == "README.md" else ROOT / "docs" / name):
        if line.startswith("torchrun "):
            done = with_torchrun(cheaper(line)[1:])
        elif OURS.match(line):
            program, *words = cheaper(line)
            done = in_this_process({"cia-extract": extract, "cia-adapt": adapt}[program], *words)
        else:
            continue
        code, said = next((expected for pattern, expected in REFUSED.items() if re.match(pattern, line)), (0, ""))
        assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"
        assert re.search(said, done.stderr), f"{line}\n{done.stderr}"
