"""`cia-adapt predict` and `submit`: what finished runs say of any clips, and EPIC-KITCHENS-100's challenge."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from cia_extract.common import console, flags
from cia_extract.common.errors import UsageError
from msgspec import Meta

from cia_adapt.cli.options import Device, Frames

if TYPE_CHECKING:
    from cia_adapt.results import challenge, predicting

Level = Annotated[int, Meta(ge=0, le=5)]


@dataclass(frozen=True)
class Which:
    """Which features, and which model of a run."""

    features: Path | None = None
    """The feature file. [default: that of the run]"""
    mapping: Annotated[tuple[str, ...], "--map"] = ()
    """DOMAIN/NAME=PATH: where an array lies in an HDF5 file of another tool; repeat."""
    which: Literal["selected", "last"] = "selected"
    """The model of the selected epoch, or of the last."""


@dataclass(frozen=True)
class Clips:
    """Which clips `predict` is asked for, and where the answer goes."""

    dataset: str | None = None
    """Domain or dataset of the feature file to predict. [default: the run's target]"""
    split: str = "all"
    """Split to predict, or all. Labels are neither needed nor read."""
    out: Path = Path("scores.csv")
    """File to write, which ends in .csv or .h5."""


@dataclass(frozen=True)
class Submission:
    """What `submit` writes or checks."""

    out: Path | None = None
    """The zip to write."""
    check: Path | None = None
    """Zip to check, whoever wrote it, instead of writing one."""
    timestamps: Path | None = None
    """EPIC_100_uda_target_test_timestamps.csv: the clips that must be there. [default: those of the feature file]"""
    with_source: bool = False
    """Predict the source's test clips as well (results_source)."""
    source_timestamps: Path | None = None
    """EPIC_100_uda_source_test_timestamps.csv: as --timestamps, for results_source."""
    sls_pt: Level = 2
    """Pretraining: 0 none, 1 public images, 2 public images and video, 3 self-supervised public, 4 and EPIC, 5 private."""
    sls_tl: Level = 3
    """Training labels: 0 none to 3 full temporal, up to 5."""
    sls_td: Level = 3
    """Training data: 0 zero-shot, 1 few-shot, 2 at most 25 %, 3 train, 4 train and val, 5 more."""


def _predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    which: Which,
    frames: Frames,
    clips: Clips,
    device: Device,
) -> None:
    """Predict clips with a finished run. Each gets a class and the scores of all classes. They are clips with features, or
    --clips where the run trained its backbone.

    Examples:
        cia-adapt predict runs/demo/cia/indoor-outdoor/seed0 --features new.h5 --dataset new
        cia-adapt predict runs/uh/cia/hmdb-ucf/seed0 --split val --out scores.h5
    """
    from cia_adapt.results import predicting
    from cia_adapt.runs import files as run_folders

    folder = run_folders.find_one(run)
    predicting.check_out(clips.out)
    scores = scores_of(folder, which, frames, clips, device)
    origin = {"run": str(folder.resolve()), "epoch": which.which, "split": clips.split}
    predicting.write(clips.out, scores, origin)
    console.out(f"{clips.out}: {len(scores.clips)} clips")


def scores_of(folder: Path, which: Which, frames: Frames, clips: Clips, device: Device) -> "predicting.Scores":
    """What the run in `folder` predicts for these clips. Clips without features are said."""
    from cia_adapt.results import predicting

    asked = replace(_asked(which, frames, device), dataset=clips.dataset, split=clips.split)
    scores = predicting.scores_of(folder, asked, console.say)
    if scores.not_extracted:
        console.say(f"note: {len(scores.not_extracted)} clips have no features yet and are left out")
    return scores


def _submit(
    which: Which,
    frames: Frames,
    submission: Submission,
    device: Device,
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders, or folders above them: their softmaxes are averaged.")
    ] = None,
) -> None:
    """Write or check a submission to EPIC-KITCHENS-100's challenge. The challenge is that of domain adaptation.
    Exit code 5 where the submission is not valid.

    Examples:
        cia-adapt submit runs/e100/cia --out test.zip
        cia-adapt submit --check test.zip --timestamps EPIC_100_uda_target_test_timestamps.csv
    """
    from cia_adapt.results import challenge

    if submission.source_timestamps is not None and not (submission.check or submission.with_source):
        raise UsageError("--source-timestamps: says which clips --with-source predicts; add --with-source, or leave it out")
    listed = {"results_target": submission.timestamps, "results_source": submission.source_timestamps}
    ids = {name: challenge.official.ids(path) for name, path in listed.items() if path is not None}
    if submission.check is not None:
        if runs or submission.out:
            raise UsageError("--check: checks a file; leave runs and --out out")
        if submission.timestamps is None:
            raise UsageError("--timestamps is missing: give EPIC_100_uda_target_test_timestamps.csv, whose clips must be there")
        if submission.with_source and submission.source_timestamps is None:
            raise UsageError(
                "--source-timestamps is missing: with --with-source --check looks for the clips of "
                "EPIC_100_uda_source_test_timestamps.csv too; give it, or leave --with-source out"
            )
        if not submission.check.is_file():
            raise UsageError(f"--check {submission.check}: no such file")
        counts = challenge.check(submission.check, ids)
        console.out(f"{submission.check}: valid, {_counted(counts)}")
        return
    if not runs or submission.out is None:
        raise UsageError("give runs and --out, such as: cia-adapt submit runs/e100/cia --out test.zip; or --check FILE")
    challenge.submission.check_out(submission.out)
    results = {}
    for name, role in (("results_target", "target"), ("results_source", "source"))[: 1 + submission.with_source]:
        results[name], expected = _test_clips(runs, _asked(which, frames, device), role)
        ids.setdefault(name, expected)
    levels = {name: getattr(submission, name) for name in challenge.LEVELS}
    counts = challenge.submission.write(submission.out, challenge.submission.content(results, levels), ids)
    console.out(f"{submission.out}: valid, {_counted(counts)}; levels {', '.join(f'{k} {v}' for k, v in levels.items())}")


def _test_clips(runs: list[Path], asked: "predicting.Asked", role: str) -> tuple["challenge.submission.Averaged", list[str]]:
    """(the runs' averaged probabilities for the test clips of their target or source, ids of all clips that were asked for)."""
    from cia_adapt.results import challenge, predicting
    from cia_adapt.runs import files as run_folders

    scores, names = [], []
    for folder in run_folders.find(runs):
        domain = run_folders.read_config(folder)[role]
        console.say(f"{folder}: predicts the test clips of '{domain}'")
        scores.append(predicting.scores_of(folder, replace(asked, dataset=domain, split="test"), console.say))
        names.append(str(folder))
    averaged = challenge.submission.averaged(scores, names)
    return averaged, [*averaged.clips, *scores[0].not_extracted]


def _asked(which: Which, frames: Frames, device: Device) -> "predicting.Asked":
    if which.features is not None and frames.clips:
        raise UsageError("--features and --clips: give one of both, a feature file or the clips themselves")
    from cia_adapt import footage
    from cia_adapt.results import predicting

    return predicting.Asked(
        features=which.features,
        mapping=which.mapping,
        footage=footage.Footage(frames.clips, frames.root, frames.frame_cache, (), frames.flow, frames.processes)
        if frames.clips
        else None,
        epoch=which.which,
        device=console.device(device.device),
        precision=device.precision,
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} clips in {name}" for name, count in counts.items())


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("predict")(flags.command(_predict))
    app.command("submit")(flags.command(_submit))
