"""`cia-adapt import`: features that other tools left behind, into a feature file of schema 1 that holds vectors or maps.

    FILE.pkl    EPIC-100's released UDA features: {'features': {'RGB', 'Flow', 'Audio': [N, 25, 1024]}, 'narration_ids': [N]}
    FILE.npz    the same in numpy's own format: clip [N] and rgb, flow, audio [N, C] or [N, T, C]
    DIR         one file a clip or one a frame, as `cia_extract.collected` reads them
                (TA3N's: <clip>/img_00001.t7)

Nothing that a pickle or a file of torch may want to run is run. `matching` says which features are which clip's.
"""

import json
import os
import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
from cia_extract import __version__, features
from cia_extract.common.arrays import shown
from cia_extract.common.console import Progress
from cia_extract.common.errors import DataError, MismatchError, UsageError
from cia_extract.datasets import manifest
from cia_extract.features import ClipFeatures
from cia_extract.features import collection as collected

from cia_adapt.data.matching import Found, match
from cia_adapt.data.sampling import centre_frames

FRAMES: Final = 25  # TSN's, of clips that have more than one
Clips = dict[str, Callable[[], ClipFeatures]]  # by the manifest's ids, read on request
Shapes = dict[str, dict[str, tuple[int, ...]]]  # {modality: {array: a clip's shape}}


def take_over(
    paths: Sequence[Path], listed: Path, dataset: str, modality: str | None, frames: int | None, out: Path
) -> dict[str, Any]:
    """Add a dataset of the manifest's clips that have features in `paths`, together; returns counts.

    `modality` is that of a folder whose layout does not say. `frames` are kept of each clip; without it one where the clips have
    one, else 25. Raises UsageError, DataError, MismatchError; `out` is as before.
    """
    manifest.check_name(dataset)
    rows = manifest.read(listed, needs_path=False)
    names = {
        *rows.columns["clip"],
        *(str(PurePosixPath(path).parent / PurePosixPath(path).stem) for path in rows.columns["path"]),
    }
    found: dict[str, list[Found]] = {}
    for path in paths:
        for name, one in _rows_file(path) if os.path.isfile(path) else _folder(path, modality, names):
            found.setdefault(name, []).append(one)
    clips = {name: match(rows.columns, entries, f"{listed}") for name, entries in found.items()}
    kept = [i for i, clip in enumerate(rows.columns["clip"]) if all(clip in reads for reads in clips.values())]
    if not kept:
        wanted, have = rows.columns["clip"][0], next((entries[0].where for entries in found.values() if entries), "nothing")
        raise DataError(f"{paths[0]}: has none of the clips of {listed}, which look like {wanted}; here: {have}")
    columns = {name: [values[i] for i in kept] for name, values in rows.columns.items()}
    if frames is None and len(next(iter(clips.values()))[columns["clip"][0]]().pooled) == 1:
        frames, clips = (
            1,
            {m: {clip: partial(_single, clip, reads[clip]) for clip in columns["clip"]} for m, reads in clips.items()},
        )
    frames = frames or FRAMES
    provenance = {"dataset": dataset, "modalities": list(found), "frames": frames, "imported_from": [str(path) for path in paths]}
    shapes = _add(out, columns, clips, provenance | {"code_version": __version__})
    return {"imported": len(kept), "of the manifest, without features": len(rows) - len(kept), "arrays": shapes, "file": str(out)}


def _single(clip: str, read: Callable[[], ClipFeatures]) -> ClipFeatures:
    """Features of one frame. Raises DataError for more, of which the wrong ones would be dropped without a word."""
    one = read()
    if len(one.pooled) > 1:
        raise DataError(f"{clip}: has {len(one.pooled)} frames, the first clip has one; say how many are kept with --frames")
    return one


def _rows_file(path: Path) -> Iterator[tuple[str, Found]]:
    """(modality, features) of every clip of a file that holds many."""
    ids, arrays = collected.rows_of(path)
    for name, array in arrays.items():
        for clip, values in zip(ids, array, strict=True):
            frames = values if values.ndim == 2 else values[None]  # [T, C]
            where = shown(f"{clip} in {path}", 1000)
            yield name, Found(where, PurePosixPath(clip).parts or (clip,), partial(ClipFeatures, frames, None))


def _folder(path: Path, modality: str | None, names: Container[str]) -> Iterator[tuple[str, Found]]:
    """(modality, features) of every clip of a folder, by the path below it and the folder's own name."""
    if not os.path.isdir(path):  # Path.is_dir() raises OSError for names that are too long
        raise UsageError(f"{path}: no such file or folder")
    collection = collected.from_folder(path, names)
    folder = path.resolve().name
    own = folder.lower() if folder.lower() in collected.MODALITIES else modality
    for clip, by_modality in collection.clips.items():
        for said, read in by_modality.items():
            name = said or own
            if name not in collected.MODALITIES:
                raise UsageError(f"{path}: does not say which modality it holds; --modality {', '.join(collected.MODALITIES)}")
            yield name, Found(shown(f"{path}/{clip}", 1000), tuple(clip.split("/")), read, folder)


def _add(out: Path, columns: Mapping[str, Sequence[str]], found: Mapping[str, Clips], provenance: dict[str, Any]) -> Shapes:
    """Into a copy of the file, which then takes its place; never into a file of extracted features, which are dear."""
    if os.path.isdir(out):
        raise UsageError(f"--out {out}: is a folder; name a file in it, {out / 'imported.h5'}")
    part = out.with_name(f".{out.name}.part")
    try:
        if out.exists():
            there = features.open_features(out)
            if any("imported_from" not in one.provenance for one in there.values()):
                raise MismatchError(f"{out}: holds extracted features; import into a file of their own, --out imported.h5")
            if provenance["dataset"] in there:
                raise MismatchError(f"{out}: already has a dataset '{provenance['dataset']}'; choose another --dataset or --out")
            shutil.copyfile(out, part)
        shapes = _write(part, columns, found, provenance)
        part.replace(out)
        return shapes
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _write(part: Path, columns: Mapping[str, Sequence[str]], found: Mapping[str, Clips], provenance: dict[str, Any]) -> Shapes:
    """A group with all its rows done; {modality: shape} of what was stored."""
    clips, frames, shapes = columns["clip"], provenance["frames"], {}
    with h5py.File(part, "a") as file:
        file.attrs["schema"] = features.SCHEMA
        file.attrs.setdefault("created_by", f"cia-adapt {__version__}")
        group = file.create_group(provenance["dataset"])
        group.attrs["recipe"] = json.dumps(provenance, sort_keys=True)
        group.attrs["recipe_sha256"] = features.provenance_sha256(provenance)
        try:
            listed = features.write_columns(group, columns)
        except ValueError as error:  # HDF5 takes no "." and no NUL
            raise DataError(f"the manifest has a column or cell that cannot be stored ({error}); rename it") from error
        listed["indices"] = np.tile(np.arange(frames, dtype=np.int32), (len(clips), 1))
        crcs, vectors_crcs = (np.zeros((len(clips), len(found)), np.uint32) for _ in range(2))
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
                    vectors_crcs[row, column] = features.row_crc32c(values["pooled"])
                    progress.step()
        listed["n_frames"] = lengths  # those of the features found: check tells where they repeat
        group["crc32c"], group["vectors_crc32c"] = crcs, vectors_crcs
        group["status"] = np.full(crcs.shape, features.DONE, np.uint8)
    return shapes


def _stored(clip: ClipFeatures, frames: int, name: str) -> dict[str, npt.NDArray[Any]]:
    """maps [T, C, H, W] float16, where there are any, and pooled [T, C] float32; T = `frames` of the clip's by TSN's rule.

    Frames repeat where it has fewer. Raises DataError for what is not finite.
    """
    chosen = centre_frames(len(clip.pooled), frames) if len(clip.pooled) != frames else slice(None)
    with np.errstate(over="ignore"):
        values: dict[str, npt.NDArray[Any]] = {"pooled": np.asarray(clip.pooled[chosen], np.float32)}
        if clip.maps is not None:
            values = {"maps": np.asarray(clip.maps[chosen]).astype(np.float16)} | values
    if not all(np.isfinite(value).all() for value in values.values()):
        raise DataError(f"{name}: has values that are not finite in float16 or at all")
    return values
