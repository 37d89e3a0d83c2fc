"""`kill -9` at random moments, as often as asked for: `pytest tests/faults/test_kills.py -m '' --kills 100 --kill-seed 7`.

After each kill every row or epoch that was finished is still there, bit for bit; after the last the same command ends with what an
uninterrupted one writes. Nothing is left that has to be removed by hand.
"""

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from cia_extract import features
from cia_extract.common.errors import DataError

from tests.faults.commands import Launcher, Started
from tests.faults.conftest import CLIPS

# The cheapest networks: what is tested is what is left of rows, not what is in them.
FAST = ["--backbone", "tbn", "--modality", "rgb", "--modality", "flow", "--flow", "dis", "--weights", "random", "--frames", 1]
FAST += ["--workers", 1, "--deterministic"]


def extraction(root: Path, out: Path) -> list[object]:
    return ["cia-extract", "--dataset", "d", "--root", root, "--out", out, *FAST]


@pytest.fixture(scope="module")
def whole(root, launcher, tmp_path_factory) -> tuple[features.DatasetFeatures, float]:
    """What one process writes that nobody interrupts, and the seconds that it takes."""
    out = tmp_path_factory.mktemp("whole") / "f.h5"
    began = time.monotonic()
    once = launcher.run(*extraction(root, out))
    assert once.wait() == 0, once.told
    return features.open_features(out)["d"], time.monotonic() - began


@pytest.fixture
def chance(request) -> random.Random:
    """The moments of the kills. The seed is printed where a test fails."""
    seed = request.config.getoption("--kill-seed")
    seed = random.randrange(2**32) if seed is None else seed
    print(f"--kill-seed {seed}")
    return random.Random(seed)


@pytest.fixture
def kills(request) -> int:
    """How many kills a test is to do: its share of the four, or `few` in the quick suite."""
    return request.config.getoption("--kills") // 4 if request.node.get_closest_marker("slow") else FEW


FEW = 3
SEVERAL = [pytest.param("a few"), pytest.param("--kills", marks=pytest.mark.slow)]


def finished_rows(out: Path, whole: features.DatasetFeatures) -> set[tuple[int, int]]:
    """(row, modality) that are done, each compared with the uninterrupted file's; none before the file is laid out."""
    try:
        dataset = features.open_features(out)["d"]
    except DataError as error:  # killed before the dataset was in the file
        assert not out.exists() or "run the same cia-extract command again" in str(error), error
        return set()
    assert not dataset.damaged_rows("rgb") and not dataset.damaged_rows("flow")
    done = {(int(row), int(m)) for row, m in np.argwhere(dataset.array("status") == features.DONE)}
    for row, m in done:
        for name in ("maps", "pooled"):
            path = f"{dataset.modalities[m]}/{name}"
            np.testing.assert_array_equal(dataset.array(path)[row], whole.array(path)[row], err_msg=f"{path} row {row}")
    return done


def assert_same(out: Path, whole: features.DatasetFeatures) -> None:
    """Every array of the file equals the uninterrupted one's, and nothing lies beside it."""
    dataset = features.open_features(out)["d"]
    assert dataset.provenance == whole.provenance
    for name in whole.regions:
        np.testing.assert_array_equal(dataset.array(name), whole.array(name), err_msg=name)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("how_many", SEVERAL)
@pytest.mark.parametrize("writers", [1, 2])
def test_extraction_killed_at_random_moments_loses_no_row_and_ends_with_the_same_arrays(
    root, whole, launcher, tmp_path, chance, kills, writers, how_many
):
    """One process, then two that fill one file, of which one or both are killed and started again."""
    (reference, seconds), killed, files = whole, 0, 0
    while killed < kills:
        out = tmp_path / str(files) / "f.h5"
        out.parent.mkdir()
        files += 1
        done: set[tuple[int, int]] = set()
        while True:
            started = [launcher.start(*extraction(root, out)) for _ in range(writers)]
            if killed < kills:
                killed += _killed(started, chance.uniform(0, 1.1 * seconds), chance)
            codes = [one.wait() for one in started]
            assert set(codes) <= {0, -signal.SIGKILL}, [one.told for one in started]
            now = finished_rows(out, reference)
            assert now >= done, f"lost: {done - now}"
            done = now
            if codes == [0] * writers or (0 in codes and len(done) == 2 * CLIPS):
                break
        assert_same(out, reference)


def _killed(started: list[Started], after_s: float, chance: random.Random) -> int:
    """Kill one of the commands, or each with even chance, after a while; returns how many were still running."""
    time.sleep(after_s)
    victims = started if chance.random() < 0.5 else [chance.choice(started)]
    return sum(one.running() and one.kill() for one in victims)


@pytest.mark.slow
def test_ray_whose_driver_actors_and_workers_are_killed_loses_no_row(root, whole, launcher, tmp_path, chance, kills):
    """Any of its processes, at random; the command goes on by itself unless it was the driver, which is then started again."""
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    (reference, seconds), killed, files = whole, 0, 0
    while killed < kills:
        out = tmp_path / str(files) / "f.h5"
        out.parent.mkdir()
        files += 1
        done: set[tuple[int, int]] = set()
        for _ in range(20):
            driver = launcher.start(*extraction(root, out), "--ray", "local")
            while driver.running():
                time.sleep(chance.uniform(0, 4))
                actors = _actors(driver.pid)
                victim = chance.choice([*actors, *_children(actors), driver.pid])
                if killed < kills and (actors or chance.random() < 0.2):
                    killed += _killed_process(victim)
                now = finished_rows(out, reference)
                assert now >= done, f"lost: {done - now}"
                done = now
            if driver.wait() == 0:
                break
            # Killed as the driver; or an actor died three times over the same rows, which is said in one line.
            assert driver.wait() == -signal.SIGKILL or "died 3 times" in driver.told, driver.told
        assert_same(out, reference)


def _killed_process(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _processes() -> dict[int, tuple[int, bytes]]:
    """{process: (its parent, its command line)} of this machine."""
    listed = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            listed[int(folder.name)] = parent, (folder / "cmdline").read_bytes()
        except OSError:
            continue
    return listed


def _descends(pid: int, ancestor: int, processes: dict[int, tuple[int, bytes]]) -> bool:
    while pid in processes and pid != ancestor:
        pid = processes[pid][0]
    return pid == ancestor


def _actors(driver: int) -> list[int]:
    """Ray's actors of this driver's cluster."""
    processes = _processes()
    return [pid for pid, (_, line) in processes.items() if line.startswith(b"ray::Actor") and _descends(pid, driver, processes)]


def _children(parents: list[int]) -> list[int]:
    return [pid for pid, (parent, _) in _processes().items() if parent in parents]
