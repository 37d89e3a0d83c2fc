"""Stage one from settings to a filled feature file."""

import contextlib
import time
from dataclasses import replace
from functools import cached_property
from typing import Any

from cia_extract import features
from cia_extract.clips import flow
from cia_extract.common import switches
from cia_extract.common.console import Progress, Say
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.shortage import shortage_said
from cia_extract.common.version import __version__
from cia_extract.extraction.clips_to_rows import Pass
from cia_extract.extraction.settings import Settings, Summary, rows_to_do
from cia_extract.features import DatasetFeatures, failures, write_failures, writer
from cia_extract.networks import Engine, engines, example, network_of, weights


def extract(settings: Settings, say: Say) -> Summary:
    """Fill the feature file and return what happened. Raises CiaError; per-clip failures are in the summary."""
    extraction = Extraction(settings, say)
    dataset = extraction.begin_or_continue()
    summary = Summary(len(dataset))
    flow.cache.tidy(settings.flow_cache)
    began = time.perf_counter()
    try:
        extraction.run(dataset, rows_to_do(dataset, settings), summary)
    except OSError as error:
        raise _stopped(settings, error) from error
    finally:
        summary.seconds["wall"] = time.perf_counter() - began
        if settings.out.exists():
            finish(settings, dataset, summary, say)
    if not settings.out.exists():
        raise _stopped(settings, None)
    return summary


def _stopped(settings: Settings, error: OSError | None) -> DataError:
    """What to say of a disk that is full, a folder that is gone, or a feature file that was taken away."""
    if error is None or not settings.out.exists():
        return DataError(f"{settings.out}: was removed or renamed while extraction ran, and the features with it; extract again")
    where, why = error.filename or settings.out, error.strerror or error
    return DataError(f"{where}: {why}, so extraction stopped; what is finished is kept: mend it and run the same command again")


def finish(settings: Settings, dataset: DatasetFeatures, summary: Summary, say: Say) -> None:
    """The summary's totals from the file, and `failed.csv` beside it. Failures are those of the shard's own rows."""
    summary.done = int(dataset.done().sum())
    summary.outcomes = failures.counts(dataset)
    own = set(dataset.columns["clip"][settings.part(dataset)].tolist())
    summary.damaged = {clip: message for clip, message in failures.damaged(dataset).items() if clip in own}
    for entry in failures.entries(dataset, features.FAILED):
        if entry.clip in own:
            summary.failed.setdefault(entry.clip, entry.message or "failed in a former run")
    problem = write_failures(settings.out)
    if problem:
        say(problem)
    features.tidy(dataset)


class Extraction:
    """One dataset's settings and all that fills its rows: weights, engines, and what the file holds.

    Weights, device and engine are checked before the file is touched.
    """

    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings, self.say = settings, say
        engines.check_engine("eager" if settings.deterministic else settings.engine, settings.precision, settings.device)
        backbone = settings.recipe.backbone
        choices = weights.choose(settings.modalities, settings.weights, backbone)
        if "auto" in choices.values():
            self.reopen()
            choices = weights.settle(choices, self._weights_so_far(), say)
        self.weights = {m: weights.load(network_of(backbone, m), m, choices[m], say) for m in settings.modalities}
        for modality, loaded in self.weights.items():
            say(f"{modality} weights: {loaded.name} ({loaded.provenance})")
        self._engines: dict[str, Engine] = {}
        self.reopen()  # as late as can be: what is read here is what `begin_or_continue` goes on with
        if "flow" in settings.modalities:
            self.settings = replace(settings, flow_by=self._flow_by())
            _check_flow(self.settings)

    def reopen(self) -> None:
        """Read what the file holds. Needed again wherever time has passed in which another process may have changed it."""
        self._datasets = writer.open_to_fill(self.settings.out)

    def begin_or_continue(self) -> DatasetFeatures:
        """Make the dataset in the file, or continue the one that it holds. Raises MismatchError where the provenance differs."""
        settings = self.settings
        if self._begun is None:
            _ = self.engines  # whatever is wrong with them shows before a file is made or replaced
            self.reopen()  # they took up to a minute each: another process may have made the dataset
        columns, root = settings.manifest.columns, settings.root
        return writer.begin_or_continue(
            settings.out, settings.dataset, columns, self._provenance(), root, settings.overwrite, self._datasets
        )

    def run(self, dataset: DatasetFeatures, todo: dict[int, tuple[str, ...]], summary: Summary, quiet: bool = False) -> None:
        """Extract these rows, but for those that other processes have claimed. `quiet`: somebody else shows progress."""
        if not todo:
            return
        settings = self.settings
        part = len(settings.part(dataset))
        with (
            features.to_fill(dataset, self.say) as (claims, rows),
            Progress(part, settings.dataset, done=part - len(todo), quiet=quiet) as progress,
            switches.deterministic_cudnn(settings.deterministic),
            self._shortage_said(),
        ):
            skipped = Pass(settings, dataset, todo, self.engines, rows, claims, progress, summary).run()
            if skipped:  # once more over what other processes had: they may have died
                todo = {row: todo[row] for row in skipped}
                skipped = Pass(settings, dataset, todo, self.engines, rows, claims, progress, summary).run()
            summary.elsewhere = len(skipped)

    @property
    def engines(self) -> dict[str, Engine]:
        """By modality; built and tested when first asked for, which takes from a second to a minute each."""
        if not self._engines:
            with switches.deterministic_cudnn(self.settings.deterministic), self._shortage_said():
                self._engines = {modality: self._engine(modality) for modality in self.settings.modalities}
        return self._engines

    def _shortage_said(self) -> contextlib.AbstractContextManager[None]:
        """Where memory is too small inside, one line says what to lower."""
        on_device = self.settings.flow_by == "device"
        advice = "take a smaller --batch, fewer --workers" + (" or --flow-by opencv" if on_device else "")
        return shortage_said(f"{self.settings.dataset} on {self.settings.device}", f"{advice}; what is finished is kept")

    def _engine(self, modality: str) -> Engine:
        settings, recipe = self.settings, self.settings.recipe
        backbone = network_of(recipe.backbone, modality)
        eps = recipe.network.bn_eps if backbone == recipe.backbone else None  # not for sound beside I3D
        network = weights.build(backbone, modality, self.weights[modality], eps=eps).fold()
        engine = engines.build(
            network,
            recipe,
            example(recipe, modality),
            settings.device,
            "eager" if settings.deterministic else settings.engine,
            settings.precision,
            1 if settings.deterministic else settings.batch,
            self._rows_to_come() * recipe.sampling.frames,
            self.say,
        )
        how = f"{engine.name}, {engine.precision}, {engine.device}"
        self.say(f"{modality} network: {how}; cosine {engine.cosine:.7f} with eager float32")
        return engine

    def _provenance(self) -> features.Provenance:
        """Everything that decides the numbers in the file, and what they were made with."""
        settings = self.settings
        made_with: dict[str, Any] = {modality: engine.describe() for modality, engine in self._engines.items()}
        if "flow" in settings.modalities:
            made_with["flow_by"] = flow.implementation(settings.flow_by)
        return {
            "dataset": settings.dataset,
            "backbone": settings.recipe.backbone,
            "modalities": list(settings.modalities),
            "weights": {modality: loaded.describe() for modality, loaded in self.weights.items()},
            "frames": settings.recipe.sampling.frames,
            "preprocessing": settings.recipe.knobs(settings.modalities),
            "arithmetic": f"{settings.precision}, batch normalisation folded",
            "manifest_sha256": self._manifest_sha256,
            "code_version": __version__,
            "engine": made_with,
        }

    @cached_property
    def _manifest_sha256(self) -> str:
        """Seconds for a million rows, and an actor needs it before each of its tasks."""
        return self.settings.manifest.sha256()

    @property
    def _begun(self) -> DatasetFeatures | None:
        """The dataset in the file that is to be continued."""
        return None if self.settings.overwrite else self._datasets.get(self.settings.dataset)

    def _weights_so_far(self) -> dict[str, str]:
        """{modality: name of its weights} of the dataset that is continued, else of the file's others: domains are compared."""
        others = [dataset for name, dataset in self._datasets.items() if name != self.settings.dataset]
        datasets = others if self._begun is None else [self._begun]
        return {m: str(each.get("name")) for d in datasets for m, each in d.provenance.get("weights", {}).items()}

    def _flow_by(self) -> str:
        """What computes the flow: in a dataset that is continued, what it was begun by."""
        settings = self.settings
        begun_by = "" if self._begun is None else self._begun.provenance.get("engine", {}).get("flow_by", "")
        return flow.choose(
            settings.flow_by, settings.recipe.flow, settings.device.type, begun_by, deterministic=settings.deterministic
        )

    def _rows_to_come(self) -> int:
        """About how many: an engine that takes long to make is worth it for many rows only."""
        return len(self.settings.manifest) if self._begun is None else len(rows_to_do(self._begun, self.settings))


def _check_flow(settings: Settings) -> None:
    """Raise UsageError where OpenCV is the package without TV-L1."""
    try:
        flow.estimator(settings.recipe.flow, settings.flow_by)
    except AttributeError as error:
        raise UsageError(
            "this OpenCV has no TV-L1 (cv2.optflow is missing): another opencv package shadows opencv-contrib-python-headless; "
            "pip uninstall the others and install that one again"
        ) from error
