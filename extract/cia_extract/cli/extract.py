"""`cia-extract`: the command line of stage one. Heavy imports stay inside the commands, so that --help is instant."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cia_extract.cli.checks as checks
import cia_extract.cli.datasets as datasets
import cia_extract.cli.features as features
import cia_extract.cli.weights as weights_cli
from cia_extract import __version__
from cia_extract.common import console
from cia_extract.common.errors import DataError, UsageError
from cia_extract.datasets import check_name

if TYPE_CHECKING:
    from cia_extract.extraction import Settings, Summary
    from cia_extract.recipes import Recipe

app = console.application(
    "Turn action clips into one HDF5 file of I3D or TBN features (RGB, flow, audio). A second run of the same command continues."
)
app.add_typer(weights_cli.app, name="weights")
features.register(app)
datasets.register(app)


def main() -> None:
    console.run(app, "cia-extract")


@app.callback(invoke_without_command=True)
def extract(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="ucf, hmdb, ucf-small, hmdb-small, e55, e100, demo, or a name for your own.")] = "",
    backbone: Annotated[str, typer.Option(help="Network: i3d or tbn. [default: that of --recipe, else i3d]")] = "",
    root: Annotated[Path | None, typer.Option(help="Folder of the clips. [default: $CIA_DATA/NAME or data/NAME]")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Folder of official split files. [default: ROOT]")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="CSV of the clips. [default: the dataset's, or ROOT/manifest.csv]")
    ] = None,
    out: Annotated[Path, typer.Option(help="The feature file; a second dataset goes into the same one.")] = Path("feats.h5"),
    modality: Annotated[list[str], typer.Option(help="rgb, flow or audio; repeat. [default: all of the backbone]")] = [],  # noqa: B006
    recipe: Annotated[str, typer.Option(help="Preprocessing, see cia-extract recipes. [default: by backbone and dataset]")] = "",
    frames: Annotated[int | None, typer.Option(min=1, max=10_000, help="Frames described per clip. [default: 25]")] = None,
    window: Annotated[int | None, typer.Option(min=9, max=1024, help="Frames around each that I3D sees. [default: 16]")] = None,
    sampling: Annotated[str, typer.Option(help="Which frames: tsn, linspace or inside. [default: the recipe's]")] = "",
    edge: Annotated[str, typer.Option(help="Beyond the clip: replicate or zero. [default: the recipe's]")] = "",
    rate: Annotated[float | None, typer.Option(min=0, help="Read clips at this many frames a second; 0: as they are.")] = None,
    flow: Annotated[str, typer.Option(help="tvl1 (reference, slow on a CPU) or dis (fast).")] = "",
    flow_by: Annotated[str, typer.Option(help="What computes TV-L1: auto, opencv or torch.")] = "auto",
    change: Annotated[list[str], typer.Option("--set", help="Any other knob of the recipe: section.knob=value.")] = [],  # noqa: B006
    weights: Annotated[
        list[str],
        typer.Option(help="[rgb=|flow=|audio=]FILE, kinetics or random; repeat. [default: kinetics for i3d]", show_default=False),
    ] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, eager, compiled or openvino.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, tf32, bf16 or fp16.")] = "fp32",
    batch: Annotated[int | None, typer.Option(min=1, help="Windows at a time. [default: by device]")] = None,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="The same bytes whatever else runs; slower.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes for decoding and flow. [default: the cores]")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds without progress after which a clip is given up.")] = 600.0,
    flow_cache: Annotated[Path | None, typer.Option(help="Folder to keep flow in, for other windows or networks.")] = None,
    shard: Annotated[str, typer.Option(help="i/n: only the i-th of n parts, for job arrays.")] = "",
    ray: Annotated[str, typer.Option(help="Spread over a Ray cluster: its address, or 'local'.")] = "",
    clips_per_class: Annotated[int, typer.Option(min=1, help="demo: training clips per class and domain.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="demo: seed of the rendered clips.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start this dataset anew.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try clips again that failed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and how long it would take.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if context.invoked_subcommand:
        return
    if version:
        print(f"cia-extract {__version__}")
        return
    if not dataset:
        raise UsageError("--dataset is missing; try: cia-extract --dataset demo")
    check_name(dataset)
    checks.check(engine, precision, flow_by, batch, workers, timeout, clips_per_class, seed)
    checks.check_rate(rate)
    checks.check_paths(out, flow_cache, weights)
    on = console.device(device)
    chosen = _recipe(dataset, backbone, recipe, change, frames, window, sampling, edge, rate, flow)
    modalities = _modalities(chosen.backbone, modality)
    part = _shard(shard)
    if overwrite and part:
        raise UsageError("--overwrite with --shard: parts would erase each other; choose a new --out")
    workers = workers or _cores()
    from cia_extract.datasets import sources

    source = sources.find(dataset, manifest, root, clips_per_class, seed, workers, render=not dry_run, annotations=annotations)
    for note in source.notes:
        console.say(note)
    if rate is not None and any(source.manifest.columns.get("rate", ())):
        raise UsageError("--rate: this dataset's manifest says at which rate each clip is read; leave the flag out")
    from cia_extract.extraction import Settings

    settings = Settings(
        dataset=dataset,
        manifest=source.manifest,
        root=source.root,
        out=out,
        modalities=modalities,
        recipe=chosen,
        weights=tuple(weights),
        device=on,
        engine=engine,
        precision=precision,
        batch=batch,
        deterministic=deterministic,
        workers=workers,
        timeout=timeout,
        shard=part,
        flow_by=flow_by,
        flow_cache=flow_cache,
        overwrite=overwrite,
        retry_failed=retry_failed,
    )
    if dry_run:
        from cia_extract.extraction import dry_run as plan

        planned = plan.plan(settings, console.say)
        console.print_json(planned) if as_json else console.print_fields(planned)
    else:
        _report(settings, _run(settings, ray, device == "auto"), as_json, source.left_out)
    if source.left_out:
        raise DataError(source.left_out)


def _run(settings: "Settings", ray: str, any_device: bool) -> "Summary":
    if ray:
        from cia_extract.extraction import cluster

        return cluster.extract(settings, ray, any_device, console.say)
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


def _recipe(
    dataset: str,
    backbone: str,
    name: str,
    changes: list[str],
    frames: int | None,
    window: int | None,
    sampling: str,
    edge: str,
    rate: float | None,
    flow: str,
) -> "Recipe":
    """The recipe of the flags. Raises UsageError."""
    from cia_extract import recipes

    checks.check_choice("--backbone", backbone, ("i3d", "tbn"))
    if not name:
        tbn = "tbn-epic55" if dataset == "e55" else "tbn-epic100"
        name = tbn if backbone == "tbn" else recipes.BASE
    made: dict[str, Any] = dict(recipes.parse_change(text) for text in changes)
    knobs = {"sampling.frames": frames, "sampling.rule": sampling, "sampling.rate": rate, "flow.algorithm": flow}
    knobs |= {"rgb.edge": edge, "flow.edge": edge}
    if window is not None:
        knobs |= {"rgb.window": window, "flow.window": window, "rgb.first": -(window // 2), "flow.first": -(window // 2)}
    checks.check_choice("--recipe", name, recipes.NAMES)
    checks.check_choice("--flow", flow, ("tvl1", "dis"))
    checks.check_choice("--sampling", sampling, ("tsn", "linspace", "inside"))
    checks.check_choice("--edge", edge, ("replicate", "zero"))
    chosen = recipes.load(name, made | {key: value for key, value in knobs.items() if value not in {None, ""}})
    if backbone and backbone != chosen.backbone:
        raise UsageError(f"--recipe {name}: is for --backbone {chosen.backbone}, not {backbone}")
    return chosen


def _modalities(backbone: str, asked: list[str]) -> tuple[str, ...]:
    from cia_extract.networks import IN_CHANNELS

    for modality in asked:
        if not modality:
            raise UsageError("--modality '': empty, choose from rgb, flow, audio")
        checks.check_choice("--modality", modality, ("rgb", "flow", "audio"))
    return tuple(m for m in ("rgb", "flow", "audio") if m in (asked or IN_CHANNELS[backbone]))


def _shard(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    i, _, n = text.partition("/")
    if not (re.fullmatch(r"[0-9]{1,6}", i) and re.fullmatch(r"[0-9]{1,6}", n) and 1 <= int(i) <= int(n)):
        raise UsageError(f"--shard {text}: write i/n with 1 ≤ i ≤ n, for example 1/4")
    return int(i), int(n)
