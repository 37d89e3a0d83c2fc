"""`cia-adapt`: the command line of stage two. Heavy imports stay inside the commands, so that --help is instant."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from cia_extract import __version__
from cia_extract.common import console
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean

from cia_adapt import config
from cia_adapt.config import flags as config_flags

if TYPE_CHECKING:
    from cia_adapt.experiments import Request

MOST_SEEDS: Final = 10_000

app = console.application(
    "Train light heads over extracted features and evaluate them across domains. Finished runs are kept and reused."
)


def main() -> None:
    console.run(app, "cia-adapt", after_interrupt="")  # runs say themselves how they go on


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


def request(features: Path | None, chosen: config.Chosen, device: str, precision: str, tier: str) -> "Request":
    """A request with what all commands that train share. Raises UsageError."""
    if features is None:
        raise UsageError("--features is missing; make a file with cia-extract, then: cia-adapt --features feats.h5")
    for flag, value, known in (("--precision", precision, ("fp32", "bf16")), ("--tier", tier, ("auto", "device", "ram", "map"))):
        one_of(flag, value, known)
    from cia_adapt.experiments import Request, memory

    memory.keep_freed()
    found = console.device(device)
    if tier == "device" and found.type == "cpu":
        raise UsageError("--tier device: means a GPU's memory, and the device is the CPU; use --tier ram")
    asked: Any = None if tier == "auto" else tier
    return Request(features, chosen, None, None, (), (0,), Path("runs"), found, precision=precision, tier=asked)


def one_of(flag: str, value: str, known: Sequence[str]) -> None:
    """Raise UsageError where the flag's value is none of the known ones."""
    if value not in known:
        raise UsageError(f"{flag} {value}: unknown, choose from {', '.join(known)}{did_you_mean(value, known)}")


def with_flags(function: Callable[..., None], *classes: type[config.Setup] | type[config.Method]) -> Callable[..., None]:
    """`function` with one flag, None if not given, for every field of `classes` that carries a help text."""
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    added = []
    for name, (kind, text) in [item for cls in classes for item in config_flags.flags(cls).items()]:
        switch = f"--{name.replace('_', '-')}"
        option = typer.Option(f"{switch}/--no-{switch[2:]}" if kind is bool else switch, help=f"{text} [default: as set up]")
        annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
        added.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    function.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
    return function


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `with_flags` that were given."""
    return {name: value for name, value in flags.items() if value is not None}


app.callback(invoke_without_command=True)(with_flags(_adapt, config.Setup, config.Method))

from cia_adapt.cli import results as results  # noqa: E402  (the other commands register themselves)
