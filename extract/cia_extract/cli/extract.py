"""`cia-extract`: the command line of stage one. Heavy imports stay inside the commands, so that --help is instant."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

import cia_extract.cli.datasets as datasets
import cia_extract.cli.features as features
import cia_extract.cli.options as options
import cia_extract.cli.preview as preview
import cia_extract.cli.weights as weights_cli
from cia_extract import __version__
from cia_extract.cli.recipe_of import modalities_of, recipe_of
from cia_extract.common import console, flags
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.modalities import MODALITIES
from cia_extract.datasets import check_name

if TYPE_CHECKING:
    from cia_extract.extraction import Settings, Summary

app = console.application(
    "Turn action clips into one HDF5 file of I3D or TBN features (RGB, flow, audio). A second run of the same command continues."
)
app.add_typer(weights_cli.app, name="weights")
features.register(app)
datasets.register(app)
preview.register(app)


def main() -> None:
    """Run `cia-extract` and exit with its code."""
    console.run(app, "cia-extract")


@app.callback(invoke_without_command=True)
@flags.command
def extract(
    context: typer.Context,
    clips: options.Clips,
    preprocessing: options.Preprocessing,
    computing: options.Computing,
    output: options.Output,
) -> None:
    """The command itself; its help is the application's."""
    if context.invoked_subcommand:
        return
    if output.version:
        print(f"cia-extract {__version__}")
        return
    if not clips.dataset:
        raise UsageError("--dataset is missing; try: cia-extract --dataset demo")
    check_name(clips.dataset)
    _check_paths(output.out, computing.flow_cache, computing.weights)
    settings, left_out = _settings(clips, preprocessing, computing, output)
    if output.dry_run:
        from cia_extract.extraction import dry_run

        planned = dry_run.plan(settings, console.say)
        console.print_json(planned) if output.as_json else console.print_fields(planned)
    else:
        _report(settings, _run(settings, computing), output.as_json, left_out)
    if left_out:
        raise DataError(left_out)


def _check_paths(out: Path, flow_cache: Path | None, weights: Sequence[str]) -> None:
    """Raises UsageError where a folder is given for a file, a file for a folder, or a path that cannot exist."""
    from cia_extract.datasets import sources
    from cia_extract.features import writer

    writer.check_out(out)
    if flow_cache is not None:
        sources.check_folder("--flow-cache", flow_cache)
    for text in weights:
        prefix, _, rest = text.partition("=")
        path = rest if prefix in MODALITIES else text
        if path and path not in {"kinetics", "random"}:
            sources.check_file("--weights", Path(path))


def _settings(
    clips: options.Clips, preprocessing: options.Preprocessing, computing: options.Computing, output: options.Output
) -> "tuple[Settings, str]":
    """What to extract, and which clips are left out of it, if any."""
    device = console.device(computing.device)
    recipe = recipe_of(clips.dataset, preprocessing)
    modalities = modalities_of(recipe.backbone, preprocessing.modality)
    shard = _shard(clips.shard)
    if output.overwrite and shard:
        raise UsageError("--overwrite with --shard: parts would erase each other; choose a new --out")
    workers = computing.workers or _cores()
    from cia_extract.datasets import sources

    source = sources.find(
        clips.dataset, clips.manifest, clips.root, clips.clips_per_class, clips.seed, workers,
        render=not output.dry_run, annotations=clips.annotations,
    )  # fmt: skip
    for note in source.notes:
        console.say(note)
    if preprocessing.rate is not None and any(source.manifest.columns.get("rate", ())):
        raise UsageError("--rate: this dataset's manifest says at which rate each clip is read; leave the flag out")
    from cia_extract.extraction import Settings

    settings = Settings(
        dataset=clips.dataset,
        manifest=source.manifest,
        root=source.root,
        out=output.out,
        modalities=modalities,
        recipe=recipe,
        weights=computing.weights,
        device=device,
        engine=computing.engine,
        precision=computing.precision,
        batch=computing.batch,
        deterministic=computing.deterministic,
        workers=workers,
        timeout=computing.timeout,
        shard=shard,
        flow_by=computing.flow_by,
        flow_cache=computing.flow_cache,
        overwrite=output.overwrite,
        retry_failed=output.retry_failed,
    )
    return settings, source.left_out


def _run(settings: "Settings", computing: options.Computing) -> "Summary":
    if computing.ray:
        from cia_extract.extraction import cluster

        return cluster.extract(settings, computing.ray, computing.device == "auto", console.say)
    from cia_extract.extraction import pipeline

    return pipeline.extract(settings, console.say)


def _report(settings: "Settings", summary: "Summary", as_json: bool, left_out: str) -> None:
    """Print the summary; exit code 3 when clips failed."""
    if as_json:
        console.print_json(vars(summary) | {"out": str(settings.out), "dataset": settings.dataset})
    else:
        s = summary.seconds
        network = f"network {s['network']:.0f} s for {summary.windows} windows, it waited {s['waiting']:.0f} s"
        console.out(
            f"{settings.dataset}: {summary.done} of {summary.clips} clips done, {len(summary.failed)} failed, in {settings.out} "
            f"({summary.extracted_now} now, {s['wall']:.0f} s; {network}; "
            f"decode {s['decode']:.0f} s and flow {s['flow']:.0f} s over {settings.workers} workers)"
        )
        if summary.elsewhere:
            console.out(f"  {summary.elsewhere} clips are in work in other processes")
        for modality, outcomes in summary.outcomes.items():
            console.out(f"  {modality}: {', '.join(f'{count} {name}' for name, count in outcomes.items())}")
        if summary.damaged:
            clip, why = next(iter(summary.damaged.items()))
            more = f", …; cia-extract info {settings.out} names all" if len(summary.damaged) > 1 else ""
            what = (
                "1 clip is damaged and was" if len(summary.damaged) == 1 else f"{len(summary.damaged)} clips are damaged and were"
            )
            console.out(f"  {what} used all the same: {clip} ({why}){more}")
    if summary.failed:
        from cia_extract.features import failures_path

        clip, why = next(iter(summary.failed.items()))
        raise DataError(
            f"{len(summary.failed)} of {summary.clips} clips failed: {clip} ({why})"
            f"{', …' if len(summary.failed) > 1 else ''}; all are listed in {failures_path(settings.out)}; "
            f"mend them and add --retry-failed{'; ' if left_out else ''}{left_out}"
        )


def _cores() -> int:
    """Those that this process may use: on a shared machine fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shard(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    i, _, n = text.partition("/")
    if not (re.fullmatch(r"[0-9]{1,6}", i) and re.fullmatch(r"[0-9]{1,6}", n) and 1 <= int(i) <= int(n)):
        raise UsageError(f"--shard {text}: write i/n with 1 ≤ i ≤ n, for example 1/4")
    return int(i), int(n)
