"""`benchmarks/gpu` ends in time, and keeps the rows that it has, whatever one of them does."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks" / "gpu"


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """What rows are measured with, as on a CPU, for a minute."""
    monkeypatch.syspath_prepend(FOLDER)
    from measuring import Bench

    return Bench(torch.device("cpu"), "random", tmp_path, tmp_path / "rows.jsonl", time.monotonic() + 60)


def rows_of(monkeypatch, tmp_path, script: str, seconds: float) -> list[tuple[str, str]]:
    """Of a section that is this script; `row(what, figures)` writes one."""
    monkeypatch.syspath_prepend(FOLDER)
    import watch

    log = tmp_path / "log"
    row = f"import json, os, time\nrow = lambda *row: print(json.dumps(row), file=open({str(log)!r}, 'a'))\n"
    return watch.rows_of("section", [sys.executable, "-c", row + script], log, seconds)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("row('b', None); time.sleep(99)", "b WRONG: not done after"),
        ("row('b', None); os.abort()", "b WRONG: its process was ended by signal 6"),
        ("os._exit(3)", "section WRONG: its process ended with exit code 3"),
        ("row('b', '2'); time.sleep(99)", "section WRONG: not done after"),
        ("row('b', '2')", "b 2"),
    ],
)
def test_a_section_that_hangs_or_dies_leaves_the_rows_before(monkeypatch, tmp_path, last, said):
    began = time.monotonic()
    rows = rows_of(monkeypatch, tmp_path, f"row('a', None); row('a', '1'); {last}", 5)
    assert rows[0] == ("a", "1") and " ".join(rows[-1]).startswith(said)
    assert time.monotonic() - began < 60


def test_what_a_section_started_ends_with_it(monkeypatch, tmp_path):
    """Such as a decoding worker, which holds the memory of a device."""
    script = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\n"
    ((_, pid),) = rows_of(monkeypatch, tmp_path, script + "row('child', str(child.pid))", 20)
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    os.kill(int(pid), 9)
    pytest.fail("the child of the section outlived it")


def test_a_row_that_takes_too_long_is_wrong_and_the_next_is_measured(monkeypatch, bench):
    """Also where the code goes on after every error."""
    monkeypatch.setattr("measuring.ROW_SECONDS", 0.2)

    def forever() -> str:
        while True:
            try:
                time.sleep(99)
            except Exception:
                continue

    assert bench.row("slow", forever) == ("slow", "WRONG: TooLong: not done within 0 s")
    assert bench.row("next", lambda: "2") == ("next", "2")
    assert bench.log.read_text() == '["slow", null]\n["next", null]\n'


def test_no_row_begins_after_the_end(bench):
    late = type(bench)(bench.device, bench.weights, bench.folder, bench.log, ends=time.monotonic())
    assert late.row("late", lambda: "2") == ("late", "not measured: no time left (--minutes)")
    assert not late.log.exists()


def test_a_row_over_its_memory_is_wrong(monkeypatch, bench):
    """Memory that was taken before is not the row's."""
    taken = SimpleNamespace(before=int(5e9), peak=0)
    monkeypatch.setattr(type(bench), "small", False)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: taken.before)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: taken.peak)
    taken.peak = int(7e9)
    assert bench.row("a", lambda: "1 ms", most_gb=2) == ("a", "1 ms, 2.0 GB")
    taken.peak = int(7.2e9)
    assert bench.row("a", lambda: "1 ms", most_gb=2) == ("a", "WRONG: 1 ms, 2.2 GB instead of at most 2")


def test_repetitions_stop_where_they_are_slow(monkeypatch, bench):
    monkeypatch.setattr(type(bench), "small", False)
    monkeypatch.setattr(type(bench), "wait", lambda _: None)
    monkeypatch.setattr("measuring.REPEATING_SECONDS", 0.1)
    calls = []
    assert bench.seconds(lambda: (calls.append(0), time.sleep(0.07)), times=50) > 0.06
    assert 2 <= len(calls) <= 3
