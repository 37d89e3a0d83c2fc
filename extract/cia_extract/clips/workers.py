"""Clips prepared in worker processes, a few ahead of the network. A crash or a hang costs the clip in hand, never the others."""

import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from cia_extract.clips.job import ClipJob, PreparedClip
from cia_extract.clips.preparation import prepare_clip
from cia_extract.common import switches
from cia_extract.common.errors import CiaError
from cia_extract.common.outcomes import ClipError, first_line
from cia_extract.common.processes import ENDING, end_with_parent, ignore_signals

# Jobs ahead of the workers, and so finished clips that wait for the network: memory holds (workers + AHEAD) × about 50 MB.
AHEAD: Final = 2
BEAT_S: Final = 1.0  # a worker says at most this often that it goes on
JOIN_S: Final = 5.0
YIELDING: Final = 10  # niceness: beside a network that computes, a worker gets a tenth of a core's time; beside nobody all of it
STARTING_S: Final = 120.0  # a new process imports its libraries first, on a busy shared file system slowly

Job = tuple[int, ClipJob]  # its key, and what is to be done
Work = Callable[[ClipJob, Callable[[], None]], PreparedClip]
Result = PreparedClip | ClipError


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None  # in hand
    heard: float = 0.0  # when it last gave a sign of life
    begun: bool = False  # it has given one, for any clip


class Results:
    """What workers sent back, on its way to the network; both threads use it."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[int, Result] | BaseException] = queue.SimpleQueue()
        self.awaited = False

    def get(self) -> tuple[int, Result] | BaseException:
        """The next one, as soon as there is one."""
        self.awaited = True
        result = self.queue.get()
        self.awaited = False
        return result

    def wait_for_network(self) -> bool:
        """Whether a finished clip lies here that the network has not asked for: the next one shall then give way to the network.

        On a CPU the network's threads wait for each other at every layer: a worker that holds one of them up holds up all. Where
        the network waits for clips, workers compete with whoever else computes here; giving way to strangers, they would starve.
        A clip that the network has just asked for does not count.
        """
        return self.queue.qsize() > self.awaited


def prepared_clips(
    jobs: Iterator[Job], workers: int, timeout: float = 600.0, work: Work = prepare_clip
) -> Generator[tuple[int, Result], None, None]:
    """Prepare clips in parallel; yields (key, clip or the error it failed with) in the order in which they are finished.

    `jobs` is read a few ahead (workers + AHEAD), by the thread that iterates here and no other. A worker that decodes or computes
    nothing for `timeout` seconds is killed and its clip fails; one that dies (a crashing decoder) takes its clip with it. Closing
    the generator ends all. `work` is what they do, a function that pickles by name.
    """
    to_do: deque[Job] = deque()  # this thread appends, the other takes from the left
    results = Results()
    stop = threading.Event()
    supervisor = threading.Thread(target=_supervise, args=(to_do, workers, timeout, work, results, stop), daemon=True)
    supervisor.start()
    outstanding = 0  # jobs handed out whose results have not come yet
    try:
        while True:
            for job in islice(jobs, workers + AHEAD + 1 - outstanding):  # + 1: the next to be yielded
                to_do.append(job)
                outstanding += 1
            if not outstanding:
                return
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            outstanding -= 1
            yield result
    finally:
        stop.set()
        supervisor.join()


def _supervise(
    to_do: deque[Job],
    workers: int,
    timeout: float,
    work: Work,
    results: Results,
    stop: threading.Event,
) -> None:
    """Hand jobs to worker processes and pass on what they send back. Runs beside the network, so that no hang goes unseen.

    What it shares with the other thread is `to_do`, `results` and `stop`, all three safe between threads.
    """
    pool: list[_Worker] = []
    try:
        # Signals are the main thread's. What this one starts begins with its mask, so no worker dies of one while it imports.
        resource_tracker.ensure_running()  # starting it takes SIGINT and SIGTERM from the mask: so not with the first worker
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        while not stop.is_set():
            while to_do and (free := _free(pool, workers, work)) is not None:
                try:
                    free.pipe.send((*to_do[0], results.wait_for_network()))
                except OSError:  # it died while it had nothing to do
                    _remove(free, pool)
                    continue
                free.job, free.heard = to_do.popleft(), time.monotonic()
            busy = [worker for worker in pool if worker.job is not None]
            # While one is free, a new job must not wait long.
            wait([worker.pipe for worker in busy], timeout=0.05 if len(busy) < workers else 0.2)
            for worker in busy:
                result = _heard(worker) if worker.pipe.poll() else _overdue(worker, timeout)
                if result is None or worker.job is None:
                    continue
                results.queue.put((worker.job[0], result))
                worker.job = None
                timed_out = isinstance(result, ClipError) and result.outcome.name == "timeout"
                if timed_out or not worker.process.is_alive():
                    _remove(worker, pool)
    except BaseException as error:  # shown where the results are read
        results.queue.put(error)
    finally:
        _end(pool)


def _free(pool: list[_Worker], workers: int, work: Work) -> _Worker | None:
    """A worker without a clip; a new one while there are fewer than asked for."""
    for worker in pool:
        if worker.job is None and worker.process.is_alive():
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


def _heard(worker: _Worker) -> Result | None:
    """Read what a worker sent: its result, or a sign of life. One that died has neither.

    Raises CiaError where it never got as far as its clip: then the clip is not to blame, and the next would fare no better.
    """
    assert worker.job is not None
    key, job = worker.job
    try:
        sent = worker.pipe.recv_bytes()
    except (EOFError, OSError):
        worker.process.join(JOIN_S)
        code = worker.process.exitcode
        if not worker.begun:
            raise CiaError(f"a worker process died before its first clip (exit {code}); its own message stands above") from None
        why = "killed, out of memory? Try fewer --workers" if code == -signal.SIGKILL else "is the file damaged?"
        return ClipError(f"{job.path}: decoding it crashed the worker process (exit {code}); {why}")
    try:
        sent_for, result = pickle.loads(sent)
    except Exception as error:  # pickle raises anything: a decoder that writes where it must not changes what is sent, too
        worker.process.kill()
        worker.process.join(JOIN_S)
        return ClipError(f"{job.path}: decoding it corrupted the worker process ({first_line(error)}); is the file damaged?")
    worker.heard, worker.begun = time.monotonic(), True
    return result if sent_for == key else None


def _overdue(worker: _Worker, timeout: float) -> ClipError | None:
    """The error of a clip whose worker has given no sign of life for too long."""
    silent = time.monotonic() - worker.heard
    if silent < (timeout if worker.begun else timeout + STARTING_S):
        return None
    assert worker.job is not None
    path = worker.job[1].path
    return ClipError(f"{path}: no progress for {timeout:g} s, given up; raise --timeout if it is only slow", "timeout")


def _remove(worker: _Worker, pool: list[_Worker]) -> None:
    _end([worker])
    pool.remove(worker)


def _end(pool: list[_Worker]) -> None:
    """Kill these workers, whatever they are at."""
    for worker in pool:
        worker.process.kill()
    for worker in pool:
        worker.process.join(JOIN_S)  # one that waits for a dead network mount cannot even be killed
        worker.pipe.close()


def _work(pipe: Connection, work: Work) -> None:
    """The life of a worker process."""
    _set_up()
    # Niceness is a thread's own on Linux, and who has raised it may not lower it again: so there is a thread for either.
    yielding = ThreadPoolExecutor(1, initializer=_give_way)
    while True:
        try:
            key, job, yields = pipe.recv()
        except EOFError:
            return
        pipe.send((key, None))
        task = work, job, _beat(pipe, key)
        pipe.send((key, yielding.submit(_safely, *task).result() if yields else _safely(*task)))


def _give_way() -> None:
    """From now on this thread, and what it starts, gives way to others; where threads have no priority of their own nothing."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), YIELDING)


def _beat(pipe: Connection, key: int) -> Callable[[], None]:
    """Tells the parent that this clip goes on, at most once a second."""
    last = time.monotonic()

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last > BEAT_S:
            last = time.monotonic()
            pipe.send((key, None))

    return beat


def _safely(work: Work, job: ClipJob, beat: Callable[[], None]) -> Result:
    """The clip, or the error it failed with."""
    try:
        return work(job, beat)
    except ClipError as error:
        return error
    except Exception as error:  # one clip's surprise must not stop the others
        return ClipError(f"{job.path}: {first_line(error)}")


def _set_up() -> None:
    """This process computes on one core, and ends with its parent."""
    switches.one_thread_for_good()
    ignore_signals()  # a scheduler's reach the whole group: a worker that died of one would fail its clip; the parent ends it
    end_with_parent()
