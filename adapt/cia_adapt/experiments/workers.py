"""Tasks done by several processes. One that dies costs the task in its hand, never the others.

`concurrent.futures` gives up all tasks when a process of its pool is killed, and does not say over which one.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from typing import Any, Generic, TypeVar

from cia_extract.common.errors import CiaError

Task = TypeVar("Task")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Died:
    """What there is instead of a task's result where its process died."""

    code: int
    """As Process.exitcode: -9 where signal 9 killed it."""


@dataclass
class _Worker(Generic[Task]):
    process: SpawnProcess
    pipe: Connection
    task: Task
    begun: bool = False
    """It has imported what it needs and works."""


def results(
    work: Callable[[Task], Value], tasks: Sequence[Task], processes: int, stop: Event, start: Callable[..., None], *arguments: Any
) -> Generator[tuple[Task, Value | Died], None, None]:
    """(task, what `work` returns for it) in the order in which they are done; `Died` for a task whose process died over it.

    Closing the generator, and whatever is raised here, sets `stop`, ends the processes by SIGTERM and waits for them.

    Args:
        work: a function that pickles by name and raises nothing.
        tasks: what it gets, one at a time.
        processes: how many at most.
        stop: says that no further task may begin. `work` looks at it: a process that ignores signals between two tasks may have
            the next one already.
        start: what each process does first, with `arguments`.

    Raises:
        CiaError: a process ended by itself before it could work; the next would fare no better.
    """
    waiting, pool, hired = deque(tasks), list[_Worker[Task]](), list[_Worker[Task]]()
    try:
        while waiting or pool:
            while waiting and len(pool) < processes:
                pool.append(_hired(work, waiting.popleft(), start, arguments))
                hired.append(pool[-1])
            ready = wait([worker.pipe for worker in pool])[0]
            worker = next(worker for worker in pool if worker.pipe is ready)
            task, result = worker.task, _received(worker)
            if result is None:
                continue
            if isinstance(result, Died) or not (waiting and _handed(worker, waiting)):
                pool.remove(worker)
                worker.pipe.close()  # one that waits for a task ends
            yield task, result
    except BaseException:
        stop.set()
        for worker in pool:  # a scheduler may have told this process alone
            worker.process.terminate()  # it saves the state and ends its run
        raise
    finally:
        for worker in hired:
            worker.pipe.close()
        for worker in hired:
            worker.process.join()


def _hired(work: Callable[[Task], Value], task: Task, start: Callable[..., None], arguments: Sequence[Any]) -> _Worker[Task]:
    """A new process, with its first task."""
    context = multiprocessing.get_context("spawn")  # after fork, torch's threads and open files would be shared
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, task, start, arguments))
    process.start()
    theirs.close()  # so that ours ends with the process
    return _Worker(process, ours, task)


def _handed(worker: _Worker[Task], waiting: deque[Task]) -> bool:
    """Give a worker the next task; False where it has died since its last one."""
    try:
        worker.pipe.send(waiting[0])
    except OSError:
        return False
    worker.task = waiting.popleft()
    return True


def _received(worker: _Worker[Any]) -> Any:
    """What a worker sent: its task's result, or None for the word that it begins. `Died` where it did not send any more."""
    try:
        result = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode or 0
        if code >= 0 and not worker.begun:
            why = f"ended before its first run (exit {code}); its own message stands above"
            raise CiaError(f"--jobs: a worker process {why}") from None
        return Died(code)
    worker.begun = True
    return result


def _serve(pipe: Connection, work: Callable[[Any], Any], task: Any, start: Callable[..., None], arguments: Sequence[Any]) -> None:
    """The life of a process: it ends where its parent hands out no more."""
    start(*arguments)
    with suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            pipe.send(work(task))
            task = pipe.recv()
