"""`cia-extract manifest` and `recipes`: which clips there are, and how they are read."""

from pathlib import Path
from typing import Annotated

import typer

from cia_extract.common import console
from cia_extract.common.errors import DataError, MismatchError, UsageError

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
FOLDERS, BENCHMARK, WHERE = "From class folders", "Or from a benchmark's official files", "Where to"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(manifest)
    app.command()(recipes)


def manifest(
    from_folders: Annotated[
        Path | None, typer.Option(help="Folder with <class>/<clip> or <split>/<class>/<clip>.", rich_help_panel=FOLDERS)
    ] = None,
    val_every: Annotated[
        int,
        typer.Option(min=0, help="Without split folders: every n-th clip of a class is val; 0: none.", rich_help_panel=FOLDERS),
    ] = 0,
    dataset: Annotated[
        str, typer.Option(help="A benchmark: ucf, hmdb, ucf-small, hmdb-small, e55 or e100.", rich_help_panel=BENCHMARK)
    ] = "",
    root: Annotated[
        Path | None, typer.Option(help="Folder of the clips. [default: as for extraction]", rich_help_panel=BENCHMARK)
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Folder of the split files. [default: ROOT]", rich_help_panel=BENCHMARK)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The CSV to write. [default: manifest.csv in the clips' folder]", rich_help_panel=WHERE)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing CSV.", rich_help_panel=WHERE)] = False,
) -> None:
    """Write a manifest, the list of the clips. It is made of class folders, or of a benchmark's official files.

    Examples:
        cia-extract manifest --from-folders clips/indoor --val-every 4
        cia-extract manifest --dataset e100 --root ~/data/EPIC-KITCHENS --out e100.csv
    """
    from cia_extract import datasets
    from cia_extract.datasets import class_folders, definition, sources

    if bool(dataset) == bool(from_folders):
        raise UsageError("give one of --from-folders DIR and --dataset NAME")
    if from_folders:
        if root or annotations:
            raise UsageError("--root and --annotations go with --dataset; --from-folders names the folder itself")
        folder, left_out = from_folders, ""
        listing = class_folders.read(from_folders, val_every)
        manifest, notes = listing.manifest, listing.notes
    else:
        if val_every:
            raise UsageError("--val-every: goes with --from-folders; a benchmark's splits are the official ones")
        folder = root or sources.default_root(definition.load(dataset).folder)
        built = datasets.build(dataset, folder, annotations)
        manifest, notes, left_out = built.manifest, built.mismatches, built.left_out()
    path = out or folder / "manifest.csv"
    sources.check_file("--out", path)
    if path.exists() and not overwrite:
        raise MismatchError(f"{path}: is there already; pass --overwrite or another --out")
    try:
        manifest.write(path)
    except OSError as error:
        raise UsageError(f"--out {path}: cannot be written ({error.strerror}); choose another") from error
    for note in notes:
        console.say(note)
    labels, splits = sorted(set(manifest.columns["label"])), sorted(set(manifest.columns["split"]))
    shown = ", ".join(labels[:12]) + (", …" if len(labels) > 12 else "")  # where the wrong folder was named, they tell
    console.out(f"{path}: {len(manifest)} clips, {len(labels)} classes ({shown}), splits {', '.join(splits)}")
    if left_out:
        raise DataError(left_out)


def recipes(
    name: Annotated[str, typer.Argument(help="One of them, to see its knobs.")] = "",
    as_json: Json = False,
) -> None:
    """List the preprocessing recipes, or show one.

    Examples:
        cia-extract recipes
        cia-extract recipes kinetics
    """
    from cia_extract import recipes as kept

    if name:
        recipe = kept.load(name)
        fields = {"about": recipe.about, **({"departs": recipe.departs} if recipe.departs else {})}
        fields |= recipe.knobs() | {"sha256": recipe.sha256(), "history": recipe.history}
        console.print_json(fields) if as_json else console.print_fields(fields)
        return
    loaded = [kept.load(each) for each in kept.NAMES]
    if as_json:
        console.print_json({r.name: {"version": r.version, "sha256": r.sha256(), "about": r.about} for r in loaded})
        return
    for recipe in loaded:
        console.out(f"{recipe.name:<15} {recipe.backbone}  version {recipe.version}  {recipe.sha256()[:12]}  {recipe.about}")
