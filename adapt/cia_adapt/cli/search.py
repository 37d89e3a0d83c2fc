"""`cia-adapt search`: settings of a method without target labels."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from cia_extract.common import console, flags, writes
from cia_extract.common.errors import DivergedError, UsageError
from cia_extract.common.suggest import instead
from msgspec import Meta

from cia_adapt import config
from cia_adapt.cli.options import WORDS, Data, Machine, Runs, SetupAndMethodChanges, Trained
from cia_adapt.cli.requests import request


@dataclass(frozen=True)
class Searched(Trained):
    """What to search."""

    runs: Path = Path("searches")
    """Folder for the searches. Not that of other runs: tables would mix them."""
    space: str = "default"
    """Settings that vary: default (lr, dropout, reversal, weights, temperatures, around the set-up's own), earlier (without
    weights), or a file that ends in .toml.
    """
    trials: Annotated[int, Meta(ge=1, le=10_000)] = 30
    """Number of sets of values to try, beside the method's own."""
    by: str = "im"
    """Label-free validators that rank, with commas between: source_val, entropy, im, snd, bnm, ami."""
    sampler: Literal["random", "tpe"] = "random"
    """random, or tpe: Optuna's, --jobs trials at a time after the first ten."""
    search_seed: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0
    """Seed of the sampler; --seeds are those of the runs."""
    jobs: Annotated[int, Meta(ge=1, le=1024)] = 1
    """Processes, each with its share of the cores."""
    ray: str | None = None
    """Address of a Ray cluster, or local."""
    as_json: Annotated[bool, "--json"] = False
    """One JSON object on stdout."""


def _search(data: Data, searched: Searched, machine: Machine, science: SetupAndMethodChanges) -> None:
    """Search settings of a method by label-free validators. The same command goes on where it stopped.

    Examples:
        cia-adapt search --features feats.h5 --method cia --trials 30 --by im
        cia-adapt search --features feats.h5 --method cia --space my-space.toml --sampler tpe
    """
    chosen = config.load(searched.setup, searched.method, science, searched.settings)
    asked = request(chosen, data, machine, Runs(seeds=searched.seeds, runs=searched.runs, keep_state=False))
    from cia_adapt.experiments import findings, search

    plan = search.Search(
        request=asked,
        setup=searched.setup,
        method=searched.method,
        load=partial(config.load, searched.setup, overrides=science, sets=searched.settings),
        space=config.load_space(searched.space, chosen),
        trials=searched.trials,
        by=_validators(searched.by),
        sampler=searched.sampler,
        seed=searched.search_seed,
        jobs=searched.jobs,
        ray=searched.ray,
    )
    if searched.space == "default":
        begun = (space for space in config.earlier_spaces(chosen) if search.begun_in(plan, space))
        plan = replace(plan, space=next(begun, plan.space))
    given = {f"setup.{name}": f"--{name.replace('_', '-')}" for name in science} | {key: f"--set {key}" for key in chosen.sets}
    for key in given.keys() & plan.space.keys():
        raise UsageError(f"{given[key]}: --space {searched.space} varies it; leave one of both out")
    results = search.run(plan, console.say)
    report = findings.text(plan, results)
    with writes.translated(str(plan.folder), "make room or choose another --runs folder"):
        writes.text(plan.folder / "report.txt", report)
    if searched.as_json:
        console.print_json(findings.as_json(plan, results))
    else:
        console.out(report.removesuffix("\n"))
    if codes := [one.exit_code for one in results.failed if one.exit_code != DivergedError.exit_code]:
        console.say(f"cia-adapt: {len(codes)} runs failed, see above; the same command tries them again")
        raise typer.Exit(max(codes))


def _validators(text: str) -> tuple[str, ...]:
    """Names of "im,bnm". Raises UsageError."""
    from cia_adapt.training import VALIDATORS

    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in VALIDATORS:
            raise UsageError(f"--by {name or text}: unknown{instead(name, VALIDATORS)}")
    if len(set(names)) < len(names):
        raise UsageError(f"--by {text}: write each validator once")
    return names


def register(app: typer.Typer) -> None:
    """Add `search`."""
    app.command("search")(flags.command(_search, WORDS))
