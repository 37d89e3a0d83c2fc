"""What a recipe's knobs may be together; what each may be alone, its field in `recipe` says."""

from typing import Final

from cia_extract.common.errors import UsageError
from cia_extract.recipes.recipe import Audio, Recipe

_SMALLEST_IMAGE: Final = 32  # BN-Inception halves five times


def check(recipe: Recipe) -> None:
    """Raises UsageError for knobs that no extraction can use together."""
    if recipe.picture.crop > recipe.picture.short_side:
        raise UsageError("picture.crop is larger than picture.short_side; there would be nothing to crop from")
    for stream, window in (("rgb", recipe.rgb.window), ("flow", recipe.flow.window)):
        if recipe.backbone == "i3d" and window < 9:
            raise UsageError(f"{stream}.window = {window}: I3D needs 9 frames or more for two time slices")
    if recipe.backbone == "tbn" and (recipe.rgb.window, recipe.flow.window) != (1, 5):
        raise UsageError("TBN's networks see 1 RGB frame and 5 flows; rgb.window and flow.window cannot change")
    if recipe.picture.crop != 224:
        raise UsageError("picture.crop: maps are 7×7 from 224 px only")
    _check_sound(recipe.audio)


def _check_sound(audio: Audio) -> None:
    if audio.win > audio.n_fft:
        raise UsageError(f"audio.win = {audio.win}: must not be longer than audio.n_fft, {audio.n_fft}")
    columns = audio.seconds * audio.rate / audio.hop
    if not _SMALLEST_IMAGE < columns < 10_000:
        raise UsageError(
            f"audio.seconds · audio.rate / audio.hop = {columns:.4g}: spectrograms need {_SMALLEST_IMAGE} to 10000 time steps"
        )
