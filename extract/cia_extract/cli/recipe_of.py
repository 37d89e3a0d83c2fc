"""From the flags that say how clips are read to a recipe and its modalities."""

from collections.abc import Sequence

import cia_extract.cli.options as options
from cia_extract import recipes
from cia_extract.common.errors import UsageError
from cia_extract.common.modalities import MODALITIES
from cia_extract.common.settings import parsed


def recipe_of(dataset: str, flags: options.Preprocessing) -> recipes.Recipe:
    """The recipe of the flags. Raises UsageError."""
    name = flags.recipe
    if not name:
        tbn = "tbn-epic55" if dataset == "e55" else "tbn-epic100"
        name = tbn if flags.backbone == "tbn" else recipes.BASE
    knobs = {
        "sampling.frames": flags.frames, "sampling.rule": flags.sampling, "sampling.rate": flags.rate,
        "flow.algorithm": flags.flow, "rgb.edge": flags.edge, "flow.edge": flags.edge,
    }  # fmt: skip
    if flags.window is not None:
        knobs |= dict.fromkeys(("rgb.window", "flow.window"), flags.window)
        knobs |= dict.fromkeys(("rgb.first", "flow.first"), -(flags.window // 2))
    changes = dict(parsed(entry, "section.knob", "rgb.edge=zero (see cia-extract recipes kinetics)") for entry in flags.changes)
    recipe = recipes.load(name, changes | {knob: value for knob, value in knobs.items() if value not in (None, "")})
    if flags.backbone and flags.backbone != recipe.backbone:
        raise UsageError(f"--recipe {name}: is for --backbone {recipe.backbone}, not {flags.backbone}")
    return recipe


def modalities_of(backbone: str, asked: Sequence[str]) -> tuple[str, ...]:
    """The modalities asked for, else all of the backbone."""
    from cia_extract.networks import IN_CHANNELS

    return tuple(m for m in MODALITIES if m in (asked or IN_CHANNELS[backbone]))
