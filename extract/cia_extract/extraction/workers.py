"""Clips prepared in worker processes, a few ahead of the network. A crash or a hang costs the clip in hand, never the others."""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from cia_extract.clips import ClipJob, PreparedClip, prepare
from cia_extract.common.errors import CiaError
from cia_extract.common.outcomes import ClipError, first_line
from cia_extract.common.processes import ENDING, end_with_parent, ignore_signals

# Finished clips that wait for the network, beyond one in each worker: bounds memory at (2 · workers + 2) × about 50 MB.
AHEAD: Final = 2
BEAT_S: Final = 1.0  # a worker says at most this often that it goes on
JOIN_S: Final = 5.0
STARTING_S: Final = 120.0  # a new process imports its libraries first, on a busy shared file system slowly

Result = PreparedClip | ClipError


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    key: int | None = None  # of the clip in hand
    heard: float = 0.0  # when it last gave a sign of life
    begun: bool = False  # it has given one, for any clip


def prepared_clips(
    jobs: Iterator[tuple[int, ClipJob]],
    workers: int,
    timeout: float = 600.0,
    work: Callable[[ClipJob, Callable[[], None]], PreparedClip] = prepare,
) -> Generator[tuple[int, Result], None, None]:
    """Prepare clips in parallel; yields (key, clip or the error it failed with) in the order in which they are finished.

    `jobs` is asked for the next one when a worker is free. A worker that decodes or computes nothing for `timeout` seconds
    is killed and its clip fails; one that dies (a crashing decoder) takes its clip with it. Closing the generator ends all.
    `work` is what they do, a function that pickles by name.
    """
    results: queue.Queue[tuple[int, Result] | BaseException | None] = queue.Queue(AHEAD)
    stop = threading.Event()
    feeder = threading.Thread(target=_feed, args=(jobs, workers, timeout, work, results, stop), daemon=True)
    feeder.start()
    try:
        while (result := results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        while feeder.is_alive():  # it may wait for room in the queue
            try:
                results.get(timeout=0.05)
            except queue.Empty:
                continue


def _feed(
    jobs: Iterator[tuple[int, ClipJob]],
    workers: int,
    timeout: float,
    work: Callable[[ClipJob, Callable[[], None]], PreparedClip],
    results: "queue.Queue[tuple[int, Result] | BaseException | None]",
    stop: threading.Event,
) -> None:
    """Hand out jobs and collect results until there are none left. Runs beside the network, so that no hang goes unseen."""
    pool: list[_Worker] = []
    in_work: dict[int, ClipJob] = {}
    finished: deque[tuple[int, Result]] = deque()  # there was no room for them in `results` yet
    # Signals are the main thread's. What this one starts begins with its mask, so no worker dies of one while it still imports.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        following = next(jobs, None)
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                while finished:
                    results.put_nowait(finished[0])
                    finished.popleft()
            while following is not None and not finished and (free := _free(pool, workers, work)) is not None:
                key, one = following
                try:
                    free.pipe.send(following)
                except OSError:  # it died while it had nothing to do
                    _end([free])
                    pool.remove(free)
                    continue
                free.key, free.heard, in_work[key] = key, time.monotonic(), one
                following = next(jobs, None)
            busy = [worker for worker in pool if worker.key is not None]
            if not busy and not finished and following is None:
                break
            wait([worker.pipe for worker in busy], timeout=0.05 if finished else 0.2)
            for worker in busy:
                result = _heard(worker, in_work) if worker.pipe.poll() else _overdue(worker, in_work, timeout)
                if result is None or worker.key is None:
                    continue
                finished.append((worker.key, result))
                del in_work[worker.key]
                worker.key = None
                timed_out = isinstance(result, ClipError) and result.outcome.name == "timeout"
                if timed_out or not worker.process.is_alive():
                    _end([worker])
                    pool.remove(worker)
        for rest in (*finished, None):
            results.put(rest)
    except BaseException as error:  # shown where the results are read
        results.put(error)
    finally:
        _end(pool)


def _free(pool: list[_Worker], workers: int, work: Callable[..., PreparedClip]) -> _Worker | None:
    """A worker without a clip; a new one while there are fewer than asked for."""
    for worker in pool:
        if worker.key is None and worker.process.is_alive():
            return worker
    if len(pool) == workers:
        return None
    context = multiprocessing.get_context("spawn")  # after fork, torch's threads and open files would be shared
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, work), daemon=True)
    process.start()
    theirs.close()
    pool.append(_Worker(process, ours))
    return pool[-1]


def _heard(worker: _Worker, jobs: dict[int, ClipJob]) -> Result | None:
    """Read what a worker sent: its result, or a sign of life. One that died has neither.

    Raises CiaError where it never got as far as its clip: then the clip is not to blame, and the next would fare no better.
    """
    assert worker.key is not None
    try:
        key, result = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(JOIN_S)
        code = worker.process.exitcode
        if not worker.begun:
            raise CiaError(f"a worker process died before its first clip (exit {code}); its own message stands above") from None
        why = "killed, out of memory? Try fewer --workers" if code == -signal.SIGKILL else "is the file damaged?"
        return ClipError(f"{jobs[worker.key].path}: decoding it crashed the worker process (exit {code}); {why}")
    worker.heard, worker.begun = time.monotonic(), True
    return result if key == worker.key else None


def _overdue(worker: _Worker, jobs: dict[int, ClipJob], timeout: float) -> ClipError | None:
    silent = time.monotonic() - worker.heard
    if silent < (timeout if worker.begun else timeout + STARTING_S):
        return None
    assert worker.key is not None
    path = jobs[worker.key].path
    return ClipError(f"{path}: no progress for {timeout:g} s, given up; raise --timeout if it is only slow", "timeout")


def _end(pool: list[_Worker]) -> None:
    for worker in pool:
        worker.process.kill()
    for worker in pool:
        worker.process.join(JOIN_S)  # one that waits for a dead network mount cannot even be killed
        worker.pipe.close()


def _work(pipe: Connection, work: Callable[..., PreparedClip]) -> None:
    """The life of a worker process."""
    _settle()
    while True:
        try:
            key, job = pipe.recv()
        except EOFError:
            return
        pipe.send((key, None))
        pipe.send((key, _safely(work, job, _beat(pipe, key))))


def _beat(pipe: Connection, key: int) -> Callable[[], None]:
    """Tells the parent that this clip goes on, at most once a second."""
    last = time.monotonic()

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last > BEAT_S:
            last = time.monotonic()
            pipe.send((key, None))

    return beat


def _safely(work: Callable[..., PreparedClip], job: ClipJob, beat: Callable[[], None]) -> Result:
    try:
        return work(job, beat)
    except ClipError as error:
        return error
    except Exception as error:  # one clip's surprise must not stop the others
        return ClipError(f"{job.path}: {first_line(error)}")


def _settle() -> None:
    import cv2

    cv2.setNumThreads(1)  # the processes are the parallelism
    os.environ["OMP_NUM_THREADS"] = "1"  # torch's, where it computes flow; it is not imported yet
    # On a CPU the network's threads wait for each other at every layer: a worker that holds one of them up holds up all.
    # Workers get the time that the network leaves, which is all of it once they fall behind.
    os.nice(19)
    ignore_signals()  # a scheduler's reach the whole group: a worker that died of one would fail its clip; the parent ends it
    end_with_parent()
