"""Extraction over a Ray cluster (`--ray`, extra `[ray]`): one actor per GPU, or per share of the CPUs, all filling one file.

The driver hands out a few rows at a time to whoever is free, so that slow clips hold nobody up. An actor writes its rows into the
file itself (over the shared file system); what a dead one had not finished is handed out again, and a new one started.
"""

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Final

import torch

from cia_extract.clips import flow
from cia_extract.common import ray_cluster
from cia_extract.common.console import Progress, Say
from cia_extract.common.errors import CiaError
from cia_extract.common.outcomes import last_line
from cia_extract.extraction.pipeline import Extraction, finish
from cia_extract.extraction.settings import Settings, Summary, rows_to_do

if TYPE_CHECKING:
    from cia_extract.features import DatasetFeatures

# Enough to keep decoding and network busy together, few enough that little is redone and all end at about the same time.
ROWS_A_TASK: Final = 8
MOST_ROWS_A_TASK: Final = 512  # an actor looks at the whole file before each task, which takes seconds for a million rows
TASKS_AN_ACTOR: Final = 50  # at least, before tasks become longer
DEATHS: Final = 3  # of actors over the same rows, or one after the other as they start; then those are to blame

Rows = dict[int, tuple[str, ...]]


class Actor:
    """What runs in a Ray process: networks loaded once, then rows as they are asked for."""

    def __init__(self, settings: Settings) -> None:
        self.said: list[str] = []
        self.extraction = Extraction(settings, self.said.append)

    def ready(self) -> None:
        """Answer, once the networks are loaded."""

    def extract(self, rows: Rows) -> Summary:
        """Fill these rows of the file, which is there already."""
        self.extraction.reopen()  # since the last rows the driver, or another command, may have replaced the dataset
        dataset = self.extraction.begin_or_continue()
        summary = Summary(len(dataset))
        self.extraction.run(dataset, rows, summary, quiet=True)
        return summary


def extract(settings: Settings, address: str, any_device: bool, say: Say) -> Summary:
    """As `pipeline.extract`, spread over a cluster: `address` as Ray takes it ("auto", …), or "local" for this machine.

    With `any_device` the cluster's GPUs are used where it has some, whatever `settings.device` is here.
    """
    ray_cluster.found(address)
    # Weights and file are looked at here first: one clear message instead of one from every actor.
    settings = dataclasses.replace(settings, out=settings.out.absolute(), root=settings.root.absolute())
    dataset = Extraction(settings, say).begin_or_continue()
    settings = dataclasses.replace(settings, overwrite=False)  # that was done just now
    summary = Summary(len(dataset))
    flow.cache.tidy(settings.flow_cache)
    with contextlib.ExitStack() as cluster:
        ray = cluster.enter_context(ray_cluster.joined(address))
        if any_device and ray.cluster_resources().get("GPU"):  # the driver's own machine may have none
            settings = dataclasses.replace(settings, device=torch.device("cuda"))
        began = time.perf_counter()
        try:
            _Driver(ray, settings, dataset, summary, say).run(rows_to_do(dataset, settings))
        finally:
            cluster.close()  # until then actors may write rows
            summary.seconds["wall"] = time.perf_counter() - began
            finish(settings, dataset, summary, say)
    return summary


class _Driver:
    """Hands out rows, adds up summaries, replaces the dead."""

    def __init__(self, ray: Any, settings: Settings, dataset: "DatasetFeatures", summary: Summary, say: Say) -> None:
        self.ray, self.settings, self.dataset, self.summary, self.say = ray, settings, dataset, summary, say
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if settings.device.type == "cuda" else 0
        cpus = int(resources.get("CPU", 1))
        self.count = gpus or max(1, cpus // max(settings.workers, 1))
        if gpus:  # the one GPU that Ray shows an actor, and its share of the cores
            workers = max(1, min(settings.workers, cpus // gpus))
            settings = dataclasses.replace(settings, device=torch.device("cuda"), workers=workers)
        remote = ray.remote(num_cpus=0 if gpus else min(settings.workers, cpus), num_gpus=1 if gpus else 0)(Actor)
        self.new_actor = lambda: remote.remote(settings)
        # Rows go to actors that are ready: the one in a dead node's place may have to wait for a node for ever.
        self.starting: dict[Any, Any] = {}  # {the answer of `ready`: its actor}
        self.died_starting = 0  # since one was ready
        for _ in range(self.count):
            self._start()
        say(f"ray: {self.count} {'GPU' if gpus else 'CPU'} actors on {len(ray.nodes())} nodes")

    def run(self, todo: Rows) -> None:
        rows = list(todo.items())
        size = min(MOST_ROWS_A_TASK, max(ROWS_A_TASK, len(rows) // (TASKS_AN_ACTOR * self.count)))
        parts = [dict(rows[i : i + size]) for i in range(0, len(rows), size)]
        waiting = [(part, 0) for part in reversed(parts)]
        free, running = list[Any](), dict[Any, tuple[Any, Rows, int]]()
        part_of_all = len(self.settings.part(self.dataset))
        progress = Progress(part_of_all, self.settings.dataset, done=part_of_all - len(todo))
        with progress:
            while waiting or running:
                while waiting and free:
                    part, deaths = waiting.pop()
                    actor = free.pop()
                    running[actor.extract.remote(part)] = (actor, part, deaths)
                finished, _ = self.ray.wait([*running, *self.starting], num_returns=1, timeout=5.0)
                for reference in finished:
                    if reference in self.starting:
                        free += self._started(reference, progress)
                        continue
                    actor, part, deaths = running.pop(reference)
                    try:
                        self._add(self.ray.get(reference))
                        free.append(actor)
                        for _ in part:
                            progress.step()
                    except self.ray.exceptions.RayActorError as error:
                        if deaths + 1 == DEATHS:
                            raise CiaError(f"actors died {DEATHS} times over the same rows ({last_line(error)})") from error
                        progress.line(f"an actor died; its unfinished rows of {len(part)} are handed out again")
                        waiting.append((self._unfinished(part), deaths + 1))
                        self._start()
                    except self.ray.exceptions.RayTaskError as error:
                        raise self._as_cia_error(error) from error

    def _start(self) -> None:
        actor = self.new_actor()
        self.starting[actor.ready.remote()] = actor

    def _started(self, reference: Any, progress: Progress) -> list[Any]:
        """The actor that is ready; none where it died as it started, and another is started."""
        actor = self.starting.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayActorError as error:
            self.died_starting += 1
            if self.died_starting == DEATHS:
                raise CiaError(f"actors died {DEATHS} times as they started ({last_line(error)})") from error
            progress.line("an actor died as it started; another is started")
            self._start()
            return []
        self.died_starting = 0
        return [actor]

    def _unfinished(self, part: Rows) -> Rows:
        still = rows_to_do(self.dataset, self.settings)
        return {row: still[row] for row in part if row in still}

    def _add(self, done: Summary) -> None:
        self.summary.extracted_now += done.extracted_now
        self.summary.windows += done.windows
        self.summary.elsewhere += done.elsewhere
        self.summary.failed |= done.failed
        for stage, seconds in done.seconds.items():
            self.summary.seconds[stage] += seconds

    def _as_cia_error(self, error: Any) -> Exception:
        cause = getattr(error, "cause", None)
        return cause if isinstance(cause, CiaError) else CiaError(f"an actor failed: {last_line(error)}; see Ray's logs")
