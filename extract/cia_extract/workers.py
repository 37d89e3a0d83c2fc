"""Clips prepared in worker processes, in order, a few ahead of the network."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing.connection import wait
from typing import Final

from cia_extract.clip import ClipJob, PreparedClip, prepare
from cia_extract.errors import DataError

# Clips that wait for the network beyond those being worked on: bounds memory at (workers + 2) × about 50 MB.
AHEAD: Final = 2


def prepared_clips(jobs: Sequence[ClipJob], workers: int) -> Generator[PreparedClip | DataError, None, None]:
    """Prepare clips in parallel and yield them in the order of `jobs`; a clip that cannot be used yields its DataError.

    A clip that kills its worker (a crashing decoder) costs that clip alone: the clips in flight are tried again one by one.
    """
    start = 0
    while start < len(jobs):
        try:
            with closing(_run(jobs[start:], workers, workers + AHEAD)) as results:
                for result in results:
                    start += 1
                    yield result
        except BrokenProcessPool:
            suspect = jobs[start : start + 1]
            try:
                result = next(_run(suspect, 1, 1))
            except BrokenProcessPool:
                result = DataError(f"{suspect[0].path}: decoding it crashed the worker process; is the file damaged?")
            start += 1
            yield result


def _run(jobs: Sequence[ClipJob], workers: int, in_flight: int) -> Generator[PreparedClip | DataError, None, None]:
    context = multiprocessing.get_context("spawn")  # after fork, torch's threads and open files would be shared
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_start_worker)
    pending: deque[Future[PreparedClip | DataError]] = deque()
    following = iter(jobs)
    try:
        while True:
            while len(pending) < in_flight and (job := next(following, None)) is not None:
                pending.append(pool.submit(_prepare, job))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        if pending:  # left to themselves the workers would finish their clips, minutes of TV-L1 each, before Ctrl-C took effect
            for process in list((pool._processes or {}).values()):
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)  # waiting keeps the pool's own thread out of the interpreter's exit


def _prepare(job: ClipJob) -> PreparedClip | DataError:
    try:
        return prepare(job)
    except DataError as error:
        return error
    except Exception as error:  # one clip's surprise must not stop the others
        return DataError(f"{job.path}: {type(error).__name__}: {error}")


def _start_worker() -> None:
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
