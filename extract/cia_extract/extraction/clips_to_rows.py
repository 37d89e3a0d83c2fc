"""Prepared clips come in, batches fill across them, and rows are written as they are complete."""

import time
from collections.abc import Iterator, Mapping

from cia_extract.clips import ClipJob, FramePairs, PreparedClip, Windows
from cia_extract.clips.flow import cache
from cia_extract.common.console import Progress
from cia_extract.common.errors import DataError
from cia_extract.common.outcomes import OK, ClipError
from cia_extract.extraction.flow_batches import DeviceFlow
from cia_extract.extraction.settings import Settings, Summary
from cia_extract.extraction.window_batches import Batcher, Maps
from cia_extract.features import Claims, DatasetFeatures, RowWriter, write_failures
from cia_extract.networks import Engine

FAILURES_EVERY_S = 10.0

TOO_MANY = 100


class Consumer:
    """One pass over rows. `jobs` says what is to be prepared, `consume` takes it and fills `summary`."""

    def __init__(
        self,
        settings: Settings,
        dataset: DatasetFeatures,
        todo: Mapping[int, tuple[str, ...]],
        engines: Mapping[str, Engine],
        rows: RowWriter,
        claims: Claims,
        progress: Progress,
        summary: Summary,
    ) -> None:
        self.settings, self.dataset, self.todo, self.summary = settings, dataset, todo, summary
        self.rows, self.claims, self.progress = rows, claims, progress
        self.batchers = {m: Batcher(engine, settings.recipe, m) for m, engine in engines.items()}
        on_device = settings.flow_by == "device" and "flow" in engines
        self.flow = DeviceFlow(settings.recipe, settings.device) if on_device else None
        self.jobs_of: dict[int, ClipJob] = {}
        self.clips: dict[int, PreparedClip] = {}  # in work
        self.lacking: dict[int, set[str]] = {}  # their modalities that are yet to be written
        self.wrote_failures = time.monotonic()
        self.warnings: set[str] = set()
        self.skipped: list[int] = []
        """Rows that another process had when this one came by."""
        self.failed_in_a_row = 0

    def jobs(self) -> Iterator[tuple[int, ClipJob]]:
        """Rows to prepare, claimed as they are handed out; those that another process has, or has done meanwhile, are left.

        `prepared_clips` reads this in the thread that calls `consume`: nothing here is shared between threads.
        """
        wanted = self.settings.states_to_do
        for row in self.todo:
            if not self.claims.take(row):
                self.skipped.append(row)
                continue
            states = zip(self.dataset.modalities, self.rows.state(row), strict=True)
            lacking = tuple(modality for modality, state in states if state in wanted)
            if not lacking:  # another process has done it since this one started
                self.claims.give_back(row)
                self.progress.step()
                continue
            self.jobs_of[row] = self.settings.job(row, lacking, self.settings.flow_by)
            yield row, self.jobs_of[row]

    def consume(self, prepared: Iterator[tuple[int, PreparedClip | ClipError]]) -> None:
        """Take clips as they come, and see everything through to the file."""
        seconds, clock = self.summary.seconds, time.perf_counter()
        for row, result in prepared:
            seconds["waiting"] += time.perf_counter() - clock
            clock = time.perf_counter()
            self._take(row, result)
            seconds["network"] += time.perf_counter() - clock
            clock = time.perf_counter()
        if self.flow is not None:
            self._flows(self.flow.flush())
        for modality, batcher in self.batchers.items():
            self._store(modality, batcher.flush())
            self.summary.windows += batcher.described
        seconds["network"] += time.perf_counter() - clock

    def _take(self, row: int, result: PreparedClip | ClipError) -> None:
        modalities = set(self.jobs_of[row].modalities)
        self.lacking[row] = modalities
        if isinstance(result, ClipError):
            for modality in sorted(modalities):
                self._fail(row, modality, result)
            # Clips that are not there are known and told at the start, unless the whole folder has gone since.
            self.failed_in_a_row += result.outcome.name != "missing"
            if self.failed_in_a_row == TOO_MANY or not self.settings.root.is_dir():
                raise DataError(
                    f"stopped: {self.failed_in_a_row} clips in a row cannot be used, the last: {result}; is {self.settings.root} "
                    "still there? Mend it and run the same command with --retry-failed"
                )
            return
        self.failed_in_a_row = 0
        self.clips[row] = result
        self.rows.write_clip(row, result.n_frames, result.fps, result.centres)
        self.summary.seconds["decode"] += result.decode_s
        self.summary.seconds["flow"] += result.flow_s
        self._warn(result.warning)
        for modality, error in result.errors.items():
            self._fail(row, modality, error)
        for modality in list(result.windows):
            self._store(modality, self.batchers[modality].add(row, result.windows.pop(modality)))
        if self.flow is not None and result.pairs is not None:
            pairs, result.pairs = result.pairs, None
            self._flows(self.flow.add(row, pairs))
            if self.settings.deterministic:  # alone in its batch
                self._flows(self.flow.flush())

    def _flows(self, computed: Iterator[tuple[int, FramePairs, Windows]]) -> None:
        for row, pairs, windows in computed:
            if self.settings.flow_cache:
                kept = cache.load(self.settings.flow_cache, self.jobs_of[row])
                kept |= zip(pairs.indices, windows.images, strict=True)
                self._warn(cache.save(self.settings.flow_cache, self.jobs_of[row], kept))
            self._store("flow", self.batchers["flow"].add(row, windows))

    def _store(self, modality: str, described: Iterator[tuple[int, Maps]]) -> None:
        for row, maps in described:
            clip = self.clips[row]
            try:
                self.rows.write_row(row, modality, maps, clip.outcomes.get(modality, OK), clip.present)
                self._settle(row, modality)
            except ClipError as error:
                self._fail(row, modality, error)

    def _fail(self, row: int, modality: str, error: ClipError) -> None:
        clip = str(self.dataset.columns["clip"][row])
        self.rows.fail(row, modality, error.outcome)
        if clip not in self.summary.failed and error.outcome.name != "missing":  # those the user was told of at the start
            self.progress.line(f"failed: {clip}: {error}")
        self.summary.failed[clip] = str(error)
        if time.monotonic() - self.wrote_failures > FAILURES_EVERY_S:
            self._warn(write_failures(self.settings.out))
            self.wrote_failures = time.monotonic()
        self._settle(row, modality)

    def _settle(self, row: int, modality: str) -> None:
        """A modality of a clip is in the file; with the last one the clip is left."""
        self.lacking[row].discard(modality)
        if self.lacking[row]:
            return
        del self.lacking[row], self.jobs_of[row]
        self.clips.pop(row, None)
        self.claims.give_back(row)
        if str(self.dataset.columns["clip"][row]) not in self.summary.failed:
            self.summary.extracted_now += 1
        self.progress.step(self._bottleneck())

    def _bottleneck(self) -> str:
        seconds = self.summary.seconds
        waiting = seconds["waiting"] / max(seconds["waiting"] + seconds["network"], 1e-9)
        if waiting > 0.5:
            return f"waits {waiting:.0%} of the time for decoding and flow"
        return f"the network is busy {1 - waiting:.0%} of the time"

    def _warn(self, warning: str) -> None:
        if warning and warning not in self.warnings:
            self.warnings.add(warning)
            self.progress.line(warning)
