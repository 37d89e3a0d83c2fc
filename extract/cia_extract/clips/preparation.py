"""One clip from its file to the networks' input: a worker process's unit of work. It needs torch only to compute flow."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

import cia_extract.clips.flow.cache as cache
import cia_extract.clips.flow.methods as methods
import cia_extract.clips.picture as preprocess
import cia_extract.clips.sampling as sampling
from cia_extract.clips.audio import spectrograms
from cia_extract.clips.cuts import frame_number
from cia_extract.clips.frame_folder import FlowFolder
from cia_extract.clips.job import ClipJob, FramePairs, Pixels, PreparedClip, StoredFlow, Windows
from cia_extract.clips.video import decode, frame_rate
from cia_extract.common.outcomes import OK, ClipError, Outcome, first_line
from cia_extract.datasets import Manifest
from cia_extract.recipes import Recipe

# Frames held before falling back to a second pass over the file, and their bytes: of 4:3 0.5 GB a worker, of 16:9 0.7 GB.
HELD_FRAMES: Final = 2000
HELD_BYTES: Final = 700_000_000
# A clip's most frames, 18 hours at 60 a second. Damaged times, read at a rate, would repeat a frame without end.
MOST_FRAMES: Final = 4_000_000

# Flow leads to a later frame, so a video has a few fewer flows than frames: 6 in EPIC-55, at 60 frames a second.
FLOW_TOLERATED_S: Final = 0.2


def job_of(rows: Manifest, row: int, root: Path, recipe: Recipe, modalities: tuple[str, ...]) -> ClipJob:
    """The task for one row of a manifest, for extraction and for everything that shows or repeats it."""
    start, stop = rows.seconds(row)
    stored = None
    if "flow_path" in rows.columns and rows.columns["flow_path"][row]:
        folder = root / rows.columns["flow_path"][row]
        stored = StoredFlow(folder, rows.number(row, "flow_rate"), rows.number(row, "flow_bound"))
    rate = rows.number(row, "rate") or recipe.sampling.rate
    return ClipJob(rows.path(row, root), modalities, recipe, start, stop, rate, stored)


def prepare_clip(job: ClipJob, beat: Callable[[], None] = lambda: None) -> PreparedClip:
    """Decode, sample, scale and crop a clip, and compute its flow and spectrograms. Each flow is computed only once.

    `beat` is called while the work goes on, so that a hang differs from a long clip. Raises ClipError if the clip's frames cannot
    be read; an error in flow or audio alone goes into the result's `errors`.
    """
    began = time.process_time()
    recipe, pictures = job.recipe, {"rgb", "flow"} & set(job.modalities)
    scaled, times, damaged = _scaled_frames(job, beat)
    n_frames, count, rgb = len(times), recipe.sampling.frames, recipe.rgb
    centres = sampling.centres(recipe.sampling.rule, n_frames, count, rgb.first, rgb.window, rgb.step)
    fps = job.rate or (0.0 if job.path.is_dir() else frame_rate(job.path))
    clip = PreparedClip(n_frames, fps, centres)
    clip.outcomes = {m: _outcome(n_frames, count, 0 if m == "flow" and job.stored_flow else damaged) for m in pictures}
    if "rgb" in job.modalities:
        rows = np.stack([sampling.window(c, rgb.window, n_frames, rgb.first, rgb.step, rgb.edge) for c in centres])
        order = slice(None, None, -1 if rgb.order == "bgr" else 1)
        clip.windows["rgb"] = _gather(rows, {t: _cut(job, scaled[t])[..., order] for t in _distinct(rows)})
    if "audio" in job.modalities:
        _attempt(clip, "audio", lambda: _sound(job, clip, _seconds(job, times, fps)[centres], beat))
    clip.decode_s = time.process_time() - began
    began = time.process_time()
    if "flow" in job.modalities:
        _attempt(clip, "flow", lambda: _stored_flow(job, clip) if job.stored_flow else _computed_flow(job, clip, scaled, beat))
    clip.flow_s = time.process_time() - began
    return clip


def _outcome(n_frames: int, described: int, damaged: int) -> Outcome:
    """The outcome of a clip's pictures if they can be used: ok, short or damaged."""
    short = f"{n_frames} frames, {described} are described" if n_frames < described else ""
    if damaged:
        message = f"{damaged} of {n_frames} frames are damaged, or build on damaged ones; get the file again"
        return Outcome("damaged", f"{message} ({short})" if short else message)
    return Outcome("short", short) if short else OK


def seen_frames(job: ClipJob, indices: Sequence[int]) -> list[Pixels]:
    """The frames at `indices`, each [crop, crop, 3] uint8 RGB, counted, scaled and cropped as extraction does.

    Raises ClipError as `prepare`, and if the clip has become too short for an index.
    """
    needed, scale = set(indices), preprocess.Scaler(str(job.path), job.recipe.picture)
    seen: dict[int, Pixels] = {}
    for t, frame in enumerate(decode(job.path, job.start, job.stop, job.rate)):
        scale.check_size(frame.image, t)
        if t in needed:
            seen[t] = preprocess.centre_crop(scale(frame.image, t), job.recipe.picture.crop)
        if len(seen) == len(needed):
            return [seen[t] for t in indices]
    raise ClipError(f"{job.path}: is not the clip that was extracted: it has no frame {max(needed - set(seen))} (counted from 0)")


def _attempt(clip: PreparedClip, modality: str, work: Callable[[], None]) -> None:
    """Prepare one modality of a clip; an error in it is recorded and leaves the others alone."""
    try:
        work()
    except ClipError as error:
        clip.errors[modality] = error
    except Exception as error:
        clip.errors[modality] = ClipError(first_line(error))


def _sound(job: ClipJob, clip: PreparedClip, centres_s: npt.NDArray[np.float64], beat: Callable[[], None]) -> None:
    sound = spectrograms(job.path, centres_s, job.recipe.audio, beat)
    clip.windows["audio"] = Windows(sound.images[..., None], np.arange(len(centres_s), dtype=np.int32)[:, None])
    clip.present, clip.outcomes["audio"] = sound.present, Outcome(sound.status, sound.message)


def _scaled_frames(job: ClipJob, beat: Callable[[], None]) -> tuple[dict[int, Pixels], list[float | None], int]:
    """({frame: scaled picture} for the frames that windows need, the times of all frames, the number of damaged frames).

    A clip of at most HELD_FRAMES and HELD_BYTES keeps all its frames. Raises ClipError for one of more than MOST_FRAMES.
    """
    pictures = {"rgb", "flow"} & set(job.modalities)
    scaled: dict[int, Pixels] = {}
    times: list[float | None] = []
    damaged = held = 0
    scale = preprocess.Scaler(str(job.path), job.recipe.picture)
    for frame in decode(job.path, job.start, job.stop, job.rate, beat):
        if pictures:
            scale.check_size(frame.image, len(times))
        if len(scaled) == len(times) < HELD_FRAMES and held < HELD_BYTES and pictures:
            scaled[len(times)] = scale(frame.image, len(times))
            held += scaled[len(times)].nbytes
        times.append(frame.time)
        if len(times) > MOST_FRAMES:
            raise ClipError(f"{job.path}: has more than {MOST_FRAMES:,} frames; are its times damaged? Cut it into clips")
        damaged += frame.damaged
    if not times:
        end = "its end" if job.stop is None else f"{job.stop:g} s"
        raise ClipError(f"{job.path}: no frame between {job.start or 0:g} s and {end}; check start and stop")
    if pictures and len(times) > len(scaled):
        # Which frames are needed depends on their number. Only a clip too long to be held is decoded twice.
        needed = _needed(job.recipe, len(times))
        scaled = {}
        for t, frame in enumerate(decode(job.path, job.start, job.stop, job.rate, beat)):
            if t in needed:
                scaled[t] = scale(frame.image, t)
    return scaled, times, damaged


def _needed(recipe: Recipe, n_frames: int) -> set[int]:
    rgb, rule = recipe.rgb, recipe.flow
    centres = sampling.centres(recipe.sampling.rule, n_frames, recipe.sampling.frames, rgb.first, rgb.window, rgb.step)
    near = {int(t) for c in centres for t in sampling.window(c, rgb.window, n_frames, rgb.first, rgb.step)}
    flows = _distinct(_flow_windows(recipe, centres, n_frames / rule.stride, rule.stride, methods.count(n_frames, rule)))
    return near | {t for i in flows for t in methods.frame_pair(i, rule)}


def _flow_windows(recipe: Recipe, centres: sampling.Indices, n_flows: float, stride: float, available: int) -> sampling.Indices:
    """The windows of flow: [T, L] indices of flows.

    `n_flows` is the number by the recipe's rule (fractional for TBN), `available` that of flows that exist; a flow stands for
    `stride` frames. I3D's windows lie around the flow at the RGB centre's time; TBN samples its stacks of five by a rule of their
    own.
    """
    rule = recipe.flow
    if recipe.backbone == "tbn" and recipe.sampling.rule == "tsn":
        at = sampling.tsn(n_flows, recipe.sampling.frames, rule.window)
    else:
        at = np.asarray([int(c / stride) for c in centres], dtype=np.int32)
    return np.stack([sampling.window(c, rule.window, available, rule.first, rule.step, rule.edge) for c in at])


def _computed_flow(job: ClipJob, clip: PreparedClip, scaled: dict[int, Pixels], beat: Callable[[], None]) -> None:
    """Put flow between the clip's own frames into `clip`, from the cache or computed; or, for the device, the grey frames."""
    recipe, rule = job.recipe, job.recipe.flow
    available = methods.count(clip.n_frames, rule)
    rows = _flow_windows(recipe, clip.centres, clip.n_frames / rule.stride, rule.stride, available)
    indices = _distinct(rows)
    cached = cache.load(job.flow_cache, job) if job.flow_cache else {}
    missing = [i for i in indices if i not in cached]
    if job.flow_by == "device" and missing:
        clip.pairs = _pairs(job, clip, scaled, rows, indices)
        return
    grey = {t: preprocess.grey(scaled[t]) for i in missing for t in methods.frame_pair(i, rule) if t < clip.n_frames}
    computed = methods.quantised_flows(grey, missing, rule, beat, job.flow_by)
    crops = {i: _cut(job, image) for i, image in computed.items()}
    if job.flow_cache and crops:
        clip.warning = cache.save(job.flow_cache, job, cached | crops)
    clip.windows["flow"] = _gather(rows, cached | crops)


def _pairs(
    job: ClipJob, clip: PreparedClip, scaled: dict[int, Pixels], rows: npt.NDArray[np.int32], indices: list[int]
) -> FramePairs:
    """The flows at `indices`, whose windows are `rows` [T, L], as pairs of grey frames."""
    ends = np.asarray([methods.frame_pair(i, job.recipe.flow) for i in indices])
    ends[:, 1] = np.where(ends[:, 1] < clip.n_frames, ends[:, 1], ends[:, 0])
    order = np.unique(ends)
    grey = np.stack([preprocess.grey(scaled[t]) for t in order.tolist()])
    windows = np.where(rows < 0, rows, np.searchsorted(indices, rows)).astype(np.int32)
    return FramePairs(grey, np.searchsorted(order, ends).astype(np.int32), windows, tuple(indices))


def _stored_flow(job: ClipJob, clip: PreparedClip) -> None:
    """Put stored flow into `clip`: its flow i is picture ⌊first frame · flow rate / rate⌋ + i of the folder, from 0."""
    recipe, rule, stored = job.recipe, job.recipe.flow, job.stored_flow
    assert stored is not None
    folder = FlowFolder(stored.folder)
    if not job.start:
        folder.check_begins()
    rate = clip.fps or stored.rate
    ratio = stored.rate / rate
    offset = int(np.floor(frame_number(job.start or 0.0, rate) * ratio))
    n_flows = clip.n_frames * ratio
    available, needed = max(len(folder) - offset, 0), int(np.ceil(n_flows))
    if available < 1 or needed - available > FLOW_TOLERATED_S * stored.rate:
        why = f"has {available} of the clip's {needed} flows; unpack the flow frames again"
        raise ClipError(f"{stored.folder}: partial, {why}", "partial decode")
    rows = _flow_windows(recipe, clip.centres, n_flows, 1 / ratio, min(needed, available))
    images: dict[int, Pixels] = {}
    scale = preprocess.Scaler(str(stored.folder), recipe.picture, exactly=True)  # stored flow counts px of its own size
    for index in _distinct(rows):
        image = folder.read(offset + index)
        scale.check_size(image, offset + index)
        if rule.stored == "rescale" and stored.bound != rule.bound:
            image = methods.quantise(methods.dequantise(image, stored.bound), rule.bound, rule.quantiser)
        images[index] = _cut(job, scale(image, offset + index))
    clip.windows["flow"] = _gather(rows, images)


def _cut(job: ClipJob, image: Pixels) -> Pixels:
    """The part of a scaled picture that the job asks for."""
    return preprocess.on_canvas(image, *job.canvas) if job.canvas else preprocess.centre_crop(image, job.recipe.picture.crop)


def _seconds(job: ClipJob, times: list[float | None], fps: float) -> npt.NDArray[np.float64]:
    """The frames' times in the video (s); a frame without a time gets one from its number."""
    counted = (job.start or 0.0) + np.arange(len(times)) / (fps or 25.0)
    return np.array([c if t is None else t for t, c in zip(times, counted, strict=True)])


def _distinct(rows: npt.NDArray[np.int32]) -> list[int]:
    return [t for t in np.unique(rows).tolist() if t != sampling.BEYOND]


def _gather(rows: npt.NDArray[np.int32], images: dict[int, Pixels]) -> Windows:
    """Windows from [T, L] frame numbers and {frame number: image}: each image once, and the numbers as rows of the images."""
    order: Iterable[int] = _distinct(rows)
    places = np.searchsorted(np.asarray(order), rows)
    return Windows(np.stack([images[t] for t in order]), np.where(rows < 0, rows, places).astype(np.int32))
