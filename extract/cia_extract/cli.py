"""`cia-extract`: the command line of stage one. Heavy imports stay inside the commands, so that --help is instant."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cia_extract import __version__, console
from cia_extract.errors import DataError, UsageError

app = console.application(
    "Turn action clips into one HDF5 file of I3D features (RGB and flow). A second run of the same command continues."
)


def main() -> None:
    console.run(app, "cia-extract")


@app.callback(invoke_without_command=True)
def extract(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="Name of the dataset in the file: demo, or your own with --manifest.")] = "",
    backbone: Annotated[str, typer.Option(help="Network that describes the windows: i3d.")] = "i3d",
    root: Annotated[Path | None, typer.Option(help="Folder of the clips. [default: $CIA_DATA/NAME or data/NAME]")] = None,
    manifest: Annotated[Path | None, typer.Option(help="CSV of the clips. [default: ROOT/manifest.csv]")] = None,
    out: Annotated[Path, typer.Option(help="The feature file; a second dataset goes into the same one.")] = Path("feats.h5"),
    modality: Annotated[list[str], typer.Option(help="rgb or flow; repeat for both.")] = ["rgb", "flow"],  # noqa: B006
    frames: Annotated[int, typer.Option(min=1, help="Frames described per clip.")] = 25,
    window: Annotated[int, typer.Option(min=10, help="Frames around each that the network sees.")] = 16,
    flow: Annotated[str, typer.Option(help="tvl1 (reference, slow) or dis (fast).")] = "tvl1",
    weights: Annotated[
        list[str],
        typer.Option(help="[rgb=|flow=]FILE, kinetics or random; repeat. [default: kinetics]", show_default=False),
    ] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes for decoding and flow.")] = os.cpu_count() or 1,
    clips_per_class: Annotated[int, typer.Option(min=1, help="demo: training clips per class and domain.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="demo: seed of the rendered clips.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start this dataset anew.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try clips again that failed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and how long it would take.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if context.invoked_subcommand:
        return
    if version:
        print(f"cia-extract {__version__}")
        return
    if not dataset:
        raise UsageError("--dataset is missing; try: cia-extract --dataset demo")
    if backbone != "i3d":
        raise UsageError(f"--backbone {backbone}: unknown, choose from: i3d")
    _check_choices("--flow", [flow], ("tvl1", "dis"))
    _check_choices("--modality", modality, ("rgb", "flow"))
    from cia_extract import sources

    source = sources.find(dataset, manifest, root, clips_per_class, seed, workers, render=not dry_run)
    from cia_extract import pipeline, plan

    settings = pipeline.Settings(
        dataset,
        source.manifest,
        source.root,
        out,
        backbone,
        tuple(m for m in ("rgb", "flow") if m in modality),
        frames,
        window,
        flow,
        tuple(weights),
        console.device(device),
        workers,
        overwrite,
        retry_failed,
    )
    if dry_run:
        planned = plan.plan(settings)
        console.print_json(planned) if as_json else console.print_fields(planned)
        return
    summary = pipeline.extract(settings, console.say)
    if as_json:
        console.print_json(vars(summary) | {"out": str(out), "dataset": dataset})
    else:
        s = summary.seconds
        print(
            f"{dataset}: {summary.done} of {summary.clips} clips done, {len(summary.failed)} failed, in {out} "
            f"({summary.extracted_now} now, {s['wall']:.0f} s; network {s['network']:.0f} s for {summary.windows} windows, "
            f"decode {s['decode']:.0f} s and flow {s['flow']:.0f} s over {workers} workers)"
        )
    if summary.failed:
        clip, why = next(iter(summary.failed.items()))
        raise DataError(
            f"{len(summary.failed)} of {summary.clips} clips failed: {clip} ({why})"
            f"{', …' if len(summary.failed) > 1 else ''}; all are listed in {pipeline.failures_path(out)}; "
            "mend them and add --retry-failed"
        )


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A feature file.")] = Path("feats.h5"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show what a feature file holds: datasets, clips, states, weights and recipe."""
    from cia_extract import features

    found = {name: _describe(dataset) for name, dataset in features.open_features(file).items()}
    if as_json:
        console.print_json(found)
        return
    for name, fields in found.items():
        print(f"{file}: dataset '{name}'")
        console.print_fields(fields, indent="  ")


@app.command()
def verify(file: Annotated[Path, typer.Argument(help="A feature file.")] = Path("feats.h5")) -> None:
    """Read every finished row and check it against its CRC32C. Exit code 3 when any is damaged."""
    from cia_extract import features

    damaged, rows = [], 0
    for name, dataset in features.open_features(file).items():
        for modality in dataset.modalities:
            damaged += [f"{name}: {line}" for line in dataset.damaged_rows(modality)]
            rows += int(dataset.done([modality]).sum())
    for line in damaged:
        print(line)
    if damaged:
        raise DataError(f"{file}: {len(damaged)} of {rows} rows are damaged; extract again with --overwrite")
    print(f"{file}: {rows} rows, all as they were written")


@app.command()
def manifest(
    from_folders: Annotated[Path, typer.Option(help="Folder with <class>/<clip> or <split>/<class>/<clip>.")],
    out: Annotated[Path | None, typer.Option(help="The CSV to write. [default: DIR/manifest.csv]")] = None,
    val_every: Annotated[int, typer.Option(min=0, help="Without split folders: every n-th clip of a class is val.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing CSV.")] = False,
) -> None:
    """Write a manifest from class folders."""
    from cia_extract import manifest as manifests
    from cia_extract.errors import MismatchError

    made = manifests.from_folders(from_folders, val_every)
    path = out or from_folders / "manifest.csv"
    if path.exists() and not overwrite:
        raise MismatchError(f"{path}: is there already; pass --overwrite or another --out")
    try:
        made.write(path)
    except OSError as error:
        raise UsageError(f"--out {path}: {error.strerror}") from error
    labels, splits = len(set(made.columns["label"])), sorted(set(made.columns["split"]))
    print(f"{path}: {len(made)} clips, {labels} classes, splits {', '.join(splits)}")


def _check_choices(flag: str, values: list[str], allowed: tuple[str, ...]) -> None:
    for value in values:
        if value not in allowed:
            raise UsageError(f"{flag} {value}: unknown, choose from {', '.join(allowed)}")


def _describe(dataset: Any) -> dict[str, Any]:
    from collections import Counter

    from cia_extract import features

    status, states = (
        dataset.array("status"),
        {"to do": features.TO_DO, "done": features.DONE, "failed": features.FAILED},
    )
    columns = dataset.columns
    domains = columns.get("domain", [dataset.name] * len(dataset))
    splits = Counter(f"{domain}/{split}" for domain, split in zip(domains, columns["split"], strict=True))
    return {
        "clips": len(dataset),
        "clips by domain and split": dict(sorted(splits.items())),
        "classes": sorted(set(columns["label"])),
        **{
            modality: {state: int((status[:, m] == code).sum()) for state, code in states.items()}
            for m, modality in enumerate(dataset.modalities)
        },
        "gigabytes": round(len(dataset) * len(dataset.modalities) * features.row_bytes(dataset.frames) / 1e9, 3),
        "recipe": dataset.recipe,
        "digest": dataset.digest(),
    }
