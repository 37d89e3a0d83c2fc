"""The demo dataset: what its documentation promises, measured on the clips themselves."""

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from cia_extract.common.errors import CiaError
from cia_extract.datasets import demo
from cia_extract.datasets.demo import classes, files
from cia_extract.datasets.demo.backdrop import identity
from cia_extract.datasets.demo.domains import PARAMETERS
from cia_extract.datasets.demo.motions import FAMILIES, perform
from cia_extract.datasets.demo.render import ACTORS, Clip, render, take
from cia_extract.datasets.demo.scene import FPS, stage

REVERSED = [("slam_ball", "snatch_ball"), ("climb_up", "climb_down")]
RECOLOURED = [("lift_crate", "lift_suitcase"), ("chop_wood", "beat_drum")]


def clip(domain: str = "studio", label: str = "beat_drum", index: int = 0, seed: int = 0, split: str = "train") -> Clip:
    return Clip(seed, domain, label, split, index)


def decode(content: bytes) -> np.ndarray:
    """[T, H, W, 3] uint8 RGB."""
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def rendered() -> dict[str, bytes]:
    """One clip of every class and domain."""
    return {c.name: render(c) for c in (clip(d, k) for d in classes.DOMAINS for k in classes.CLASSES)}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files without pictures, for the tests of the file handling."""
    monkeypatch.setattr(files, "render", lambda c: f"{c.own_seed}\n".encode())


def test_same_seed_same_bytes_other_seed_other_bytes(rendered: dict[str, bytes]) -> None:
    first = clip()
    assert render(first) == rendered[first.name]
    assert render(clip(seed=1)) != rendered[first.name]
    assert render(clip(index=16)) != rendered[first.name]  # the same actor, another performance


def test_real_codecs(rendered: dict[str, bytes]) -> None:
    for name, content in rendered.items():
        with av.open(io.BytesIO(content)) as container:
            video, sound = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, sound.codec_context.name) == ("h264", "aac"), name
            assert (video.width, video.height, video.pix_fmt) == (320, 240, "yuv420p")
            assert video.average_rate == FPS and sound.rate == 24_000 and sound.channels == 1
            samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(sound)])
            container.seek(0)
            frames = len(list(container.decode(video)))
        assert 46 <= frames <= 54
        assert len(samples) / 24_000 == pytest.approx(frames / FPS, abs=0.06)
        assert samples.std() > 1e-3


def test_build_with_workers_renders_what_render_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CLASSES", ("lift_crate",))
    seen: list[tuple[int, int]] = []
    rows = demo.build(tmp_path, 1, seed=5, progress=lambda done, total: seen.append((done, total)), workers=2)
    assert seen == [(done, 4) for done in range(5)]
    for row in rows:
        assert set(row) == {"clip", "path", "label", "split", "group", "domain", "seed"}
    row = rows[-1]
    expected = clip(row["domain"], row["label"], 0, 5, row["split"])
    assert (tmp_path / row["path"]).read_bytes() == render(expected)
    assert row["path"] == f"{row['domain']}/{row['label']}/{row['clip']}.mp4" and row["seed"] == str(expected.own_seed)


def test_a_worker_that_is_killed_costs_no_rendered_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CLASSES", ("lift_crate",))

    def kill(done: int, total: int) -> None:
        if done:
            for process in multiprocessing.active_children():
                process.kill()

    with pytest.raises(CiaError, match=r"out of memory\? [1-5] of 6 clips are rendered and stay; the same command goes on"):
        demo.build(tmp_path, 2, seed=5, progress=kill, workers=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}
    assert 1 <= len(before) < 6
    rows = demo.build(tmp_path, 2, seed=5, workers=1)
    assert len(list(tmp_path.rglob("*.mp4"))) == len(rows) == 6
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())


def test_enlarging_keeps_the_rendered_clips(tmp_path: Path, quick: None) -> None:
    small = demo.build(tmp_path, 2, workers=1)
    before = {row["path"]: (tmp_path / row["path"]).stat().st_mtime_ns for row in small}
    large = demo.build(tmp_path, 5, workers=1)
    assert all(row in large for row in small)
    assert all((tmp_path / path).stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert len(large) == 2 * len(classes.CLASSES) * (5 + 2) == len({row["clip"] for row in large})
    assert all((tmp_path / row["path"]).is_file() for row in large)


def test_splits_share_neither_actor_nor_seed(tmp_path: Path, quick: None) -> None:
    rows = demo.build(tmp_path, 20, workers=1)
    assert len({row["seed"] for row in rows}) == len(rows)
    for domain in classes.DOMAINS:
        actors = {s: {r["group"] for r in rows if r["split"] == s and r["domain"] == domain} for s in ("train", "val")}
        assert len(actors["train"]) == 16 and len(actors["val"]) == 8 and not actors["train"] & actors["val"]
    # The groups are what they say: one group is one body in one set of clothes, in every class.
    bodies: dict[str, set[float]] = {row["group"]: set() for row in rows}
    for row in rows:
        if int(row["clip"][-4:]) < 20:
            member = clip(row["domain"], row["label"], int(row["clip"][-4:]), 0, row["split"])
            bodies[row["group"]].add(member.actor_rng().random())
    assert all(len(looks) == 1 for looks in bodies.values())
    assert len(set.union(*bodies.values())) == len(bodies)


@pytest.mark.parametrize(("forward", "backward"), REVERSED)
def test_reversed_pairs_are_the_same_film_backwards(forward: str, backward: str) -> None:
    scene, _ = take(clip("street", forward))
    scene = replace(scene, passers=())  # they walk on in either film
    last = (scene.frames - 1) / FPS
    a, b = (perform(label, np.random.default_rng(3), last, 1.0) for label in (forward, backward))
    assert [e.time for e in b.events] == pytest.approx([last - e.time for e in reversed(a.events)])
    for index in (0, 7, scene.frames - 1):
        t = index / FPS
        one = stage(replace(scene, motion=a), t, identity())
        other = stage(replace(scene, motion=b), last - t, identity())
        assert np.array_equal(one, other)
    # And it is a motion that differs from its reverse: hands go up and down at different speeds, or up only.
    hands = [a.pose(t).hands[0][1] for t in np.linspace(0.0, last, 51).tolist()]
    speed = np.diff(hands)
    assert abs(speed.max() + speed.min()) > 0.3 * np.abs(speed).max()


@pytest.mark.parametrize(("first", "second"), RECOLOURED)
@pytest.mark.parametrize("domain", classes.DOMAINS)
def test_recoloured_pairs_are_one_film_in_grey(first: str, second: str, domain: str) -> None:
    assert FAMILIES[first] == FAMILIES[second]
    scene, _ = take(clip(domain, first))
    paints = PARAMETERS[domain].paints
    assert all(abs(0.299 * r + 0.587 * g + 0.114 * b) < 0.5 for label in (first, second) for r, g, b in paints[label])
    for t in (0.0, 0.5, 1.1):
        one, two = (stage(replace(scene, paints=paints[label]), t, identity()) for label in (first, second))
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(int) for frame in (one, two)]
        assert np.abs(grey[0] - grey[1]).max() <= 3  # rounding, twice at soft edges
        coloured = np.abs(one.astype(int) - two.astype(int)).max(axis=2) > 40
        assert coloured.mean() > 0.004  # a patch of 18 x 18 px or more


def test_domains_differ_in_light_detail_and_motion(rendered: dict[str, bytes]) -> None:
    """Brightness, detail and motion of the frame's left and right margins, which the figure does not enter."""
    figures: dict[str, list[list[float]]] = {domain: [] for domain in classes.DOMAINS}
    for name, content in rendered.items():
        frames = decode(content)
        margins = np.concatenate([frames[:, :, :40], frames[:, :, -40:]], axis=2).astype(float).mean(axis=3)
        still = margins.mean(axis=0)
        change = np.abs(np.diff(margins, axis=0)).mean()
        figures[name.split("-")[0]].append([still.mean(), np.abs(np.diff(still, axis=0)).mean(), change])
    light, detail, motion = (np.array([np.median(np.array(figures[d]), axis=0) for d in classes.DOMAINS])).T
    assert light[0] > 1.2 * light[1]
    assert detail[1] > 2.0 * detail[0]
    assert motion[1] > 3.0 * motion[0]


def test_sound_is_clean_in_one_domain_and_noisy_in_the_other(rendered: dict[str, bytes]) -> None:
    """Level between the events (10th percentile of 20 ms blocks) against that of the loudest block, in dB."""
    floor: dict[str, list[float]] = {domain: [] for domain in classes.DOMAINS}
    for name, content in rendered.items():
        with av.open(io.BytesIO(content)) as container:
            samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        blocks = samples[: len(samples) // 480 * 480].reshape(-1, 480).std(axis=1) + 1e-6
        floor[name.split("-")[0]].append(20 * np.log10(np.percentile(blocks, 10) / blocks.max()))
    assert np.median(floor["studio"]) < -35 < -25 < np.median(floor["street"])


def test_a_folder_of_another_seed_or_version_or_origin_is_refused(tmp_path: Path, quick: None) -> None:
    demo.build(tmp_path, 1, workers=1)
    with pytest.raises(ValueError, match=r"demo\.json: .*seed 0.*seed 1.*another folder"):
        demo.build(tmp_path, 1, seed=1, workers=1)
    (tmp_path / "demo.json").write_text(json.dumps({"dataset": "demo", "version": 0, "seed": 0}))
    with pytest.raises(ValueError, match="version 0"):
        demo.build(tmp_path, 1, workers=1)
    for damaged in ("[" * 60_000, "[]", "{}", "x"):
        (tmp_path / "demo.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"demo\.json: .*an unknown seed.*another folder"):
            demo.build(tmp_path, 1, workers=1)
    (tmp_path / "demo.json").unlink()
    with pytest.raises(ValueError, match=r"demo\.json is missing"):
        demo.build(tmp_path, 1, workers=1)
    with pytest.raises(ValueError, match="at least 1"):
        demo.build(tmp_path / "new", 0)
    with pytest.raises(ValueError, match="seed must lie in"):
        demo.build(tmp_path / "new", 1, seed=-1)
    assert not (tmp_path / "new").exists()


def test_failed_write_leaves_nothing(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError("no space left on device")

    target = tmp_path / clip().path
    target.parent.mkdir(parents=True)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(os, "fsync", full)
        files.write(tmp_path, clip())
    assert list(target.parent.iterdir()) == []


def test_leftovers_of_a_killed_build_are_removed_once_old(tmp_path: Path, quick: None) -> None:
    folder = (tmp_path / clip().path).parent
    demo.build(tmp_path, 1, workers=1)
    old, fresh = folder / ".a.mp4.1.part", folder / ".b.mp4.2.part"
    for leftover in (old, fresh):
        leftover.write_bytes(b"half")
    os.utime(old, (0, 0))
    demo.build(tmp_path, 2, workers=1)
    assert not old.exists() and fresh.exists()  # the fresh one may belong to a build that runs at the same time


KILLED = """
import sys
from pathlib import Path
from cia_extract.datasets import demo

if __name__ == "__main__":
    demo.build(Path(sys.argv[1]), 2, progress=lambda done, total: print(done, flush=True), workers=2)
"""


def test_killed_build_leaves_whole_files_and_no_processes(tmp_path: Path) -> None:
    script, root = tmp_path / "killed.py", tmp_path / "root"
    script.write_text(KILLED)
    process = subprocess.Popen([sys.executable, script, root], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 3:
            break
    process.kill()  # the parent alone; its workers notice within a second
    process.wait()
    process.stdout.close()
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("workers outlived the build by 10 s")
    rendered = sorted(root.rglob("*.mp4"))
    assert 3 <= len(rendered) < 48
    for path in rendered:
        assert len(decode(path.read_bytes())) >= 46


def test_import_is_cheap() -> None:
    code = "import sys, cia_extract.datasets.demo as d; d.CLASSES, d.DOMAINS; print({'av', 'cv2', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_manifest_definition_agrees_with_the_code() -> None:
    stated = tomllib.loads((Path(__file__).parents[3] / "data/manifests/demo.toml").read_text(encoding="utf-8"))
    assert stated["version"] == classes.VERSION
    assert tuple(stated["domains"]) == classes.DOMAINS and tuple(stated["classes"]) == classes.CLASSES
    assert [tuple(pair) for pair in stated["reversed_pairs"]] == REVERSED
    assert [tuple(pair) for pair in stated["recoloured_pairs"]] == RECOLOURED
    assert stated["splits"]["train_actors"] == ACTORS["train"] and stated["splits"]["val_actors"] == ACTORS["val"]
    for size in stated["expected"]:
        clips = files.plan(size["clips_per_class"], 0)
        assert len(clips) == size["total"]
        for split in ("train", "val"):
            assert sum(c.split == split and c.domain == "street" for c in clips) == size[split]
