"""Tasks in several processes, one of which dies."""

import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event

import pytest
from cia_adapt.experiments import workers
from cia_extract.common.errors import CiaError
from cia_extract.common.processes import ignore_signals


def start(code: int | None = None) -> None:
    ignore_signals()  # as a sweep's processes between two runs
    if code is not None:
        os._exit(code)


def killed_at_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def double(task: str) -> str:
    """What a process does: it dies of some words."""
    if task.startswith("signal"):
        os.kill(os.getpid(), int(task.split()[1]))
    if task.startswith("exit"):
        os._exit(int(task.split()[1]))
    return 2 * task


def stopping() -> Event:
    return multiprocessing.get_context("spawn").Event()


def test_a_process_that_dies_costs_its_own_task_alone():
    tasks = ["a", f"signal {signal.SIGKILL.value}", "b"]
    assert dict(workers.results(double, tasks, 2, stopping(), start)) == {"a": "aa", "b": "bb", tasks[1]: workers.Died(-9)}
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 5])
def test_each_that_dies_costs_a_task(processes):
    """With 5 some have nothing more to do when others die."""
    tasks = ["a", f"signal {signal.SIGKILL.value}", "b", "exit 7", "c"]
    done = dict(workers.results(double, tasks, processes, stopping(), start))
    assert done == {"a": "aa", "b": "bb", "c": "cc", tasks[1]: workers.Died(-9), tasks[3]: workers.Died(7)}
    assert not multiprocessing.active_children()


def test_processes_that_end_before_they_can_work_are_not_started_again_and_again():
    with pytest.raises(CiaError, match=r"a worker process ended before its first run \(exit 3\); its own message stands above"):
        list(workers.results(double, ["a"] * 100, 1, stopping(), start, 3))
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_one_that_is_killed_before_it_can_work_costs_its_task():
    killed = workers.results(double, ["a", "b"], 1, stopping(), killed_at_once)
    assert list(killed) == [("a", workers.Died(-9)), ("b", workers.Died(-9))]


def test_closing_it_ends_the_processes_and_tells_those_that_have_another_task():
    stop = stopping()
    running = workers.results(double, ["a"] * 1000, 1, stop, start)
    assert next(running) == ("a", "aa")
    running.close()
    assert stop.is_set() and not multiprocessing.active_children()
