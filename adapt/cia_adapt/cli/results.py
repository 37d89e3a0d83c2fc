"""The commands of `cia-adapt` beside the bare one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from cia_extract.common import console, writes
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean

from cia_adapt import config
from cia_adapt.cli.adapt import MOST_SEEDS, app, given, one_of, request, with_flags

Runs = Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")]


@app.command()
def methods(name: Annotated[str | None, typer.Argument(help="Show this one with all its settings.")] = None) -> None:
    """List the methods: the paper's cell, the published numbers, what is reconstructed."""
    from rich.console import Console
    from rich.table import Table

    if name is not None:
        chosen = config.load("uh", name, {})
        method = chosen.for_pair("", "")
        fields = {key: value for key, value in vars(method).items() if key != "options"}
        console.print_fields(fields | {"settings (--set part.option=value)": method.options, "by pair of domains": chosen.pairs})
        return
    table = Table("method", "stands for", "published", "reads", show_lines=False)
    for known in config.names("methods"):
        method = config.load("uh", known, {}).method
        published = ", ".join(f"{k} {v:.2f}" for k, v in method.published.items())
        table.add_row(known, method.paper, published, "maps" if method.needs_maps else "vectors")
    Console(width=None if Console().is_terminal else 140).print(table, markup=False)


def _sweep(
    features: Annotated[Path, typer.Option(help="The feature file.")],
    method: Annotated[str, typer.Option(help="Names with commas between, table2, table3, or all.")] = "table3",
    setup: Annotated[str, typer.Option(help=f"One of: {', '.join(config.names('setups'))}.")] = "uh",
    seeds: Annotated[int, typer.Option(min=1, max=MOST_SEEDS, help="Seeds 0 … n−1 of each.")] = 5,
    source: Annotated[str | None, typer.Option(help="Labelled domain. [default: every one in turn]")] = None,
    target: Annotated[str | None, typer.Option(help="Unlabelled domain. [default: every other one]")] = None,
    modality: Annotated[list[str], typer.Option(help="Use only these; repeat.", show_default=False)] = [],  # noqa: B006
    runs: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs"),
    settings: Annotated[
        list[str],
        typer.Option("--set", help="part.option=value, for the methods that have the part; repeat.", show_default=False),
    ] = [],  # noqa: B006
    manifest: Annotated[list[str], typer.Option(help="As for the bare command; repeat.", show_default=False)] = [],  # noqa: B006
    mapping: Annotated[list[str], typer.Option("--map", help="As for the bare command; repeat.", show_default=False)] = [],  # noqa: B006
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Processes, each with its share of the cores.")] = 1,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster, or local.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the models.")] = False,
    tier: Annotated[str, typer.Option(help="auto, device, ram, map.")] = "auto",
    validators: Annotated[bool, typer.Option(help="Compute the label-free validators after each epoch.")] = True,
    keep_state: Annotated[bool, typer.Option(help="Keep what a finished run needs to go on.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again what is finished.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    **science: Any,
) -> None:
    """Train methods × pairs × seeds. The same command goes on where it stopped."""
    names = _listed(method)
    for entry in settings:
        if not any(_fitting(name, [entry]) for name in names):
            used = {part for name in names for _, part in config.load("uh", name, {}).method.used_parts()}
            part = entry.split(".")[0]
            raise UsageError(f"--set {entry}: none of these methods has a part {part}{did_you_mean(part, used)}")
    chosen = [config.load(setup, name, given(science), _fitting(name, settings)) for name in names]
    from cia_adapt.experiments import sweep as sweeping
    from cia_adapt.results import table

    made = [
        replace(
            request(features, one, device, precision, tier), source=source, target=target, modalities=tuple(modality),
            seeds=tuple(range(seeds)), runs=runs, validators=validators, keep_state=keep_state, compiled=compiled,
            overwrite=overwrite, mapping=tuple(mapping), manifests=tuple(manifest),
        )
        for one in chosen
    ]  # fmt: skip
    results, failed = sweeping.run(made, jobs, ray, console.say)
    if as_json:
        console.print_json({"runs": results, "failed": [vars(one) for one in failed]})
    elif results:
        table.print_results(results)
    if failed:
        console.say(
            f"cia-adapt: {len(failed)} of {len(failed) + len(results)} runs failed, see above; the same command tries them again"
        )
        raise typer.Exit(max(one.exit_code for one in failed))


app.command("sweep")(with_flags(_sweep, config.Setup))


def _fitting(name: str, settings: Sequence[str]) -> list[str]:
    """The settings of parts that a method has."""
    used = {part for _, part in config.load("uh", name, {}).method.used_parts()}
    return [entry for entry in settings if entry.split(".")[0] in used]


def _listed(text: str) -> list[str]:
    """Method names of "a,b", "table3" or "all"."""
    if text == "all":
        return config.names("methods")
    if text in ("table2", "table3"):
        from cia_adapt.results import table

        return [name for _, _, name in table.definition(text[-1])["rows"]]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("--method: names none; give names with commas between, table2, table3, or all")
    return names


@app.command()
def table(
    runs: Runs = [Path("runs")],  # noqa: B006
    number: Annotated[str, typer.Option("--table", help="Layout of the paper's table 2 or 3.")] = "3",
    which: Annotated[str, typer.Option(help="selected, last, or oracle (uses target labels).")] = "selected",
    baseline: Annotated[str | None, typer.Option(help="Compare every method with this one, by clip and seed.")] = None,
    form: Annotated[str, typer.Option("--format", help="terminal, markdown, latex or csv.")] = "terminal",
    out: Annotated[Path | None, typer.Option(help="Write it there instead of printing it.")] = None,
) -> None:
    """Our numbers in the paper's layout, with intervals and the published numbers beside them."""
    for flag, value, known in (
        ("--which", which, ("selected", "last", "oracle")),
        ("--format", form, ("terminal", "markdown", "latex", "csv")),
    ):
        one_of(flag, value, known)
    if which == "oracle" and baseline:
        raise UsageError("--baseline: oracles are bounds and are not compared; take --which selected or last")
    from cia_adapt.results import comparison
    from cia_adapt.results import table as tables
    from cia_adapt.runs import files as run_folders

    groups = comparison.groups(run_folders.find(runs))
    text = tables.render(tables.paper_table(number, groups, which, baseline), form)  # type: ignore[arg-type]
    if out is None:
        console.out(text.removesuffix("\n"))
        return
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file in it")
    with writes.translated(f"--out {out}", "choose another file"):
        writes.text(out, text)


@app.command()
def validators(runs: Runs = [Path("runs")]) -> None:  # noqa: B006
    """How well each label-free validator ranks epochs and runs: Spearman's correlation with target accuracy (which uses target
    labels).
    """
    from cia_adapt.results import statistics
    from cia_adapt.runs import files as run_folders

    summary = statistics.validator_summary([run_folders.read_metrics(folder) for folder in run_folders.find(runs)])
    if not len(summary):
        raise UsageError("these runs were trained with --no-validators; train them again without it")
    console.out(summary.to_string(index=False, float_format=lambda value: f"{value:.2f}"))


@app.command()
def check(
    features: Annotated[Path, typer.Argument(help="The feature file.")],
    manifest: Annotated[
        list[str], typer.Option(help="[DOMAIN=]FILE: the clips that should be there; repeat.", show_default=False)
    ] = [],  # noqa: B006
    mapping: Annotated[list[str], typer.Option("--map", help="As for cia-adapt --map.", show_default=False)] = [],  # noqa: B006
    train_split: Annotated[str, typer.Option(help="As for cia-adapt.")] = "train",
    val_split: Annotated[str | None, typer.Option(help="As for cia-adapt. [default: val or test]", show_default=False)] = None,
    labels: Annotated[str, typer.Option(help="As for cia-adapt.")] = "label",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Look through all features: missing and extra clips, classes of one domain only, types, NaN, all-zero maps, duplicates,
    short clips. Exit code 3 for faults.
    """
    from cia_adapt.data import checking

    found = checking.check(features, tuple(mapping), tuple(manifest), checking.Protocol.of(train_split, val_split, labels))
    if as_json:
        console.print_json({"findings": [vars(finding) for finding in found]})
    else:
        for finding in found:
            console.out(f"{finding.severity}: {finding.domain}: {finding.message}")
        console.out(
            f"{features}: {sum(f.severity == 'fault' for f in found)} faults, {sum(f.severity == 'note' for f in found)} notes"
        )
    if any(finding.severity == "fault" for finding in found):
        raise typer.Exit(3)


@app.command("import")
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
    modality: Annotated[str | None, typer.Option(help="Of a folder whose layout does not say: rgb, flow or audio.")] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames kept of each clip, by TSN's rule. [default: 1 where clips have one, else 25]"),
    ] = None,
    out: Annotated[Path, typer.Option(help="A file of imported features; made, or added to.")] = Path("imported.h5"),
) -> None:
    """Take features of other tools over: .npy, .npz, .pt, .t7 or .pkl, one file a clip or one a frame, an .npz of many clips, or
    EPIC-100's released pickle. Clips are matched by id, or by path where the manifest has one.
    """
    from cia_adapt.data import importing

    counts = importing.take_over(paths, manifest, dataset, modality, frames, out)
    console.print_fields(counts)


@app.command()
def bench(
    features: Annotated[Path, typer.Argument(help="The feature file.")],
    method: Annotated[list[str], typer.Option(help="Methods to time; repeat.")] = ["source-only", "concat", "cia"],  # noqa: B006
    setup: Annotated[str, typer.Option(help="Whose batch and segments.")] = "uh",
    batch: Annotated[int | None, typer.Option(help="Instead of the set-up's.")] = None,
    train_split: Annotated[str | None, typer.Option(help="As for the bare command.")] = None,
    val_split: Annotated[str | None, typer.Option(help="As for the bare command.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    steps: Annotated[int, typer.Option(min=1, help="Steps timed of each.")] = 5,
    modality: Annotated[list[str], typer.Option(help="Use only these; repeat.", show_default=False)] = [],  # noqa: B006
    mapping: Annotated[list[str], typer.Option("--map", help="As for the bare command; repeat.", show_default=False)] = [],  # noqa: B006
) -> None:
    """By tier: reading (GB/s, clips/s) and training (ms a step, share of this machine's measured peak)."""
    from cia_adapt.experiments import bench as benching

    changed = given({"batch": batch, "train_split": train_split, "val_split": val_split})
    chosen = [config.load(setup, name, changed) for name in method]
    made = [
        replace(request(features, one, device, precision, "auto"), modalities=tuple(modality), mapping=tuple(mapping))
        for one in chosen
    ]
    for line in benching.lines(made, steps):
        console.out(line)


@app.command()
def report(
    runs: Runs = [Path("runs")],  # noqa: B006
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    root: Annotated[Path | None, typer.Option(help="Folder of the clips, for pictures. [default: as at extraction]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of t-SNE and of the choice of clips.")] = 0,
    clips: Annotated[int, typer.Option(min=0, help="Clips whose consensus maps are drawn.")] = 4,
) -> None:
    """Write one self-contained HTML: results, curves, t-SNE, consensus maps. Prints the table too."""
    from cia_adapt.results import table as tables
    from cia_adapt.results.report import page
    from cia_adapt.runs import files as run_folders

    folders = run_folders.find(runs)
    shown = page.write(folders, out, root, seed, clips, console.say)
    tables.print_results([run_folders.read(folder) for folder in shown])
    console.out(f"report: {out.resolve()}")
