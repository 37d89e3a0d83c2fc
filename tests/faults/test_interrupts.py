"""Ctrl-C at any time, once and twice; SIGTERM as schedulers send it, to the command alone or to its whole group."""

import itertools
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cia_adapt.runs import files, folder, state

from tests.command_line import gone
from tests.faults.commands import Launcher, Started
from tests.faults.jobs import EVERY_EPOCH, RUN, assert_same, assert_same_run, extraction, finished_rows, training

LAST_LINES = {
    signal.SIGINT: "{program}: interrupted; what is finished is kept{then}",
    signal.SIGTERM: "{program}: terminated (SIGTERM); what is finished is kept{then}",
    signal.SIGHUP: "{program}: terminated (SIGHUP); what is finished is kept{then}",
}


def told_once(told: str, program: str, number: signal.Signals, then: str = "") -> None:
    """The last line says what ended the command; no line of it is a traceback."""
    assert told.rstrip().splitlines()[-1] == LAST_LINES[number].format(program=program, then=then), told
    assert "Traceback" not in told and "Exception ignored" not in told, told


@pytest.mark.parametrize(("number", "everyone", "times"), [
    (signal.SIGINT, True, 2), pytest.param(signal.SIGTERM, False, 1, marks=pytest.mark.slow),
    pytest.param(signal.SIGINT, True, 1, marks=pytest.mark.slow), pytest.param(signal.SIGTERM, True, 2, marks=pytest.mark.slow),
])  # fmt: skip
def test_extraction_stops_at_once_keeps_its_rows_and_leaves_no_process(
    root, whole, launcher, tmp_path, number, everyone, times
):  # fmt: skip
    out = tmp_path / "f.h5"
    started = launcher.start(*extraction(root, out))
    assert started.until(lambda: finished_rows(out, whole[0]))
    began = time.monotonic()
    for _ in range(times):
        started.send(number, everyone)
        time.sleep(0.1)
    assert started.wait(60) == 130, started.told
    assert time.monotonic() - began < 30
    told_once(started.told, "cia-extract", number, ", the same command continues")
    assert gone(started.pid, within_s=30), "a worker outlives its parent"
    done = finished_rows(out, whole[0])
    assert done
    again = launcher.run(*extraction(root, out))
    assert again.wait() == 0, again.told
    assert_same(out, whole[0])


# Before anything is done, and in the midst of what takes longest.
MOMENTS = [0.0, 0.05, 0.2, 0.5, 1.0, 2.0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("times", [1, 2])
def test_at_any_moment_both_commands_end_in_one_line(root, small_file, launcher, tmp_path, number, times):
    commands = {
        "cia-extract": lambda i: extraction(root, tmp_path / f"{i}.h5"),
        "cia-adapt": lambda i: training(small_file, tmp_path / str(i), 300),
    }
    for program, words in commands.items():
        for i, moment in enumerate(MOMENTS):
            started = launcher.start(*words(i))
            started.until(lambda s=started: _catches(s.pid, number))
            time.sleep(moment)
            for _ in range(times):
                started.send(number)
            code, told = started.wait(60), started.told
            if code != 0:  # it may have ended before
                assert code == 130 and "Traceback" not in told, (program, moment, told)
                assert LAST_LINES[number].format(program=program, then="") in told, (program, moment, told)


SCRIPT = "import re, sys; from {module}.cli import main; sys.exit(main())"  # as the console scripts have it


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "moment", [0.03] + [pytest.param(m, marks=pytest.mark.slow) for m in (0.0, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0)]
)
def test_while_a_command_still_imports_a_signal_is_one_line(root, small_file, tmp_path, number, moment):
    """In fresh interpreters, from the moment that signals are caught."""
    for program, *words in (extraction(root, tmp_path / "f.h5"), training(small_file, tmp_path, 300)):
        command = [sys.executable, "-c", SCRIPT.format(module=str(program).replace("-", "_")), *map(str, words)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_not_ignored) as started:
            while not _catches(started.pid, signal.SIGHUP):  # the last that is caught
                assert started.poll() is None
                time.sleep(0.002)
            time.sleep(moment)
            started.send_signal(number)
            told = started.communicate(timeout=60)[1]
        assert started.returncode == 130, (program, told)
        told_once(told, str(program), number, ", the same command continues" if program == "cia-extract" else "")


def _not_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # under `make test &` a shell lets its children ignore it


@pytest.mark.parametrize("module", ["cia_extract", "cia_adapt"])
def test_signals_are_caught_before_anything_of_weight_is_imported(module):
    code = f"import sys; from {module}.cli import main; print(sorted({{'typer', 'rich', 'numpy', 'torch'}} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for this signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("number", "times"),
    [
        (signal.SIGTERM, 1),
        *(pytest.param(number, 1, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGHUP)),
        *(pytest.param(number, 2, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_training_keeps_its_last_epoch_and_goes_on_to_the_same_numbers(small_file, trained, launcher, tmp_path, number, times):
    started = launcher.start(*training(small_file, tmp_path, 8))
    assert started.until(lambda: ": 3/8" in started.told)
    for _ in range(times):
        started.send(number)
    assert started.wait(60) == 130, started.told
    assert "kept up to epoch" in started.told
    told_once(started.told, "cia-adapt", number)
    kept = state.load(folder.unfinished_folder(tmp_path / RUN) / "state.safetensors")[1]["history"]
    assert 3 <= len(kept) < 8 and kept == files.read_metrics(trained / "8" / RUN)[: len(kept)]
    again = launcher.run(*training(small_file, tmp_path, 8))
    assert again.wait() == 0, again.told
    assert_same_run(tmp_path, trained / "8")


@pytest.mark.parametrize("pause_s", [0.0, pytest.param(0.05, marks=pytest.mark.slow)])
def test_a_second_ctrl_c_may_end_training_before_it_saves_and_what_was_saved_stays(
    small_file, trained, launcher, tmp_path, pause_s
):  # fmt: skip
    started = launcher.start(*training(small_file, tmp_path, 8), before=EVERY_EPOCH)
    assert started.until(lambda: ": 3/8" in started.told)
    for _ in range(2):
        started.send(signal.SIGINT)
        time.sleep(pause_s)
    assert started.wait(60) == 130, started.told
    told_once(started.told, "cia-adapt", signal.SIGINT)
    kept = state.load(folder.unfinished_folder(tmp_path / RUN) / "state.safetensors")[1]["history"]
    assert 2 <= len(kept) < 8 and kept == files.read_metrics(trained / "8" / RUN)[: len(kept)]
    again = launcher.run(*training(small_file, tmp_path, 8))
    assert again.wait() == 0, again.told
    assert_same_run(tmp_path, trained / "8")


@pytest.mark.slow
@pytest.mark.parametrize("by", [["--jobs", 2], ["--ray", "local"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_ended_loses_no_finished_epoch_of_its_workers(small_file, launcher, tmp_path, by, number):
    """A scheduler may tell the sweep alone, and not its workers: they are told by it, and save before they end."""
    if by[0] == "--ray":
        pytest.importorskip("ray", reason="the extra [ray] is not installed")
    words = ["cia-adapt", "sweep", "--features", small_file, "--setup", "demo", "--method", "concat", "--source", "here"]
    words += ["--batch", 6, "--epochs", 4000, "--seeds", 2, *by, "--runs", tmp_path]
    started = launcher.start(*words)
    assert started.until(lambda: len(list(tmp_path.rglob("lock"))) == 2)
    time.sleep(8)  # less than the 15 s after which a state is written anyway
    started.send(number)
    assert started.wait(120) == 130, started.told
    told_once(started.told, "cia-adapt", number)
    kept = [len(state.load(path)[1]["history"]) for path in tmp_path.rglob("state.safetensors")]
    assert len(kept) == 2 and min(kept) >= 1, started.told


# --- commands that write once, or nothing --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(small_file, trained, whole, tmp_path_factory) -> Path:
    """What the commands below read."""
    folder = tmp_path_factory.mktemp("inputs")
    clips = [f"c{i}" for i in range(60)]
    rows = "".join(f"{clip},{'ab'[i % 2]},{'val' if i % 5 == 4 else 'train'}\n" for i, clip in enumerate(clips))
    (folder / "m.csv").write_text(f"clip,label,split\n{rows}")
    np.savez(folder / "v.npz", clip=np.array(clips), rgb=np.random.default_rng(0).random((len(clips), 25, 256), np.float32))
    for name, source in {"small.h5": small_file, "whole.h5": whole[0].path}.items():
        shutil.copyfile(source, folder / name)
    shutil.copytree(trained / "2", folder / "runs")
    return folder


def words_of(command: str, inputs: Path) -> list[object]:
    """The command line. What it writes lies in the working directory, by the names that it has when they are not given."""
    quick = ["--setup", "demo", "--method", "concat", "--epochs", 1, "--batch", 6, "--modality", "rgb", "--source", "here"]
    return {
        "search": ["cia-adapt", "search", "--features", inputs / "small.h5", *quick, "--trials", 1],
        "report": ["cia-adapt", "report", inputs / "runs", "--clips", 0, "--out", "report.html"],
        "import": ["cia-adapt", "import", inputs / "v.npz", "--manifest", inputs / "m.csv", "--dataset", "d", "--out", "f.h5"],
        "merge": ["cia-extract", "merge", inputs / "whole.h5", "--out", "f.h5"],
        "verify": ["cia-extract", "verify", inputs / "whole.h5"],
        "predict": ["cia-adapt", "predict", inputs / "runs" / RUN, "--features", inputs / "small.h5", "--out", "scores.csv"],
        "figure": ["cia-adapt", "figure", "tsne", inputs / "runs" / RUN, "--out", "tsne.png"],
        "table": ["cia-adapt", "table", inputs / "runs", "--out", "t.md"],
    }[command]


def again(launcher: Launcher, command: list[object], before: Started) -> Started:
    """The same command, in a working directory that has what the one before left."""
    left = before.folder.with_name(f"{before.folder.name}-left")
    shutil.copytree(before.folder, left, ignore=shutil.ignore_patterns("pid", "code", "stdout", "stderr"))
    copies = f"import shutil; shutil.copytree({str(left)!r}, '.', dirs_exist_ok=True)"
    return launcher.start(*command, before=copies)


def written(folder: Path) -> dict[str, bytes]:
    """{name: content} of what a command wrote, but for the circumstances of runs, which differ."""
    besides = {"pid", "code", "stdout", "stderr", "stamp.json", "result.json", "done", "times.json", "lock"}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in besides]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


QUICK = [("merge", signal.SIGINT)]
COMMANDS = ["search", "report", "import", "merge", "verify", "predict", "figure", "table"]
ALL = list(itertools.product(COMMANDS, [signal.SIGINT, signal.SIGTERM]))


@pytest.mark.parametrize(
    ("command", "number", "times"),
    [(*one, 1) for one in QUICK] + [pytest.param(*one, 8, marks=pytest.mark.slow) for one in ALL],
)
def test_a_command_that_is_ended_leaves_nothing_by_half_and_the_same_one_ends_as_ever(
    inputs, whole, launcher, chance, command, number, times
):
    words = words_of(command, inputs)
    began = time.monotonic()
    undisturbed = launcher.run(*words)
    took = time.monotonic() - began
    assert undisturbed.wait() == 0, undisturbed.told
    expected = written(undisturbed.folder)
    before, ended = undisturbed, 0
    for turn in range(times):
        started = again(launcher, words, before) if turn else launcher.start(*words)
        started.until(lambda s=started: _catches(s.pid, signal.SIGHUP))
        time.sleep(chance.uniform(0, took / 2))
        if started.running():
            started.send(number)
        code = started.wait(60)
        ended += code == 130
        if code == 4 and command == "import":  # it had ended before, and does not import twice
            assert "already has a dataset 'd'" in started.told
        elif code:  # it may have ended before
            assert code == 130, (code, started.told)
            told_once(started.told, str(words[0]), number, ", the same command continues" if words[0] == "cia-extract" else "")
        left = written(started.folder)
        assert not [name for name in left if name.endswith(".part")], list(left)
        if command == "merge" and "f.h5" in left:  # it is filled row by row, as extraction does
            finished_rows(started.folder / "f.h5", whole[0])
        else:
            assert left.items() <= expected.items() or command == "search"
            whole_files = {name for name in left if name.endswith((".toml", ".txt", "search.json"))}
            assert all(left[name] == expected[name] for name in whole_files)
        before = started
    assert ended or times == 1  # one may have ended before the signal, eight may not
    once_more = again(launcher, words, before)
    assert once_more.wait() == (4 if command == "import" and "f.h5" in left else 0), once_more.told
    assert written(once_more.folder).keys() == expected.keys()
    if command == "merge":
        assert finished_rows(once_more.folder / "f.h5", whole[0]) == finished_rows(whole[0].path, whole[0])
    else:
        assert written(once_more.folder) == expected
    if command == "verify":
        assert once_more.said == undisturbed.said
