"""`cia-adapt`: the command line of stage two. Heavy imports stay inside the commands, so that --help is instant."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from cia_extract import console
from cia_extract.errors import UsageError

from cia_adapt import __version__, config

app = console.application(
    "Train light heads over extracted features and evaluate them across domains. Finished runs are kept and reused."
)


def main() -> None:
    console.run(app, "cia-adapt")


def _adapt(
    context: typer.Context,
    features: Annotated[Path | None, typer.Option(help="The feature file of cia-extract.")] = None,
    setup: Annotated[str, typer.Option(help=f"Protocol and optimiser: {', '.join(config.names('setups'))}.")] = "uh",
    method: Annotated[str, typer.Option(help=f"One of: {', '.join(config.names('methods'))}.")] = "cia",
    source: Annotated[str | None, typer.Option(help="Labelled domain. [default: every one in turn]")] = None,
    target: Annotated[str | None, typer.Option(help="Unlabelled domain. [default: every other one]")] = None,
    modality: Annotated[list[str], typer.Option(help="Use only these; repeat. [default: all]", show_default=False)] = [],  # noqa: B006
    seeds: Annotated[int, typer.Option(min=1, help="Train with seeds 0 … n−1.")] = 1,
    runs: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again what is finished.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and how long it would take.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    **science: Any,
) -> None:
    if context.invoked_subcommand:
        return
    if version:
        print(f"cia-adapt {__version__}")
        return
    if features is None:
        raise UsageError("--features is missing; make a file with cia-extract, then: cia-adapt --features feats.h5")
    overrides = {name: value for name, value in science.items() if value is not None}
    chosen_setup, chosen_method = config.load(config.Setup, setup, overrides), config.load(config.Method, method, overrides)
    from cia_adapt import adapt, table

    request = adapt.Request(
        features, chosen_setup, chosen_method, source, target, tuple(modality), seeds, runs, console.device(device), overwrite
    )
    if dry_run:
        planned = adapt.plan(request)
        if as_json:
            console.print_json({"plan": planned})
            return
        for pair in planned:
            console.print_fields(pair)
            print()
        return
    results = adapt.run(request, console.say)
    if as_json:
        console.print_json({"runs": results})
    else:
        table.print_results(results)


def _with_science_flags() -> Any:
    """`_adapt` with one flag for every field of `Setup` and `Method` that carries a help text."""
    flags = {**config.flags(config.Setup), **config.flags(config.Method)}
    own = [p for p in inspect.signature(_adapt).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    added = []
    for name, (kind, text) in flags.items():
        switch = f"--{name.replace('_', '-')}"
        option = typer.Option(f"{switch}/--no-{switch[2:]}" if kind is bool else switch, help=f"{text} [default: as set up]")
        annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
        added.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    _adapt.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    _adapt.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
    return _adapt


app.callback(invoke_without_command=True)(_with_science_flags())


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")] = [Path("runs")],  # noqa: B006
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    root: Annotated[Path | None, typer.Option(help="Folder of the clips, for pictures. [default: as at extraction]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of t-SNE and of the choice of clips.")] = 0,
    clips: Annotated[int, typer.Option(min=0, help="Clips whose consensus maps are drawn.")] = 4,
) -> None:
    """Write one self-contained HTML: results, curves, t-SNE, consensus maps. Prints the table too."""
    from cia_adapt import runs as run_folders
    from cia_adapt import table
    from cia_adapt.report import page

    folders = run_folders.find(runs)
    page.write(folders, out, root, seed, clips, console.say)
    table.print_results([run_folders.read(folder) for folder in folders])
    print(f"report: {out.resolve()}")
