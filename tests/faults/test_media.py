"""Damaged, odd and hostile clips through a real extraction.

`pytest tests/faults/test_media.py -m '' --mutants 1000 --media-seed 7 -s` reads a thousand, and prints what it took.
None ends the run. Each is in the ledger with a reason, within a bound of time and memory; the clips between them are as ever.
"""

import csv
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cia_extract import features
from cia_extract.common.outcomes import OUTCOMES

from tests.conftest import SHARED
from tests.faults import measured, mutation, odd_clips
from tests.faults.commands import Launcher, Started
from tests.faults.jobs import FAST

EVERY = 40  # healthy clips lie between the others: a hundred that fail in a row stop a run, and must
WITH_SOUND = ["audio" if word == "flow" else word for word in FAST]
TIMEOUT_S = 30
MOST_MB = 2500  # of a worker, which has 200 before its first clip
REASONS = {"partial decode", "decode error", "timeout", "missing"}


@pytest.fixture
def seed(request) -> int:
    """What the damage follows from. Printed where a test fails."""
    given = request.config.getoption("--media-seed")
    given = random.randrange(2**32) if given is None else given
    print(f"--media-seed {given}")
    return given


def extracted(
    launcher: Launcher, root: Path, names: list[str], how: Sequence[object] = FAST
) -> tuple[Started, features.DatasetFeatures, list[dict]]:
    """(the command, its dataset, what was measured of each clip) of an extraction of these clips, some of which fail."""
    manifest, out, log = root / "m.csv", root / "out" / "f.h5", root / "out" / "measured.jsonl"
    out.parent.mkdir()
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([("clip", "path", "label", "split"), *((name, name, "wave", "train") for name in names)])
    words = ["--dataset", "d", "--manifest", manifest, "--root", root, "--out", out, *how, "--timeout", TIMEOUT_S]
    hook = measured.HOOK.format(root=str(Path(__file__).parents[2]))
    started = launcher.start("cia-extract", *words, before=hook, environment={measured.LOG: str(log)})
    started.wait(within_s=7200)
    assert started.wait() in (0, 3), started.told[-3000:]
    assert "Traceback" not in started.told and "unexpected" not in started.told, started.told[-3000:]
    return started, features.open_features(out)["d"], [json.loads(line) for line in log.read_text().splitlines()]


def check_ledger(dataset: features.DatasetFeatures, log: list[dict]) -> Counter:
    """Every row is done, or failed for a reason; returns the counts of outcomes."""
    status, outcome, message = dataset.array("status"), dataset.array("outcome"), dataset.array("message")
    counts: Counter = Counter()
    for row, clip in enumerate(dataset.columns["clip"].tolist()):
        for column, modality in enumerate(dataset.modalities):
            name, text = OUTCOMES[outcome[row, column]], message[row, column].decode()
            counts[name] += 1
            assert status[row, column] in (features.DONE, 2), f"{clip} is neither done nor failed"
            if status[row, column] == features.DONE:
                assert name in {"ok", "short", "damaged", "no audio"}, (clip, name)
                assert np.isfinite(dataset.array(f"{modality}/pooled")[row]).all(), clip
            else:
                assert name in REASONS and text and text.isprintable(), (clip, name, text)
    slowest, largest = max(log, key=lambda one: one["seconds"]), max(log, key=lambda one: one["peak_mb"])
    print(f"{len(dataset)} clips; {dict(counts)}")
    for what, one in (("slowest", slowest), ("largest", largest)):
        print(f"{what}: {Path(one['path']).name}, {one['seconds']:.1f} s, {one['peak_mb']:.0f} MB")
    assert largest["peak_mb"] < MOST_MB, largest
    return counts


@pytest.mark.parametrize("how_many", ["a few", pytest.param("--mutants", marks=pytest.mark.slow)])
def test_mutated_clips_end_no_run_and_are_in_the_ledger(launcher, tmp_path, seed, request, how_many):
    count = request.config.getoption("--mutants") if how_many == "--mutants" else 36
    healthy = mutation.healthy(tmp_path, SHARED / "clips" if SHARED.is_dir() else None)
    names = [path.name for path in mutation.mutants(healthy, tmp_path, count, seed)]
    for at in range(0, count, EVERY):
        os.link(healthy[0], tmp_path / f"healthy{at}.mp4")
        names.insert(at, f"healthy{at}.mp4")
    names += [path.name for path in healthy]
    _, dataset, log = extracted(launcher, tmp_path, names)
    counts = check_ledger(dataset, log)
    clips = dataset.columns["clip"].tolist()
    sound = [row for row, clip in enumerate(clips) if clip.startswith(("healthy", "made", "real"))]
    assert (dataset.array("outcome")[sound] == OUTCOMES.index("ok")).all()
    same = [row for row in sound if clips[row].startswith("healthy")] + [clips.index(healthy[0].name)]
    assert len(np.unique(dataset.array("rgb/pooled")[same], axis=0)) == 1, "clips beside damaged ones are as they are alone"
    assert counts["decode error"] and counts["ok"] > 2 * len(sound)
    assert counts["partial decode"] or count < 100  # a clip in twenty


def test_odd_clips_are_used_and_traps_are_refused_for_their_reason(launcher, tmp_path):
    """Bombs, pipes, devices, playlists that lead to other files: nothing waits, nothing else is opened."""
    odd_clips.make(tmp_path)
    _, dataset, log = extracted(launcher, tmp_path, [*odd_clips.SOUND, *odd_clips.TRAPS])
    counts = check_ledger(dataset, log)
    messages = dict(zip(dataset.columns["clip"].tolist(), dataset.array("message")[:, 0].tolist(), strict=True))
    for row, clip in enumerate(odd_clips.SOUND):
        assert dataset.array("status")[row].tolist() == [features.DONE] * 2, (clip, messages[clip])
    for clip, (_, words) in odd_clips.TRAPS.items():
        assert words in messages[clip].decode(), (clip, messages[clip])
    assert counts["ok"] == 2 * len(odd_clips.SOUND) and not counts["timeout"]


@pytest.mark.parametrize("how_many", ["a few", pytest.param("--mutants", marks=pytest.mark.slow)])
def test_mutated_sound_ends_no_run_and_is_in_the_ledger(launcher, tmp_path, seed, request, how_many):
    count = request.config.getoption("--mutants") if how_many == "--mutants" else 24
    healthy = mutation.sounding(tmp_path)
    names = []
    for path in mutation.mutants(healthy, tmp_path, count, seed):
        names.append(path.with_suffix(".mkv").name if path.suffix == ".wav" else path.name)
        if path.suffix == ".wav":
            os.link(tmp_path / "made.mkv", tmp_path / names[-1])
    for at in range(0, count, EVERY):
        os.link(healthy[0], tmp_path / f"healthy{at}.mp4")
        names.insert(at, f"healthy{at}.mp4")
    for path in healthy[:-1]:
        names.append(f"alone-{path.name}")
        os.link(path, tmp_path / names[-1])  # whose sound is not taken from made.wav
    _, dataset, log = extracted(launcher, tmp_path, names, WITH_SOUND)
    counts = check_ledger(dataset, log)
    sound = [row for row, clip in enumerate(names) if clip.startswith(("healthy", "alone"))]
    assert (dataset.array("outcome")[sound] == OUTCOMES.index("ok")).all()
    same = [row for row in sound if names[row].startswith("healthy")] + [names.index("alone-made.mp4")]
    assert len(np.unique(dataset.array("audio/pooled")[same], axis=0)) == 1, "clips beside damaged ones are as they are alone"
    assert counts["decode error"] and counts["ok"] > 2 * len(sound)


def test_odd_sound_is_used_or_refused_for_its_reason(launcher, tmp_path):
    """Headers of .wav files that say what no sound has: the rates, channels and sizes decide no memory."""
    _, dataset, log = extracted(launcher, tmp_path, odd_clips.make_sounds(tmp_path), WITH_SOUND)
    check_ledger(dataset, log)
    for row, (name, (_, outcome, words)) in enumerate(odd_clips.WAVS.items()):
        rgb, audio = (OUTCOMES[code] for code in dataset.array("outcome")[row])
        assert (rgb, audio) == ("ok", outcome) and words in dataset.array("message")[row, 1].decode(), name
