"""`cia-adapt check`, `import` and `bench`: a feature file before anything is trained on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from cia_extract.common import console, flags
from msgspec import Meta

from cia_adapt import config
from cia_adapt.cli.options import Data, Device, Machine, Runs
from cia_adapt.cli.requests import request


def check(
    features: Annotated[Path, typer.Argument(help="The feature file.")],
    manifest: Annotated[
        list[str], typer.Option(help="[DOMAIN=]FILE: the clips that should be there; repeat.", show_default=False)
    ] = [],  # noqa: B006
    mapping: Annotated[list[str], typer.Option("--map", help="As --map of cia-adapt; repeat.", show_default=False)] = [],  # noqa: B006
    train_split: Annotated[str, typer.Option(help="As --train-split of cia-adapt.")] = "train",
    val_split: Annotated[
        str | None, typer.Option(help="As --val-split of cia-adapt. [default: val or test]", show_default=False)
    ] = None,
    labels: Annotated[str, typer.Option(help="As --labels of cia-adapt.")] = "label",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Check a feature file before anything is trained on it. It looks for missing and extra clips, classes of one domain only,
    wrong types, NaN, all-zero maps, duplicates and short clips. Exit code 3 for faults.

    Examples:
        cia-adapt check feats.h5
        cia-adapt check feats.h5 --manifest clips.csv
    """
    from cia_adapt.data import checking

    findings = checking.check(features, tuple(mapping), tuple(manifest), checking.Protocol.of(train_split, val_split, labels))
    if as_json:
        console.print_json({"findings": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            console.out(f"{finding.severity}: {finding.domain}: {finding.message}")
        faults, notes = (sum(finding.severity == severity for finding in findings) for severity in ("fault", "note"))
        console.out(f"{features}: {faults} faults, {notes} notes")
    if any(finding.severity == "fault" for finding in findings):
        raise typer.Exit(3)


def import_features(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of files by clip or frame, .npz of rows (clip, rgb, flow, audio), or EPIC-100's UDA pickles."
        ),
    ],
    manifest: Annotated[
        Path,
        typer.Option(
            help="The clips: a CSV with clip, label, split; path where two files have one name, domain for several domains."
        ),
    ],
    dataset: Annotated[str, typer.Option(help="Name of the dataset in the feature file; its domain where no column says.")],
    modality: Annotated[str | None, typer.Option(help="rgb, flow or audio, for a folder whose layout does not say it.")] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames kept of each clip, by TSN's rule. [default: 1 where clips have one, else 25]"),
    ] = None,
    out: Annotated[Path, typer.Option(help="The file of imported features to make or to add to.")] = Path("imported.h5"),
) -> None:
    """Import features of other tools into a feature file. They are .npy, .npz, .pt, .t7 or .pkl, one file a clip or one a
    frame, an .npz of many clips, or EPIC-100's released pickles. Clips are matched by id, or by path where the manifest has
    one.

    Examples:
        cia-adapt import features/rgb features/flow --manifest clips.csv --dataset mine --out mine.h5
        cia-adapt import target_train.pkl target_val.pkl --manifest target.csv --dataset target --out tbn.h5
    """
    from cia_adapt.data import importing

    counts = importing.import_features(paths, manifest, dataset, modality, frames, out)
    console.print_fields(counts)


@dataclass(frozen=True)
class Timing:
    """What to time."""

    method: tuple[str, ...] = ("source-only", "concat", "cia")
    """Methods to time; repeat."""
    setup: str = "uh"
    """Set-up whose batch and segments are timed."""
    batch: int | None = None
    """Source clips a step. [default: the set-up's]"""
    train_split: str | None = None
    """As --train-split of cia-adapt."""
    val_split: str | None = None
    """As --val-split of cia-adapt."""
    steps: Annotated[int, Meta(ge=1)] = 5
    """Number of steps of each method that are timed."""
    modality: tuple[str, ...] = ()
    """Use only this modality; repeat. [default: all]"""
    mapping: Annotated[tuple[str, ...], "--map"] = ()
    """As --map of cia-adapt; repeat."""


def bench(
    features: Annotated[Path, typer.Argument(help="The feature file.")],
    timing: Timing,
    device: Device,
) -> None:
    """Time reading and training on this machine. Reading is timed by tier (GB/s, clips/s), training by method (ms a step, share
    of the measured peak).

    Examples:
        cia-adapt bench feats.h5
        cia-adapt bench feats.h5 --method concat --steps 10
    """
    from cia_adapt.experiments import bench as benching

    given = {"batch": timing.batch, "train_split": timing.train_split, "val_split": timing.val_split}
    changed = {name: value for name, value in given.items() if value is not None}
    chosen = [config.load(timing.setup, name, changed) for name in timing.method]
    data = Data(features=features, modality=timing.modality, mapping=timing.mapping)
    asked = [request(one, data, Machine(**vars(device)), Runs()) for one in chosen]
    for line in benching.lines(asked, timing.steps):
        console.out(line)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(check)
    app.command("import")(import_features)
    app.command()(flags.command(bench))
