"""`cia-adapt` itself, which trains one method, and `cia-adapt sweep`, which trains many."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cia_extract import __version__
from cia_extract.common import console
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean

from cia_adapt import config

if TYPE_CHECKING:
    pass

from dataclasses import replace

from cia_adapt.cli.flags import MOST_SEEDS, given, request, with_flags


def _adapt(
    context: typer.Context,
    features: Annotated[Path | None, typer.Option(help="The feature file of cia-extract, or any HDF5 file with --map.")] = None,
    setup: Annotated[str, typer.Option(help=f"Protocol and optimiser: {', '.join(config.names('setups'))}.")] = "uh",
    method: Annotated[str, typer.Option(help="One of: cia-adapt methods.")] = "cia",
    source: Annotated[str | None, typer.Option(help="Labelled domain. [default: every one in turn]")] = None,
    target: Annotated[str | None, typer.Option(help="Unlabelled domain. [default: every other one]")] = None,
    modality: Annotated[list[str], typer.Option(help="Use only these; repeat. [default: all]", show_default=False)] = [],  # noqa: B006
    seeds: Annotated[int, typer.Option(min=1, max=MOST_SEEDS, help="Train with seeds 0 … n−1.")] = 1,
    runs: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs"),
    settings: Annotated[
        list[str],
        typer.Option(
            "--set", help="A setting of a part, for example sc.scales=2; repeat. See cia-adapt methods NAME.", show_default=False
        ),
    ] = [],  # noqa: B006
    manifest: Annotated[
        list[str],
        typer.Option(help="[DOMAIN=]FILE: labels and splits of this CSV instead of the file's; repeat.", show_default=False),
    ] = [],  # noqa: B006
    mapping: Annotated[
        list[str], typer.Option("--map", help="DOMAIN/NAME=PATH: where a foreign HDF5 file has it; repeat.", show_default=False)
    ] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 (faster on CPUs with AMX and on GPUs).")] = "fp32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the model (CUDA graphs on a GPU); takes a while first.")
    ] = False,
    tier: Annotated[str, typer.Option(help="Where features are read from: auto, device, ram, map.")] = "auto",
    validators: Annotated[bool, typer.Option(help="Compute the label-free validators after each epoch.")] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with interrupted runs, or finished ones with more --epochs.")
    ] = False,
    keep_state: Annotated[bool, typer.Option(help="Keep what a finished run needs to go on (3 × the model).")] = True,
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
    chosen = config.load(setup, method, given(science), settings)
    made = request(features, chosen, device, precision, tier)
    from dataclasses import replace

    from cia_adapt.experiments import dry_run as experiments_dry_run
    from cia_adapt.experiments import runner
    from cia_adapt.results import table

    made = replace(
        made, source=source, target=target, modalities=tuple(modality), seeds=tuple(range(seeds)), runs=runs, overwrite=overwrite,
        resume=resume, keep_state=keep_state, validators=validators, compiled=compiled,
        mapping=tuple(mapping), manifests=tuple(manifest),
    )  # fmt: skip
    if dry_run:
        planned = experiments_dry_run.plan(made, console.say)
        if as_json:
            console.print_json({"plan": planned})
            return
        for pair in planned:
            console.print_fields(pair)
            print()
        return
    results = runner.run(made, console.say)
    if as_json:
        console.print_json({"runs": results})
    else:
        table.print_results(results)


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


def register(app: typer.Typer) -> None:
    """Add the bare command and `sweep`."""
    app.callback(invoke_without_command=True)(with_flags(_adapt, config.Setup, config.Method))
    app.command("sweep")(with_flags(_sweep, config.Setup))
