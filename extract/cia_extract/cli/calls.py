"""The command as a function, for notebooks and scripts: `cia_extract.extract`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cia_extract.cli.options as options
import cia_extract.cli.requests as requests
from cia_extract.common import console, flags

if TYPE_CHECKING:
    from cia_extract.extraction import Summary


def extract(
    dataset: str,
    out: str | Path = "feats.h5",
    root: str | Path | None = None,
    *,
    modality: Sequence[str] = (),
    frames: int | None = None,
    flow: str = "",
    weights: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    **more: Any,
) -> "Summary":
    """Extract the features of a dataset's clips, as `cia-extract` does; a second call continues.

    Args:
        dataset: ucf, hmdb, e55, e100, demo, …, or a name for your own.
        out: the feature file.
        root: folder of the clips; None: `$CIA_DATA/NAME` or `data/NAME`.
        modality: rgb, flow, audio; empty: all of the backbone.
        frames: described per clip; None: the recipe's, 25.
        flow: tvl1 or dis; empty: the recipe's.
        weights: `FILE`, a name, or one of them after `rgb=`, `flow=` or `audio=`.
        device: auto, cpu, cuda, cuda:1, …
        workers: processes for decoding and flow; None: the cores.
        more: every other flag of `cia-extract`, with `_` for `-`: `clips_per_class=6`, `retry_failed=True`, ….

    Returns:
        What became of the clips. Clips that failed are in `failed`, {clip: why}.

    Raises:
        CiaError: for what `cia-extract` ends with at once: wrong values, no clips, a file that was made with other settings.
    """
    named = {"modality": modality, "frames": frames, "flow": flow, "weights": weights, "device": device, "workers": workers}
    asked = {"dataset": dataset, "out": out, "root": root, **named, **more}
    clips, preprocessing, computing, output = flags.groups(
        (options.Clips, options.Preprocessing, options.Computing, options.Output), asked, out_of_place=options.ON_A_TERMINAL
    )
    settings, left_out = requests.settings(clips, preprocessing, computing, output)
    summary = requests.run(settings, computing)
    if left_out:
        console.say(left_out)
    return summary
