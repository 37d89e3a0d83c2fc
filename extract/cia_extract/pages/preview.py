"""What the networks see of a clip: the described frames with their windows, flow in colour and as arrows, sound.

It shows a wrong rate, a turned video or an empty flow before hours are spent on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

import cia_extract.pages.html as html
from cia_extract.clips import ClipJob, PreparedClip, decode, job_of, preparation, prepare_clip, sampling
from cia_extract.clips.flow import dequantise
from cia_extract.common.console import Say
from cia_extract.common.outcomes import ClipError
from cia_extract.datasets import Manifest
from cia_extract.pages.flow_picture import arrows, colours, wheel
from cia_extract.pages.sound import Sound, listen
from cia_extract.recipes import Recipe

RESTS = 0.3  # px; flow that is no longer than this in 99 % of its places is called empty


@dataclass(frozen=True)
class Frame:
    """One described frame."""

    index: int
    """In the clip, from 0."""
    time: str
    window: str
    """First and last frame of RGB's window, and what stands beyond the clip."""
    rgb: str
    """Pictures as sources of HTML images; "" where there is none."""
    colours: str
    arrows: str


@dataclass(frozen=True)
class Preview:
    """What the page shows of one clip."""

    clip: str
    facts: dict[str, str]
    warnings: list[str]
    frames: list[Frame]
    full_flow: float
    """Length (px) of the flow that has full colour; 0 without flow."""
    sound: Sound | None


def write(
    out: Path, rows: Manifest, chosen: Sequence[int], root: Path, recipe: Recipe, modalities: tuple[str, ...], say: Say
) -> list[str]:
    """Write the page about these rows of a manifest; return a line for each clip that cannot be read, as the page names it.

    Raises UsageError where `out` cannot be written, and ClipError where no clip can be read.
    """
    previews: list[Preview] = []
    failed: list[str] = []
    for row in chosen:
        clip = rows.columns["clip"][row]
        say(f"reading {clip}")
        try:
            previews.append(look(clip, _told(rows, row), job_of(rows, row, root, recipe, modalities)))
        except ClipError as error:
            failed.append(f"{clip}: {error}")
            if len(failed) == len(chosen):
                raise
    html.write(
        out, "preview.html",
        previews=previews, failed=failed, recipe=recipe, modalities=modalities, wheel=html.png(wheel()), source=rows.source,
    )  # fmt: skip
    return failed


def _told(rows: Manifest, row: int) -> dict[str, str]:
    """What the manifest says of a clip."""
    return {name: values[row] for name, values in rows.columns.items() if name != "clip" and values[row] not in ("", "-")}


def look(clip: str, facts: dict[str, str], job: ClipJob) -> Preview:
    """Prepare a clip as extraction does, with one flow for each described frame. Raises ClipError.

    Args:
        clip: its id.
        facts: what is known of it beforehand.
    """
    pictures = tuple(m for m in job.modalities if m != "audio") or ("rgb",)
    prepared = prepare_clip(replace(job, recipe=_one_flow(job.recipe), modalities=pictures))
    times, size = _times(job, prepared.fps)
    centres = prepared.centres.tolist()
    motion = _motion(job, prepared)
    lengths = np.linalg.norm(motion, axis=-1) if motion is not None else np.zeros(1)
    full = 0.0 if motion is None else max(float(np.percentile(lengths, 99)), 1.0)
    frames = _frames(job, prepared, times, motion, full)
    warnings = [f"{m}: {outcome.name}, {outcome.message}" for m, outcome in prepared.outcomes.items() if outcome.message]
    warnings += [f"{m}: {error}" for m, error in prepared.errors.items()]
    sound = None
    if "audio" in job.modalities:
        try:
            sound = listen(job, centres, [times[c] for c in centres])
            facts = facts if sound else facts | {"sound": "none"}
        except ClipError as error:
            warnings.append(f"audio: {error}")
    facts = facts | {
        "frames": f"{prepared.n_frames}, {f'{prepared.fps:.4g} a second' if prepared.fps else 'no rate is known'}",
        "shown from": f"{times[0]:.2f} s to {times[-1]:.2f} s",
        "picture": f"{size[1]} × {size[0]} px",
    }
    if motion is not None:
        most = np.percentile(lengths, 99)
        facts["flow"] = f"mean {lengths.mean():.2f} px, 99 % below {most:.2f} px, longest {lengths.max():.2f} px"
        if most < RESTS:
            warnings.append(f"flow: nearly empty, 99 % below {most:.2f} px; a still picture, or wrong stored flow?")
    return Preview(clip, facts, warnings, frames, full, sound)


def _frames(
    job: ClipJob, prepared: PreparedClip, times: Sequence[float], motion: npt.NDArray[np.float32] | None, full: float
) -> list[Frame]:
    rgb, centres = job.recipe.rgb, prepared.centres.tolist()
    return [
        Frame(
            index=c,
            time=f"{times[c]:.2f} s",
            window=_window(c, rgb.first, rgb.window, rgb.step, rgb.edge, prepared.n_frames),
            rgb=html.jpeg(picture),
            colours="" if motion is None else html.jpeg(colours(motion[i], full)),
            arrows="" if motion is None else html.jpeg(arrows(picture, motion[i], full)),
        )
        for i, (c, picture) in enumerate(zip(centres, preparation.seen_frames(job, centres), strict=True))
    ]


def _one_flow(recipe: Recipe) -> Recipe:
    """The recipe with windows of one flow, that at the described frame. TBN's stacks of five lie by a rule of their own."""
    if recipe.backbone == "tbn":
        return recipe
    return replace(recipe, flow=replace(recipe.flow, window=1, first=0, step=1))


def _times(job: ClipJob, fps: float) -> tuple[list[float], tuple[int, int]]:
    """(seconds of all frames in the video, (height, width) of the first). A frame without a time gets one from its number."""
    times, size = [], (0, 0)
    for t, frame in enumerate(decode(job.path, job.start, job.stop, job.rate)):
        size = size if t else frame.image.shape[:2]
        times.append((job.start or 0.0) + t / (fps or 25.0) if frame.time is None else float(frame.time))
    return times, size


def _motion(job: ClipJob, prepared: PreparedClip) -> npt.NDArray[np.float32] | None:
    """The first flow of each described frame's window in px, [T, H, W, 2]; what its 8 bits cannot tell from rest is 0."""
    windows = prepared.windows.get("flow")
    if windows is None:
        return None
    bound = job.recipe.flow.bound
    if job.stored_flow is not None and job.recipe.flow.stored == "keep":
        bound = job.stored_flow.bound
    motion = dequantise(windows.images[windows.rows[:, 0]], bound)
    motion[np.abs(motion) < 2 * bound / 255] = 0
    return motion


def _window(centre: int, first: int, length: int, step: int, edge: str, n_frames: int) -> str:
    """ "29–44", and where it leaves the clip what stands there instead.

    >>> _window(37, -8, 16, 1, "replicate", 50), _window(2, -8, 16, 1, "replicate", 50)
    ('29–44', '0–9, and frame 0 again 6 times')
    >>> _window(48, -8, 16, 1, "zero", 50)
    '40–49, and 6 frames of zeros'
    >>> _window(20, -4, 4, 2, "replicate", 50)
    '16–22, every 2nd'
    """
    seen = sampling.window(centre, length, n_frames, first, step, "zero")
    inside = seen[seen != sampling.BEYOND]
    before = int((centre + first + step * np.arange(length) < 0).sum())
    behind = length - len(inside) - before
    text = f"{inside.min()}–{inside.max()}" if len(inside) > 1 else f"{inside.min()}" if len(inside) else "none"
    text += f", every {'2nd' if step == 2 else '3rd' if step == 3 else f'{step}th'}" if step > 1 and len(inside) > 1 else ""
    if edge == "zero" and before + behind:
        return f"{text}, and {before + behind} frames of zeros"
    text += f", and frame 0 again {before} times" if before else ""
    return text + (f", and frame {n_frames - 1} again {behind} times" if behind else "")
