"""`cia-adapt` itself, which trains one method, and `cia-adapt sweep`, which trains many."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer
from cia_extract import __version__
from cia_extract.common import console, flags
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean
from msgspec import Meta

import cia_adapt.cli.grids as grids
from cia_adapt import config
from cia_adapt.cli.options import WORDS, Data, Footage, Machine, Runs, SetupAndMethodChanges, SetupChanges
from cia_adapt.cli.requests import request


@dataclass(frozen=True)
class Training(Runs):
    """What becomes of the runs; the bare command asks this beside."""

    resume: bool = False
    """Go on with interrupted runs, or finished ones with more --epochs."""
    dry_run: bool = False
    """Say what would happen, and how long it would take."""
    version: bool = False
    """Print the version."""


@dataclass(frozen=True)
class Sweep(Runs):
    """Performance; beside, where the defaults of `sweep` differ. It gives a --set to the methods that have the part."""

    method: str = "table3"
    """Names or files with commas between, table2, table3, or all."""
    settings: Annotated[tuple[str, ...], "--set"] = ()
    """part.option=value, for the methods that have the part; repeat. Several, part.option=a,b,c or setup.lr=a,b,c: a grid."""
    seeds: Annotated[int, Meta(ge=1, le=10_000)] = 5
    keep_state: Annotated[bool, "--keep-state/--no-keep-state"] = False
    jobs: Annotated[int, Meta(ge=1, le=1024)] = 1
    """Processes, each with its share of the cores."""
    ray: str | None = None
    """Address of a Ray cluster, or local."""


def _adapt(
    context: typer.Context,
    data: Data,
    footage: Footage,
    training: Training,
    machine: Machine,
    science: SetupAndMethodChanges,
) -> None:
    if context.invoked_subcommand:
        return
    if training.version:
        print(f"cia-adapt {__version__}")
        return
    chosen = config.load(training.setup, training.method, science, training.settings)
    asked = request(chosen, data, machine, training, training.resume, footage)
    from cia_adapt.experiments import dry_run, runner
    from cia_adapt.results import table
    from cia_adapt.training import together

    if training.dry_run:
        planned = dry_run.plan(asked, console.say)
        if training.as_json:
            console.print_json({"plan": planned})
            return
        for pair in planned:
            console.print_fields(pair)
            print()
        return
    with together.joined(asked.device):
        leads = together.rank() == 0
        results = runner.run(asked, console.say if leads else lambda message: None, quiet=not leads)
    if not leads:
        return
    if training.as_json:
        console.print_json({"runs": results})
    else:
        table.print_results(results)


def _sweep(data: Data, footage: Footage, sweep: Sweep, machine: Machine, science: SetupChanges) -> None:
    """Train methods × pairs × seeds. The same command goes on where it stopped.

    Examples:
        cia-adapt sweep --features feats.h5 --method table3 --seeds 10 --jobs 2
        cia-adapt sweep --features feats.h5 --method cia --set adversarial.video=0.1,0.3,1
    """
    names = _listed(sweep.method)
    for entry in sweep.settings:
        if not any(_fitting(name, [entry]) for name in names):
            used = {part for name in names for _, part in config.load("uh", name, {}).method.used_parts()}
            part = entry.split(".")[0]
            raise UsageError(f"--set {entry}: none of these methods has a part {part}{did_you_mean(part, used)}")
    chosen = [one for name in names for one in _grid(sweep, name, science)]
    asked = [request(one, data, machine, sweep, footage=footage) for one in chosen]
    from cia_adapt.experiments import sweep as sweeping
    from cia_adapt.results import table

    results, failed = sweeping.run(asked, sweep.jobs, sweep.ray, console.say)
    if sweep.as_json:
        console.print_json({"runs": results, "failed": [one.fields() for one in failed]})
    elif results:
        table.print_results(results)
    if failed:
        console.say(
            f"cia-adapt: {len(failed)} of {len(failed) + len(results)} runs failed, see above; the same command tries them again"
        )
        raise typer.Exit(max(one.exit_code for one in failed))


def _grid(sweep: Sweep, name: str, science: Mapping[str, Any]) -> Iterator[config.Chosen]:
    """A method at every point of the grid of its settings."""
    for point in grids.points(_fitting(name, sweep.settings)):
        if twice := science.keys() & point.setup.keys():
            field = min(twice)
            raise UsageError(f"--set setup.{field}: is given by --{field.replace('_', '-')} too; leave one of both out")
        chosen = config.load(sweep.setup, name, {**science, **point.setup}, point.sets)
        yield replace(chosen, method=replace(chosen.method, name=chosen.method.name + point.suffix))


def _fitting(name: str, settings: Sequence[str]) -> list[str]:
    """The settings of the set-up, and of parts that a method has."""
    used = {"setup", *(part for _, part in config.load("uh", name, {}).method.used_parts())}
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
    app.callback(invoke_without_command=True)(flags.command(_adapt, WORDS))
    app.command("sweep")(flags.command(_sweep, WORDS))
