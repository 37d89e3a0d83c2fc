"""`kill -9` at random moments, as often as asked for: `pytest tests/faults/test_kills.py -m '' --kills 100 --kill-seed 7`.

After each kill each row or epoch that was finished is there, bit for bit; after the last the same command ends with what
one writes that nobody interrupted. Nothing is left that has to be removed by hand.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from cia_adapt.runs import files, folder, state

from tests.command_line import gone
from tests.faults.commands import Started
from tests.faults.jobs import EVERY_EPOCH, RUN, assert_same, assert_same_run, extraction, finished_rows, training


@pytest.fixture
def kills(request) -> int:
    """How many kills a test is to do: its share of the four, or `FEW` in the quick suite."""
    return request.config.getoption("--kills") // 4 if request.node.get_closest_marker("slow") else FEW


FEW = 2
SEVERAL = [pytest.param("a few"), pytest.param("--kills", marks=pytest.mark.slow)]


@pytest.mark.parametrize(
    ("writers", "how_many"),
    [(2, "a few"), *(pytest.param(writers, "--kills", marks=pytest.mark.slow) for writers in (1, 2))],
)
def test_extraction_killed_at_random_moments_loses_no_row_and_ends_with_the_same_arrays(
    root, whole, launcher, tmp_path, chance, kills, writers, how_many
):
    """Two processes that fill one file, of which one or both are killed and started again; the slow half with one, too."""
    (reference, seconds), killed, count = whole, 0, 0
    while killed < kills:
        out = tmp_path / str(count) / "f.h5"
        out.parent.mkdir()
        count += 1
        done: set[tuple[int, int]] = set()
        while True:
            started = [launcher.start(*extraction(root, out)) for _ in range(writers)]
            if killed < kills:
                killed += _killed(started, chance.uniform(0, 0.9 * seconds), chance)
            codes = [one.wait() for one in started]
            assert set(codes) <= {0, -signal.SIGKILL}, [one.told for one in started]
            now = finished_rows(out, reference)
            assert now >= done, f"lost: {done - now}"
            done = now
            if codes == [0] * writers:  # one that was killed may have left its journal for the next to clear
                break
        assert_same(out, reference)


def _killed(started: list[Started], after_s: float, chance: random.Random) -> int:
    """Kill one of the commands, or each with even chance, after a while; returns how many were still running."""
    time.sleep(after_s)
    victims = started if chance.random() < 0.5 else [chance.choice(started)]
    return sum(one.running() and one.kill() for one in victims)


@pytest.mark.slow
def test_ray_whose_driver_actors_and_workers_are_killed_loses_no_row(root, whole, launcher, tmp_path, chance, kills):
    """Any of its processes, at random; the command goes on by itself unless it was the driver, which is then started again.

    A decoding worker that is killed with a clip in hand costs that clip, which is told, and done again by `--retry-failed`.
    """
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    reference, killed, count = whole[0], 0, 0
    while killed < kills:
        out = tmp_path / str(count) / "f.h5"
        out.parent.mkdir()
        count += 1
        done: set[tuple[int, int]] = set()
        retry: list[str] = []
        for _ in range(20):
            driver = launcher.start(*extraction(root, out), "--ray", "local", *retry)
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
            # Killed as the driver; or an actor died three times over the same rows, or a clip was lost: said in one line.
            if driver.wait() == 3 and "crashed the worker process (exit -9)" in driver.told:
                retry = ["--retry-failed"]
            else:
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
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            listed[int(process.name)] = parent, (process / "cmdline").read_bytes()
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


@pytest.mark.parametrize("how_many", SEVERAL)
def test_training_killed_at_random_moments_loses_no_epoch_and_ends_with_the_same_numbers(
    small_file, trained, launcher, tmp_path, chance, kills, how_many
):
    history = files.read_metrics(trained / "8" / RUN)
    killed = folders = 0
    while killed < kills:
        runs = tmp_path / str(folders)
        folders, epoch = folders + 1, 0
        while True:
            started = launcher.start(*training(small_file, runs, 8), before=EVERY_EPOCH)
            if killed < kills:
                place = folder.unfinished_folder(runs / RUN)
                started.until(lambda place=place: (place / "config.json").exists() or (place / "lock").exists())
                killed += _killed([started], chance.uniform(0, 3), chance)
            if started.wait() == 0:
                break
            assert started.wait() == -signal.SIGKILL, started.told
            if (place / "state.safetensors").exists():
                kept = state.load(place / "state.safetensors")[1]["history"]
                assert kept == history[: len(kept)] and len(kept) >= epoch
                epoch = len(kept)
        assert_same_run(runs, trained / "8")


# Where a finished run is put in place of an older one: a process dies before each of these steps, and after it.
STEPS = """
import os, pathlib, shutil, signal
left = {step}
def dies(real):
    def step(*arguments, **options):
        global left
        if ".part" not in str(arguments) and ".old" not in str(arguments):
            return real(*arguments, **options)
        left -= 1
        if left == 0: os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        left -= 1
        if left == 0: os.kill(os.getpid(), signal.SIGKILL)
        return result
    return step
for owner, name in ((pathlib.Path, "rename"), (pathlib.Path, "replace"), (pathlib.Path, "mkdir"), (shutil, "rmtree")):
    setattr(owner, name, dies(getattr(owner, name)))
"""


@pytest.mark.parametrize("steps", [(20, 22), pytest.param(range(1, 60), marks=pytest.mark.slow)])
def test_a_finished_run_that_gets_more_epochs_is_there_whatever_step_its_process_dies_at(
    small_file, trained, launcher, tmp_path, steps
):
    """Neither the run before nor the new one is lost, and what the dead process wrote is removed by the next."""
    for step in steps:
        runs = tmp_path / str(step)
        shutil.copytree(trained / "1", runs)
        code = launcher.run(*training(small_file, runs, 2), before=STEPS.format(step=step)).wait()
        again = launcher.run(*training(small_file, runs, 2))
        assert again.wait() == 0, (step, again.told)
        assert_same_run(runs, trained / "2")
        assert ": 1/2" not in again.told, "the first epoch was trained again"
        if code == 0:
            assert step > 22
            break
        assert code == -signal.SIGKILL


def test_the_workers_of_a_killed_extraction_and_of_a_killed_sweep_end_by_themselves(root, small_file, launcher, tmp_path):
    """kill -9 gives the parent no chance to stop them; they would compute on for hours."""
    extracts = launcher.start(*extraction(root, tmp_path / "f.h5"))
    assert extracts.until(lambda: _children([extracts.pid]))
    assert extracts.kill(), extracts.told
    words = ["cia-adapt", "sweep", "--features", small_file, "--setup", "demo", "--method", "concat", "--epochs", 2, "--batch", 6]
    sweeps = launcher.start(*words, "--seeds", 200, "--jobs", 2, "--runs", tmp_path / "runs")
    assert sweeps.until(lambda: list(tmp_path.glob("runs/**/done")))
    assert sweeps.kill(), sweeps.told
    assert gone(extracts.pid, within_s=30) and gone(sweeps.pid, within_s=30)
