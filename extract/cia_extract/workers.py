"""Clips prepared in worker processes, a few ahead of the network. A crash or a hang costs the clip in hand, never the others."""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from cia_extract.clip import ClipJob, PreparedClip, prepare
from cia_extract.ledger import ClipError

# Finished clips that wait for the network, beyond one in each worker: bounds memory at (2 · workers + 2) × about 50 MB.
AHEAD: Final = 2
BEAT_S: Final = 1.0  # a worker says at most this often that it goes on
STARTING_S: Final = 120.0  # a new process imports its libraries first, on a busy shared file system slowly

Result = PreparedClip | ClipError
_Message = tuple[int, Result | None]  # key and result; None: a sign of life


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    key: int | None = None  # of the clip in hand
    heard: float = 0.0  # when it last gave a sign of life
    begun: bool = False  # it has given one for this clip


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
    paths: dict[int, ClipJob] = {}
    try:
        following = next(jobs, None)
        while not stop.is_set():
            while following is not None and (free := _free(pool, workers, work)) is not None:
                free.key, paths[following[0]] = following[0], following[1]
                free.heard, free.begun = time.monotonic(), False
                with contextlib.suppress(OSError):  # it has just died; noticed below
                    free.pipe.send(following)
                following = next(jobs, None)
            busy = [worker for worker in pool if worker.key is not None]
            if not busy:
                break
            ready = wait([worker.pipe for worker in busy], timeout=0.2)
            for worker in busy:
                result = _heard(worker, paths) if worker.pipe in ready else _overdue(worker, paths, timeout)
                if result is None or worker.key is None:
                    continue
                key, worker.key = worker.key, None
                del paths[key]
                timed_out = isinstance(result, ClipError) and result.outcome.name == "timeout"
                if timed_out or not worker.process.is_alive():
                    _end([worker])
                    pool.remove(worker)
                results.put((key, result))
        results.put(None)
    except BaseException as error:  # shown where the results are read
        results.put(error)
    finally:
        _end(pool)


def _free(pool: list[_Worker], workers: int, work: Callable[..., PreparedClip]) -> _Worker | None:
    """A worker without a clip; a new one while there are fewer than asked for."""
    for worker in pool:
        if worker.key is None:
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
    """Read what a worker sent: its result, or a sign of life. One that died has neither."""
    try:
        key, result = worker.pipe.recv()
    except (EOFError, OSError):
        assert worker.key is not None
        worker.process.join()
        path = jobs[worker.key].path
        return ClipError(f"{path}: decoding it crashed the worker process (exit {worker.process.exitcode}); is the file damaged?")
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
        worker.process.join()
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
        return ClipError(f"{job.path}: {type(error).__name__}: {error}")


def _settle() -> None:
    import cv2

    cv2.setNumThreads(1)  # the processes are the parallelism
    # On a CPU the network's threads wait for each other at every layer: a worker that holds one of them up holds up all.
    # Workers get the time that the network leaves, which is all of it once they fall behind.
    os.nice(19)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers; nobody wants orphans decoding for hours."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
