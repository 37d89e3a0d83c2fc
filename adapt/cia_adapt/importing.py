"""`cia-adapt import`: features that other tools left behind, into a feature file of schema 1 that holds vectors or maps.

    FILE.pkl    EPIC-100's released UDA features: {'features': {'RGB', 'Flow', 'Audio': [N, 25, 1024]}, 'narration_ids': [N]}
    DIR         one file a clip or one a frame, as `cia_extract.collected` reads them
                (TA3N's: <clip>/img_00001.t7)

Nothing that a pickle or a file of torch may want to run is run.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
from cia_extract import collected, features, manifest, safe_pickle
from cia_extract.collected import Features
from cia_extract.console import Progress
from cia_extract.errors import DataError, MismatchError, UsageError

from cia_adapt import __version__
from cia_adapt.data import centre_frames

EPIC_NAMES: Final = {"RGB": "rgb", "Flow": "flow", "Audio": "audio"}
Clips = dict[str, Callable[[], Features]]  # by name, read on request
Shapes = dict[str, dict[str, tuple[int, ...]]]  # {modality: {array: a clip's shape}}


def take_over(paths: Sequence[Path], listed: Path, dataset: str, modality: str | None, frames: int, out: Path) -> dict[str, Any]:
    """Add a dataset of the manifest's clips that have features in `paths`, together; returns counts.

    `modality` is that of a folder whose layout does not say. Raises UsageError, DataError, MismatchError; `out` is as before.
    """
    manifest.check_name(dataset)
    rows = manifest.read(listed)
    found: dict[str, Clips] = {}
    for path in paths:
        for name, clips in _epic(path) if path.is_file() else _folder(path, modality).items():
            found.setdefault(name, {}).update(clips)
    kept = [i for i, clip in enumerate(rows.columns["clip"]) if all(clip in clips for clips in found.values())]
    if not kept:
        wanted, have = rows.columns["clip"][0], next(iter(next(iter(found.values()), {})), "nothing")
        raise DataError(f"{paths[0]}: has none of the clips of {listed}, which look like {wanted}; here: {have}")
    columns = {name: [values[i] for i in kept] for name, values in rows.columns.items()}
    recipe = {"dataset": dataset, "modalities": list(found), "frames": frames, "imported_from": [str(path) for path in paths]}
    shapes = _add(out, columns, found, recipe | {"code_version": __version__})
    return {"imported": len(kept), "of the manifest, without features": len(rows) - len(kept), "arrays": shapes, "file": str(out)}


def _epic(path: Path) -> Iterator[tuple[str, Clips]]:
    try:
        loaded = safe_pickle.load(path)
    except Exception as error:  # whatever a damaged or foreign file makes the reader raise
        raise DataError(f"{path}: not a pickle of arrays ({error})") from error
    if not isinstance(loaded, Mapping) or not {"features", "narration_ids"} <= set(loaded):
        raise DataError(f"{path}: expected a dictionary with features and narration_ids, as EPIC-100's UDA features have")
    ids = [str(i) for i in np.asarray(loaded["narration_ids"]).tolist()]
    for name, values in loaded["features"].items():
        array = np.asarray(values)
        if name not in EPIC_NAMES or array.ndim != 3 or len(array) != len(ids):
            what = f"features {name} {array.shape} do not fit {len(ids)} narration_ids"
            raise DataError(f"{path}: {what}; expected RGB, Flow, Audio [N, 25, C]")
        yield EPIC_NAMES[name], {clip: partial(Features, x, None) for clip, x in zip(ids, array, strict=True)}


def _folder(path: Path, modality: str | None) -> dict[str, Clips]:
    """{modality: clips}, by their path inside the folder, and by their name alone."""
    if not path.is_dir():
        raise UsageError(f"{path}: no such file or folder")
    collection = collected.from_folder(path)
    own = path.name.lower() if path.name.lower() in collected.MODALITIES else modality
    found: dict[str, Clips] = {}
    for clip, by_modality in collection.clips.items():
        for said, read in by_modality.items():
            name = said or own
            if name not in collected.MODALITIES:
                raise UsageError(f"{path}: does not say which modality it holds; --modality {', '.join(collected.MODALITIES)}")
            found.setdefault(name, {}).update({collection.short_names[clip]: read, clip: read})
    return found


def _add(out: Path, columns: Mapping[str, Sequence[str]], found: Mapping[str, Clips], recipe: dict[str, Any]) -> Shapes:
    """Into a copy of the file, which then takes its place; never into a file of extracted features, which are dear."""
    part = out.with_name(f".{out.name}.part")
    try:
        if out.exists():
            there = features.open_features(out)
            if any("imported_from" not in one.recipe for one in there.values()):
                raise MismatchError(f"{out}: holds extracted features; import into a file of their own, --out imported.h5")
            if recipe["dataset"] in there:
                raise MismatchError(f"{out}: already has a dataset '{recipe['dataset']}'; choose another --dataset or --out")
            shutil.copyfile(out, part)
        shapes = _write(part, columns, found, recipe)
        part.replace(out)
        return shapes
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _write(part: Path, columns: Mapping[str, Sequence[str]], found: Mapping[str, Clips], recipe: dict[str, Any]) -> Shapes:
    """A group with all its rows done; {modality: shape} of what was stored."""
    clips, frames, shapes = columns["clip"], recipe["frames"], {}
    with h5py.File(part, "a") as file:
        file.attrs["schema"] = features.SCHEMA
        file.attrs.setdefault("created_by", f"cia-adapt {__version__}")
        group = file.create_group(recipe["dataset"])
        group.attrs["recipe"], group.attrs["recipe_sha256"] = json.dumps(recipe, sort_keys=True), features.recipe_sha256(recipe)
        listed = features.write_columns(group, columns)
        listed["indices"] = np.tile(np.arange(frames, dtype=np.int32), (len(clips), 1))
        crcs = np.zeros((len(clips), len(found)), np.uint32)
        lengths = np.zeros(len(clips), np.int32)
        for column, (modality, reads) in enumerate(found.items()):
            arrays: dict[str, h5py.Dataset] = {}
            with Progress(len(clips), f"importing {modality}") as progress:
                for row, clip in enumerate(clips):
                    read = reads[clip]()
                    values, lengths[row] = _stored(read, frames, clip), len(read.pooled)
                    if row == 0:
                        shapes[modality] = {name: value.shape for name, value in values.items()}
                        arrays = {
                            name: group.create_dataset(f"{modality}/{name}", (len(clips), *value.shape), value.dtype)
                            for name, value in values.items()
                        }
                    shape = {name: value.shape for name, value in values.items()}
                    if shape != shapes[modality]:
                        raise DataError(f"{clip}: {modality} is {shape}, that of {clips[0]} is {shapes[modality]}")
                    for name, value in values.items():
                        arrays[name][row] = value
                    crcs[row, column] = features.row_crc32c(*values.values())
                    progress.step()
        listed["n_frames"] = lengths  # those of the features found: check tells where they repeat
        group["crc32c"], group["status"] = crcs, np.full(crcs.shape, features.DONE, np.uint8)
    return shapes


def _stored(clip: Features, frames: int, name: str) -> dict[str, npt.NDArray[Any]]:
    """maps [T, C, H, W] float16, where there are any, and pooled [T, C] float32; T = `frames` of the clip's by TSN's rule.

    Frames repeat where it has fewer. Raises DataError for what is not finite.
    """
    chosen = centre_frames(len(clip.pooled), frames) if len(clip.pooled) != frames else slice(None)
    values: dict[str, npt.NDArray[Any]] = {"pooled": np.asarray(clip.pooled[chosen], np.float32)}
    if clip.maps is not None:
        with np.errstate(over="ignore"):
            values = {"maps": np.asarray(clip.maps[chosen]).astype(np.float16)} | values
    if not all(np.isfinite(value).all() for value in values.values()):
        raise DataError(f"{name}: has values that are not finite in float16 or at all")
    return values
