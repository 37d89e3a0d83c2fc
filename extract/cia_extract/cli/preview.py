"""`cia-extract preview`: what the networks see of a clip, as an HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Meta

import cia_extract.cli.options as options
from cia_extract.cli.recipe_of import modalities_of, recipe_of
from cia_extract.common import console, flags
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.suggest import did_you_mean

if TYPE_CHECKING:
    from cia_extract.datasets import Manifest

Seconds = Annotated[float, Meta(ge=0, le=1e7)]


@dataclass(frozen=True)
class Shown:
    """Which clips are shown, and where."""

    out: Path = Path("preview.html")
    """The HTML file."""
    start: Seconds | None = None
    """CLIP: where the clip begins in its video, s."""
    stop: Seconds | None = None
    """CLIP: where the clip ends in its video, s."""
    clip: tuple[str, ...] = ()
    """DATASET: id of a clip to show; repeat. [default: --clips of them, drawn at random]"""
    clips: Annotated[int, Meta(ge=1, le=100)] = 3
    """DATASET: number of clips to show, of as many classes as possible."""
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    """DATASET: seed of the choice of clips."""
    root: Path | None = None
    """DATASET: folder of the clips. [default: as for extraction]"""
    annotations: Path | None = None
    """DATASET: folder of official split files. [default: ROOT]"""
    manifest: Path | None = None
    """DATASET: CSV of the clips. [default: as for extraction]"""


def preview(
    what: Annotated[str, typer.Argument(metavar="CLIP|DATASET", help="A video, a folder of frames, or a dataset's name.")],
    shown: Shown,
    preprocessing: options.Preprocessing,
) -> None:
    """Show what the networks see of clips, as an HTML page. It has the described frames with their windows, the flow in colour
    and as arrows, and the sound.

    Examples:
        cia-extract preview clips/indoor/walk/0001.mp4
        cia-extract preview indoor --root clips/indoor --clips 5 --rate 15
    """
    from cia_extract import pages
    from cia_extract.datasets import check, definition, sources

    sources.check_file("--out", shown.out)
    path = Path(what)
    is_dataset = what in {"demo", *definition.names()} or shown.root is not None or shown.manifest is not None
    recipe = recipe_of(what if is_dataset else "", preprocessing)
    modalities = modalities_of(recipe.backbone, preprocessing.modality)
    if not preprocessing.modality and "audio" not in modalities:
        modalities = (*modalities, "audio")
    if is_dataset or not path.exists():
        if not is_dataset and ("/" in what or path.suffix):
            raise UsageError(f"{what}: no such clip; give a video, a folder of frames, or a dataset's name")
        if shown.start is not None or shown.stop is not None:
            raise UsageError(f"--start and --stop cut one video; {what} is a dataset, whose manifest cuts its clips")
        source = sources.find(
            what, shown.manifest, shown.root, options.Clips.clips_per_class, options.Clips.seed, 1,
            render=True, annotations=shown.annotations,
        )  # fmt: skip
        rows, root = source.manifest, source.root
        chosen = _named(rows, shown.clip) if shown.clip else _spread(rows, shown.clips, shown.seed)
    else:
        if shown.clip:
            raise UsageError(f"--clip names clips of a dataset; {what} is a clip itself")
        cells = {"clip": path.name, "path": path.name, "label": "-", "split": "-"}
        cells |= {name: repr(value) for name, value in (("start", shown.start), ("stop", shown.stop)) if value is not None}
        rows, root, chosen = check(what, [cells]), path.resolve().parent, [0]
    failed = pages.preview.write(shown.out, rows, chosen, root, recipe, modalities, console.say)
    console.out(f"preview: {shown.out.resolve()}")
    if failed:
        raise DataError(f"{len(failed)} of {len(chosen)} clips cannot be read: {failed[0]}")


def _named(rows: "Manifest", clips: Sequence[str]) -> list[int]:
    """The rows of these clips. Raises UsageError."""
    places = {clip: row for row, clip in enumerate(rows.columns["clip"])}
    for clip in clips:
        if clip not in places:
            raise UsageError(f"--clip {clip}: not in {rows.source}{did_you_mean(clip, places)}")
    return [places[clip] for clip in clips]


def _spread(rows: "Manifest", count: int, seed: int) -> list[int]:
    """`count` rows drawn at random, of as many classes as there are."""
    import random

    order = random.Random(seed).sample(range(len(rows)), len(rows))
    seen: dict[str, int] = {}
    rank = {}
    for row in order:
        label = rows.columns["label"][row]
        rank[row] = seen[label] = seen.get(label, -1) + 1
    return sorted(sorted(order, key=lambda row: rank[row])[:count])


def register(app: typer.Typer) -> None:
    """Add `preview`."""
    app.command("preview")(flags.command(preview))
