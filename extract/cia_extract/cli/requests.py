"""From the flags of bare `cia-extract` to the settings that `extraction` takes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cia_extract.cli.options as options
from cia_extract.cli.recipe_of import modalities_of, recipe_of
from cia_extract.common import console, machine
from cia_extract.common.errors import UsageError
from cia_extract.common.modalities import MODALITIES
from cia_extract.datasets import check_name

if TYPE_CHECKING:
    from cia_extract.extraction import Settings, Summary


def settings(
    clips: options.Clips, preprocessing: options.Preprocessing, computing: options.Computing, output: options.Output
) -> "tuple[Settings, str]":
    """What to extract, and which clips are left out of it, if any. Raises CiaError; nothing has been written then."""
    check_name(clips.dataset)
    _check_paths(output.out, computing.flow_cache, computing.weights)
    device = console.device(computing.device)
    recipe = recipe_of(clips.dataset, preprocessing)
    modalities = modalities_of(recipe.backbone, preprocessing.modality)
    shard = _shard(clips.shard)
    if output.overwrite and shard:
        raise UsageError("--overwrite with --shard: parts would erase each other; choose a new --out")
    if computing.deterministic and computing.engine not in ("auto", "eager"):
        raise UsageError(f"--engine {computing.engine}: --deterministic computes eagerly; leave out one of the two")
    workers = computing.workers or machine.cores()
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

    asked = Settings(
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
    return asked, source.left_out


def run(settings: "Settings", computing: options.Computing) -> "Summary":
    """Extract, here or over a cluster. Raises CiaError; failures of single clips are in the summary."""
    if computing.ray:
        from cia_extract.extraction import cluster

        return cluster.extract(settings, computing.ray, computing.device == "auto", console.say)
    from cia_extract.extraction import pipeline

    return pipeline.extract(settings, console.say)


def _check_paths(out: Path, flow_cache: Path | None, weights: Sequence[str]) -> None:
    """Raises UsageError where a folder is given for a file, a file for a folder, or a path that cannot exist."""
    from cia_extract.datasets import sources
    from cia_extract.features import writer
    from cia_extract.networks.weights import KNOWN

    writer.check_out(out)
    if flow_cache is not None:
        sources.check_folder("--flow-cache", flow_cache)
    for text in weights:
        prefix, _, rest = text.partition("=")
        path = rest if prefix in MODALITIES else text
        if path and path not in {"auto", "random", *KNOWN}:
            sources.check_file("--weights", Path(path))


def _shard(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    i, _, n = text.partition("/")
    if not (re.fullmatch(r"[0-9]{1,6}", i) and re.fullmatch(r"[0-9]{1,6}", n) and 1 <= int(i) <= int(n)):
        raise UsageError(f"--shard {text}: write i/n with 1 ≤ i ≤ n, for example 1/4")
    return int(i), int(n)
