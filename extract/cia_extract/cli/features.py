"""The sub-commands of `cia-extract` beside `weights`: looking at feature files, manifests and recipes."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cia_extract.common import console
from cia_extract.common.errors import DataError, MismatchError, UsageError

if TYPE_CHECKING:
    from cia_extract.features import DatasetFeatures

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
File = Annotated[Path, typer.Argument(help="A feature file.")]


def register(app: typer.Typer) -> None:
    for command in (info, verify, compare, merge, manifest, recipes):
        app.command()(command)


def info(file: File = Path("feats.h5"), as_json: Json = False) -> None:
    """Show what a feature file holds: datasets, clips, states, weights and recipe."""
    from cia_extract import features

    found = {name: _describe(dataset) for name, dataset in features.open_features(file).items()}
    if as_json:
        console.print_json(found)
        return
    for name, fields in found.items():
        console.out(f"{file}: dataset '{name}'")
        console.print_fields(fields, indent="  ")


def verify(
    file: File = Path("feats.h5"),
    redo: Annotated[bool, typer.Option("--redo", help="Put damaged rows back among those to do.")] = False,
) -> None:
    """Read every finished row and check it against its CRC32C. Exit code 3 when any is damaged."""
    from cia_extract import features
    from cia_extract.features import RowWriter

    damaged, rows = 0, 0
    for name, dataset in features.open_features(file).items():
        for modality in dataset.modalities:
            rows += int(dataset.done([modality]).sum())
            for row, line in dataset.damaged_rows(modality).items():
                console.out(f"{name}: {line}")
                damaged += 1
                if redo:
                    with RowWriter(dataset) as writer:
                        writer.redo(row, modality)
    if damaged and redo:
        console.out(f"{file}: {damaged} of {rows} rows are to be done again; run the cia-extract command that made the file")
        return
    if damaged:
        raise DataError(f"{file}: {damaged} of {rows} rows are damaged; add --redo, then run the command that made the file")
    console.out(f"{file}: {rows} rows, all as they were written")


def compare(
    a: Annotated[Path, typer.Argument(help="A feature file, or a folder of .npy, .npz or .pt files.")],
    b: Annotated[Path, typer.Argument(help="The other one.")],
    dataset: Annotated[str, typer.Option(help="Which dataset of a feature file. [default: the common one]")] = "",
    again: Annotated[bool, typer.Option("--again", help="Extract a clip of A again in other ways, to find what B did.")] = False,
    weights: Annotated[list[str], typer.Option(help="--again: A's weights, where they are not the default ones.")] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Compare features clip by clip, and say where differences may come from."""
    from cia_extract.comparison import compare as comparing
    from cia_extract.comparison import reextraction

    repeat = reextraction.of(a, dataset or None, weights) if again else None
    found = comparing.compare(a, b, dataset or None, repeat)
    if repeat is not None and repeat.note:
        found.diagnosis.insert(0, repeat.note)
    if as_json:
        console.print_json(found.as_dict())
        return
    for line in comparing.lines(found):
        console.out(line)


def merge(
    files: Annotated[list[Path], typer.Argument(help="Feature files made apart, for example with --shard on several machines.")],
    out: Annotated[Path, typer.Option(help="The file to make or continue.")],
) -> None:
    """Put the finished rows of several feature files into one. Rows are checked as they are copied; a second run continues."""
    from cia_extract.features import merging

    for line in merging.merge(files, out, console.say):
        console.out(line)


def manifest(
    from_folders: Annotated[Path | None, typer.Option(help="Folder with <class>/<clip> or <split>/<class>/<clip>.")] = None,
    dataset: Annotated[str, typer.Option(help="A benchmark: ucf, hmdb, ucf-small, hmdb-small, e55 or e100.")] = "",
    root: Annotated[Path | None, typer.Option(help="--dataset: folder of the clips. [default: as for extraction]")] = None,
    annotations: Annotated[Path | None, typer.Option(help="--dataset: folder of the split files. [default: ROOT]")] = None,
    out: Annotated[Path | None, typer.Option(help="The CSV to write. [default: manifest.csv in the clips' folder]")] = None,
    val_every: Annotated[int, typer.Option(min=0, help="Without split folders: every n-th clip of a class is val.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing CSV.")] = False,
) -> None:
    """Write a manifest from class folders, or from a benchmark's official files."""
    from cia_extract import datasets
    from cia_extract.datasets import class_folders, definition, sources

    if bool(dataset) == bool(from_folders):
        raise UsageError("give one of --from-folders DIR and --dataset NAME")
    if from_folders:
        if root or annotations:
            raise UsageError("--root and --annotations go with --dataset; --from-folders names the folder itself")
        folder, left_out = from_folders, ""
        listing = class_folders.read(from_folders, val_every)
        made, notes = listing.manifest, listing.notes
    else:
        if val_every:
            raise UsageError("--val-every: goes with --from-folders; a benchmark's splits are the official ones")
        folder = root or sources.default_root(definition.load(dataset).folder)
        built = datasets.build(dataset, folder, annotations)
        made, notes, left_out = built.manifest, built.mismatches, built.left_out()
    path = out or folder / "manifest.csv"
    sources.check_file("--out", path)
    if path.exists() and not overwrite:
        raise MismatchError(f"{path}: is there already; pass --overwrite or another --out")
    try:
        made.write(path)
    except OSError as error:
        raise UsageError(f"--out {path}: cannot be written ({error.strerror}); choose another") from error
    for note in notes:
        console.say(note)
    labels, splits = len(set(made.columns["label"])), sorted(set(made.columns["split"]))
    console.out(f"{path}: {len(made)} clips, {labels} classes, splits {', '.join(splits)}")
    if left_out:
        raise DataError(left_out)


def recipes(
    name: Annotated[str, typer.Argument(help="One of them, to see its knobs.")] = "",
    as_json: Json = False,
) -> None:
    """List the preprocessing recipes, or show one."""
    from cia_extract import recipes as kept

    if name:
        recipe = kept.load(name)
        fields = {"about": recipe.about, **({"departs": recipe.departs} if recipe.departs else {})}
        fields |= recipe.knobs() | {"sha256": recipe.sha256(), "history": recipe.history}
        console.print_json(fields) if as_json else console.print_fields(fields)
        return
    found = [kept.load(each) for each in kept.NAMES]
    if as_json:
        console.print_json({r.name: {"version": r.version, "sha256": r.sha256(), "about": r.about} for r in found})
        return
    for recipe in found:
        console.out(f"{recipe.name:<15} {recipe.backbone}  version {recipe.version}  {recipe.sha256()[:12]}  {recipe.about}")


def _describe(dataset: "DatasetFeatures") -> dict[str, Any]:
    from cia_extract import features
    from cia_extract.features import failures

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
        "outcomes": failures.counts(dataset),
        **({"damaged": damaged} if (damaged := failures.damaged(dataset)) else {}),
        "gigabytes": round(len(dataset) * features.row_bytes(dataset.frames, dataset.modalities) / 1e9, 3),
        "recipe": dataset.recipe,
        "digest": dataset.digest(),
    }
