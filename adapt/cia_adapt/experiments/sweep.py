"""`cia-adapt sweep`: methods × pairs × seeds, in this process, in several, or by Ray. What is finished is read, what was
interrupted goes on; one run that fails, or whose process is killed, does not stop the others. Sweeps on several machines share
a folder of runs: what one of them trains the others leave, and read in the end.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

from cia_extract.common import machine, ray_cluster, switches
from cia_extract.common.console import Progress, Say
from cia_extract.common.errors import CiaError, InWorkError
from cia_extract.common.outcomes import last_line
from cia_extract.common.processes import end_with_parent, ignore_signals, interrupted_by_signals, interruptible

import cia_adapt.experiments.runner as runner
import cia_adapt.experiments.workers as workers
from cia_adapt.data import Stores
from cia_adapt.experiments.directions import prepared
from cia_adapt.experiments.request import Request, counted
from cia_adapt.runs import Result

WAIT_S: Final = 5.0  # for runs of other processes, doubled each time
LONGEST_WAIT_S: Final = 60.0
SAVING_S: Final = 60.0  # for Ray's workers to keep their last epochs after an interrupt


@dataclass(frozen=True)
class Failed:
    """A run that did not come about, and why."""

    what: str
    message: str
    exit_code: int
    elsewhere: bool = False
    """Another process is training it right now."""

    def fields(self) -> dict[str, Any]:
        """As --json has it."""
        return {"what": self.what, "message": self.message, "exit_code": self.exit_code}


Execute = Callable[[Sequence[Request]], Iterator[Result | Failed]]


def line_of(result: Result) -> str:
    """How a run that is done is shown: its accuracy on the target, and the advice of its last epoch."""
    accuracy = "n/a, the target has no labels" if result["selected"] is None else f"{result['selected']:.1f} %"
    return f"{result['method']} {result['source']} → {result['target']}: {accuracy}{trouble(result)}"


def run(
    requests: Sequence[Request], jobs: int, ray: str | None, say: Say, line: Callable[[Result], str] = line_of
) -> tuple[list[Result], list[Failed]]:
    """Train all (one request per method); results in the order of the requests. `line` shows a run that is done. A mistake in
    the request itself is raised at once.
    """
    single: list[Request] = []
    results: list[Result] = []
    failed: list[Failed] = []
    errors: list[CiaError] = []
    noted: set[str] = set()

    def said(message: str) -> None:
        """Notes of the features, once for all methods."""
        if message not in noted:
            noted.add(message)
            say(message)

    for request in requests:
        try:
            single += list(_single(request, said))
        except CiaError as error:  # this method does not fit these features
            errors.append(error)
            failed.append(Failed(request.chosen.method.name, str(error), error.exit_code))
    if errors and not single:
        raise errors[0]
    if len(single) > 1:
        directions = counted(len({(one.source, one.target) for one in single}), "direction")
        say(f"{len(single)} runs: methods × {directions} × seeds")
    for one in failed:
        say(f"failed: {one.what}: {one.message}")
    execute = _by_ray(ray) if ray is not None else _in_processes(jobs) if jobs > 1 else _here
    waiting, wait_s = {_what(one): one for one in single}, WAIT_S
    with Progress(len(single), f"{len(single)} runs", every_s=30) as progress:
        while waiting:
            elsewhere = {}
            for done in execute(list(waiting.values())):
                if isinstance(done, Failed) and done.elsewhere:
                    elsewhere[done.what] = waiting[done.what]
                elif isinstance(done, Failed):
                    failed.append(done)
                    progress.line(f"failed: {done.what}: {done.message}")
                    progress.step()
                else:
                    results.append(done)
                    progress.step(line(done))
            if elsewhere.keys() == waiting.keys():
                progress.line(f"{len(elsewhere)} runs are trained by other processes; waiting for them")
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            waiting = elsewhere
    order = {(r.chosen.method.name, r.source, r.target, r.seeds[0]): i for i, r in enumerate(single)}
    return sorted(results, key=lambda r: order[r["method"], r["source"], r["target"], r["seed"]]), failed


def trouble(result: Result) -> str:
    """The advice of a run's last epoch, to stand behind its number."""
    return f"  ! {result['advice']}" if result.get("advice") else ""


def _single(request: Request, say: Say) -> Iterator[Request]:
    """One request per direction and seed."""
    for direction in prepared(request, say):
        for seed in request.seeds:
            sources = tuple(source.name for source in direction.source.each)
            yield replace(request, sources=sources, target=direction.target.name, seeds=(seed,), resume=True)


@dataclass
class _Process:
    """What the runs of one process share. A pool's worker has no other way to keep something between two of them."""

    stores: Stores | None = None
    share: float = 1.0
    """Of the machine's memory."""
    stop: Any = None
    """An event: the sweep was interrupted, and no further run begins."""


_process = _Process()


def train_one(request: Request) -> Result | Failed:
    """One run, quietly; its failure is a value."""
    if multiprocessing.parent_process() is None:  # this process is interrupted as a whole
        return _trained(request)
    try:
        with interruptible():
            return _trained(request)
    except KeyboardInterrupt:
        return _interrupted(request)


def _interrupted(request: Request) -> Failed:
    return Failed(_what(request), "interrupted; its last epoch is kept, and the same command goes on", 130)


def _what(request: Request) -> str:
    return f"{request.chosen.method.name} {request.source} → {request.target} seed {request.seeds[0]}"


def _trained(request: Request) -> Result | Failed:
    what = _what(request)
    if _process.stop is not None and _process.stop.is_set():
        return Failed(what, "not begun: the sweep was interrupted", 130)
    try:
        if _process.stores is None:
            switches.keep_freed_memory()
            _process.stores = Stores(request.device, request.tier, _process.share)
        return runner.run(request, lambda message: None, _process.stores, quiet=True)[0]
    except InWorkError as error:
        return Failed(what, str(error), error.exit_code, elsewhere=True)
    except CiaError as error:
        return Failed(what, str(error), error.exit_code)
    except MemoryError:
        return Failed(what, "not enough memory; take fewer --jobs, a smaller --batch, or --tier map", 1)
    except Exception as error:  # whatever it is, the other runs go on
        return Failed(what, f"unexpected {type(error).__name__}: {error}", 1)


def _train_by_ray(request: Request) -> Result | Failed:
    """`train_one` in a Ray worker. A scheduler's signal or the driver's word ends the run, whose last epoch is kept."""
    try:
        with interrupted_by_signals():
            return _trained(request)
    except KeyboardInterrupt:
        return _interrupted(request)


def _here(requests: Sequence[Request]) -> Iterator[Result | Failed]:
    yield from map(train_one, requests)


def _in_processes(jobs: int) -> Execute:
    """A process per job, each with its share of the cores and of the memory."""

    def execute(requests: Sequence[Request]) -> Iterator[Result | Failed]:
        threads = max(1, machine.cores() // jobs)
        stop = multiprocessing.get_context("spawn").Event()
        with closing(workers.results(train_one, requests, jobs, stop, _start, threads, 1 / jobs, stop)) as results:
            for request, result in results:
                yield _killed(request, result.code) if isinstance(result, workers.Died) else result

    return execute


def _start(threads: int, share: float, stop: Any) -> None:
    import torch

    ignore_signals()  # between runs `stop` tells; see `interruptible`
    end_with_parent()
    torch.set_num_threads(threads)
    _process.share, _process.stop = share, stop


def _killed(request: Request, code: int) -> Failed:
    """The failure of a run whose process died."""
    if code == -signal.SIGKILL:
        why = "was killed (signal 9), out of memory? Try fewer --jobs"
    elif code < 0:
        why = f"was killed (signal {-code})"
    else:
        why = f"ended (exit {code}); its own message stands above"
    return Failed(_what(request), f"its process {why}", 1)


def _by_ray(address: str) -> Execute:
    """Tasks of a Ray cluster; every node must see the feature file and the runs folder at the same path. Raises UsageError."""
    ray_cluster.found(address)

    def execute(requests: Sequence[Request]) -> Iterator[Result | Failed]:
        with ray_cluster.joined(address) as ray:  # between two results, too, what is printed goes to standard error
            gpus = 1 if requests[0].device.type == "cuda" else 0
            remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=3)(_train_by_ray)
            # Tasks of a node share the page cache, and know nothing of each other's memory.
            tasks = {remote.remote(replace(request, tier=request.tier or "map")): request for request in requests}
            waiting = list(tasks)
            try:
                while waiting:
                    (done,), waiting = ray.wait(waiting, num_returns=1)
                    try:
                        yield ray.get(done)
                    except ray.exceptions.RayError as error:  # after its tries: worker or node died, out of memory
                        why = f"its Ray worker failed ({last_line(error)}); try fewer at a time"
                        yield Failed(_what(tasks[done]), why, 1)
            except (KeyboardInterrupt, GeneratorExit):  # Ray would end its workers at once
                for task in waiting:
                    ray.cancel(task)
                ray.wait(waiting, num_returns=len(waiting), timeout=SAVING_S)
                raise

    return execute
