"""Clips are prepared, batches fill across them, and rows are written as they are complete."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing

from cia_extract.clips import ClipJob, FramePairs, PreparedClip, Windows, prepared_clips
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
TOO_MANY = 100  # clips in a row that cannot be used


class Pass:
    """One pass over rows: claim them, have their clips prepared, run the networks, write the rows, and fill `summary`.

    All of it happens in the thread that calls `run`, the claims and the counts too; worker processes only prepare clips.
    """

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
        self.device_flow = DeviceFlow(settings.recipe, settings.device) if on_device else None
        # Of the rows in work: the job, the modalities that are yet to be written, and the clip once it is prepared.
        self.jobs: dict[int, ClipJob] = {}
        self.unwritten: dict[int, set[str]] = {}
        self.clips: dict[int, PreparedClip] = {}
        self.skipped: list[int] = []
        self.failed_in_a_row = 0
        self.warnings: set[str] = set()
        self.wrote_failures = time.monotonic()

    def run(self) -> list[int]:
        """See all rows through to the file; returns those that another process had when this one came by."""
        seconds, clock = self.summary.seconds, time.perf_counter()
        with closing(prepared_clips(self._claimed_jobs(), self.settings.workers, self.settings.timeout)) as prepared:
            for row, result in prepared:
                seconds["waiting"] += time.perf_counter() - clock
                clock = time.perf_counter()
                if isinstance(result, ClipError):
                    self._fail_clip(row, result)
                else:
                    self._take(row, result)
                seconds["network"] += time.perf_counter() - clock
                clock = time.perf_counter()
        if self.device_flow is not None:
            self._take_flow(self.device_flow.flush())
        for modality, batcher in self.batchers.items():
            self._write(modality, batcher.flush())
            self.summary.windows += batcher.described
        seconds["network"] += time.perf_counter() - clock
        return self.skipped

    def _claimed_jobs(self) -> Iterator[tuple[int, ClipJob]]:
        """Rows to prepare, claimed as they are handed out; those that another process has, or has done meanwhile, are left."""
        to_do = self.settings.states_to_do
        for row in self.todo:
            if not self.claims.take(row):
                self.skipped.append(row)
                continue
            states = zip(self.dataset.modalities, self.rows.state(row), strict=True)
            lacking = tuple(modality for modality, state in states if state in to_do)
            if not lacking:  # another process has done it since this one started
                self.claims.give_back(row)
                self.progress.step()
                continue
            self.jobs[row], self.unwritten[row] = self.settings.job(row, lacking, self.settings.flow_by), set(lacking)
            yield row, self.jobs[row]

    def _take(self, row: int, clip: PreparedClip) -> None:
        """Give a prepared clip's windows to the batches, and write what they complete."""
        self.failed_in_a_row = 0
        self.clips[row] = clip
        self.rows.write_clip(row, clip.n_frames, clip.fps, clip.centres)
        self.summary.seconds["decode"] += clip.decode_s
        self.summary.seconds["flow"] += clip.flow_s
        self._warn(clip.warning)
        for modality, error in clip.errors.items():
            self._fail(row, modality, error)
        for modality in list(clip.windows):
            self._write(modality, self.batchers[modality].add(row, clip.windows.pop(modality)))
        if self.device_flow is not None and clip.pairs is not None:
            pairs, clip.pairs = clip.pairs, None
            self._take_flow(self.device_flow.add(row, pairs))
            if self.settings.deterministic:  # alone in its batch
                self._take_flow(self.device_flow.flush())

    def _take_flow(self, computed: Iterator[tuple[int, FramePairs, Windows]]) -> None:
        """Give windows of flow that the device has computed to the batches, and to the cache."""
        for row, pairs, windows in computed:
            if self.settings.flow_cache:
                kept = cache.load(self.settings.flow_cache, self.jobs[row])
                kept |= zip(pairs.indices, windows.images, strict=True)
                self._warn(cache.save(self.settings.flow_cache, self.jobs[row], kept))
            self._write("flow", self.batchers["flow"].add(row, windows))

    def _write(self, modality: str, described: Iterator[tuple[int, Maps]]) -> None:
        """Write the rows that a batch has completed."""
        for row, maps in described:
            clip = self.clips[row]
            try:
                self.rows.write_row(row, modality, maps, clip.outcomes.get(modality, OK), clip.present)
                self._settle(row, modality)
            except ClipError as error:
                self._fail(row, modality, error)

    def _fail_clip(self, row: int, error: ClipError) -> None:
        """A clip that cannot be used at all. Raises DataError after too many of them: then it is not the clips' fault."""
        for modality in sorted(self.unwritten[row]):
            self._fail(row, modality, error)
        # Clips that are missing were told at the start, unless the whole folder has gone since.
        self.failed_in_a_row += error.outcome.name != "missing"
        if self.failed_in_a_row == TOO_MANY or not self.settings.root.is_dir():
            raise DataError(
                f"stopped: {self.failed_in_a_row} clips in a row cannot be used, the last: {error}; is {self.settings.root} "
                "still there? Mend it and run the same command with --retry-failed"
            )

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
        """A modality of a row is in the file, done or failed; with the last one the row is left."""
        self.unwritten[row].discard(modality)
        if self.unwritten[row]:
            return
        del self.unwritten[row], self.jobs[row]
        self.clips.pop(row, None)
        self.claims.give_back(row)
        if str(self.dataset.columns["clip"][row]) not in self.summary.failed:
            self.summary.extracted_now += 1
        self.progress.step(self._bottleneck())

    def _bottleneck(self) -> str:
        """What holds the extraction up, for the progress line."""
        seconds = self.summary.seconds
        waiting = seconds["waiting"] / max(seconds["waiting"] + seconds["network"], 1e-9)
        if waiting > 0.5:
            return f"waits {waiting:.0%} of the time for decoding and flow"
        return f"the network is busy {1 - waiting:.0%} of the time"

    def _warn(self, warning: str) -> None:
        """Show a warning, once."""
        if warning and warning not in self.warnings:
            self.warnings.add(warning)
            self.progress.line(warning)
