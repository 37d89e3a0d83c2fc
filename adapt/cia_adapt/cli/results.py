"""`cia-adapt methods`, `table`, `validators` and `report`: what there is to train, and what came of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from cia_extract.common import console, flags, writes
from cia_extract.common.errors import UsageError

from cia_adapt import config

Runs = Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")]


def methods(name: Annotated[str | None, typer.Argument(help="Show this one with all its settings.")] = None) -> None:
    """List the methods by group, or show one. The list has their published numbers, and what others publish on UCF-HMDB.

    Examples:
        cia-adapt methods
        cia-adapt methods cia
    """
    from rich.console import Console
    from rich.table import Table

    if name is not None:
        chosen = config.load("uh", name, {})
        method = chosen.for_pair("", "")
        fields = {key: value for key, value in vars(method).items() if key != "options" and (key != "searched" or value)}
        console.print_fields(fields | {"settings (--set part.option=value)": method.options, "by pair of domains": chosen.pairs})
        return
    out = Console(width=None if Console().is_terminal else 140)
    for heading, members in config.grouped().items():
        table = Table("method", "stands for", "published", "reads", title=heading, title_justify="left")
        for known in members:
            method = config.load("uh", known, {}).method
            published = ", ".join(f"{k} {v:.2f}" for k, v in method.published.items())
            table.add_row(known, method.paper.removeprefix("none; "), published, "maps" if method.needs_maps else "vectors")
        out.print(table, markup=False)
    rows, note = config.published()
    table = Table("work", "features", "U→H", "H→U", "source", title="Published by others on UCF-HMDB", title_justify="left")
    for row in rows:
        table.add_row(row.work, row.features, f"{row.to_hmdb:.2f}", f"{row.to_ucf:.2f}", row.source)
    out.print(table, markup=False)
    out.print(note, markup=False)


@dataclass(frozen=True)
class Layout:
    """Which table, of which numbers, and where it goes."""

    number: Annotated[str, "--table"] = "3"
    """Layout of the paper's table 2 or 3, or e100: top-1 and top-5, tail classes and unseen participants."""
    which: Literal["selected", "last", "oracle"] = "selected"
    """selected, last, or oracle (uses target labels)."""
    baseline: str | None = None
    """Compare every method with this one, by clip and seed."""
    form: Annotated[Literal["terminal", "markdown", "latex", "csv"], "--format"] = "terminal"
    """terminal, markdown, latex or csv."""
    out: Path | None = None
    """File to write the table to instead of printing it."""


def table(layout: Layout, runs: Runs = [Path("runs")]) -> None:  # noqa: B006
    """Print results in the layout of the paper's tables. They have intervals, and the published numbers beside them.

    Examples:
        cia-adapt table --table 3 --baseline concat
        cia-adapt table runs/uh --format latex --out table.tex
    """
    if layout.which == "oracle" and layout.baseline:
        raise UsageError("--baseline: oracles are bounds and are not compared; take --which selected or last")
    if layout.number == "e100" and layout.baseline:
        raise UsageError("--baseline: is not for --table e100; compare with --table 2")
    from cia_adapt.results import challenge, comparison, formats
    from cia_adapt.results import table as tables
    from cia_adapt.runs import files as run_folders

    groups = comparison.groups(run_folders.find(runs))
    if layout.number == "e100":
        grid = challenge.table.table(groups, layout.which)
    else:
        grid = tables.paper_table(layout.number, groups, layout.which, layout.baseline)
    text = formats.render(grid, layout.form)
    out = layout.out
    if out is None:
        console.out(text.removesuffix("\n"))
        return
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file in it")
    with writes.translated(f"--out {out}", "choose another file"):
        writes.text(out, text)


def validators(runs: Runs = [Path("runs")]) -> None:  # noqa: B006
    """Print how well label-free validators rank epochs and runs. The measure is Spearman's correlation with target accuracy,
    which uses target labels.

    Examples:
        cia-adapt validators
        cia-adapt validators runs/uh/cia
    """
    from cia_adapt.results import statistics
    from cia_adapt.runs import files as run_folders

    summary = statistics.validator_summary(run_folders.read_metrics(folder) for folder in run_folders.find(runs))
    if not len(summary):
        raise UsageError("these runs were trained with --no-validators; train them again without it")
    console.out(summary.to_string(index=False, float_format=lambda value: f"{value:.2f}"))


def report(
    runs: Runs = [Path("runs")],  # noqa: B006
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    root: Annotated[Path | None, typer.Option(help="Folder of the clips, for pictures. [default: as at extraction]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of t-SNE and of the choice of clips.")] = 0,
    clips: Annotated[int, typer.Option(min=0, help="Number of clips of each kind whose frames are shown.")] = 4,
    baseline: Annotated[
        str | None,
        typer.Option(help="The method that others are compared with. [default: source-only, else concat, else the first]"),
    ] = None,
) -> None:
    """Write one HTML page about runs, and print their table. The page needs no network. It has results, differences, curves,
    classes, t-SNE, maps and clips.

    Examples:
        cia-adapt report runs
        cia-adapt report demo/runs --out demo/report.html --root demo/clips
    """
    from cia_adapt.results import table as tables
    from cia_adapt.results.report import page
    from cia_adapt.runs import files as run_folders

    folders = run_folders.find(runs)
    wanted = page.Wanted(baseline=baseline, root=root, seed=seed, clips=clips)
    shown = page.write(folders, out, wanted, console.say)
    tables.print_results([run_folders.read(folder) for folder in shown])
    console.out(f"report: {out.resolve()}")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (methods, flags.command(table), validators, report):
        app.command()(command)
