"""`cia-adapt import`: copy features that other tools wrote into a feature file of schema 1, as vectors or maps.

    FILE.pkl    EPIC-100's released UDA features: {'features': {'RGB', 'Flow', 'Audio': [N, 25, 1024]}, 'narration_ids': [N]}
    FILE.npz    the same in numpy's own format: clip [N] and rgb, flow, audio [N, C] or [N, T, C]
    DIR         a file for each clip or for each frame, as `cia_extract.features.collection` reads them
                (TA3N's: <clip>/img_00001.t7)

Code inside a pickle or a file of torch is never run. `matching` says which features belong to which clip.
"""

import json
import os
import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
from cia_extract import __version__, features
from cia_extract.common import locks, shortage, writes
from cia_extract.common.arrays import shown
from cia_extract.common.console import Progress
from cia_extract.common.errors import DataError, MismatchError, UsageError
from cia_extract.datasets import manifest
from cia_extract.features import ClipFeatures
from cia_extract.features import collection as collected

from cia_adapt.data.matching import Candidate, match
from cia_adapt.data.sampling import centre_frames

FRAMES: Final = 25  # TSN's number, for clips that have more than one frame
Readers = dict[str, Callable[[], ClipFeatures]]  # {clip id of the manifest: reads its features}
Shapes = dict[str, dict[str, tuple[int, ...]]]  # {modality: {array: a clip's shape}}


@shortage.shortage_said("import", "store fewer frames of each clip (--frames), or import on a machine with more memory")
def import_features(
    paths: Sequence[Path], listed: Path, dataset: str, modality: str | None, frames: int | None, out: Path
) -> dict[str, Any]:
    """Add to `out` a dataset of the manifest's clips that have features of every modality in `paths`; return the counts.

    Args:
        paths: files and folders of features, together.
        listed: the manifest.
        dataset: name of the new dataset in `out`.
        modality: that of a folder whose layout does not say it.
        frames: number of frames to store of each clip; None: 1 where the first clip has one frame, else 25.
        out: a feature file of imported features, or one to be created.

    Raises:
        UsageError, DataError, MismatchError: something does not fit, the memory included; `out` is then as it was before.
    """
    manifest.check_name(dataset)
    rows = manifest.read(listed, needs_path=False)
    candidates = _candidates(paths, rows.columns, modality)
    readers = {name: match(rows.columns, entries, f"{listed}") for name, entries in candidates.items()}
    complete = [i for i, clip in enumerate(rows.columns["clip"]) if all(clip in reads for reads in readers.values())]
    if not complete:
        where = next((entries[0].where for entries in candidates.values() if entries), "nothing")
        raise DataError(
            f"{paths[0]}: has none of the clips of {listed}, whose ids look like {rows.columns['clip'][0]}; it has {where}"
        )
    columns = {name: [values[i] for i in complete] for name, values in rows.columns.items()}
    clips = columns["clip"]
    if frames is None and len(next(iter(readers.values()))[clips[0]]().pooled) == 1:
        frames = 1
        readers = {m: {clip: partial(_single, clip, reads[clip]) for clip in clips} for m, reads in readers.items()}
    frames = frames or FRAMES
    provenance = {
        "dataset": dataset,
        "modalities": list(candidates),
        "frames": frames,
        "imported_from": [str(path) for path in paths],
    }
    shapes = _add(out, columns, readers, provenance | {"code_version": __version__})
    return {
        "imported": len(complete),
        "of the manifest, without features": len(rows) - len(complete),
        "arrays": shapes,
        "file": str(out),
    }


def _candidates(paths: Sequence[Path], columns: Mapping[str, Sequence[str]], modality: str | None) -> dict[str, list[Candidate]]:
    """{modality: its features in all the files and folders}; `columns` are the manifest's."""
    names = {
        *columns["clip"],
        *(str(PurePosixPath(path).parent / PurePosixPath(path).stem) for path in columns["path"]),
    }
    candidates: dict[str, list[Candidate]] = {}
    for path in paths:
        for name, candidate in _rows_file(path) if os.path.isfile(path) else _folder(path, modality, names):
            candidates.setdefault(name, []).append(candidate)
    return candidates


def _single(clip: str, read: Callable[[], ClipFeatures]) -> ClipFeatures:
    """A clip's features, of one frame. Raises DataError for more: which one to store is not known."""
    features_of_clip = read()
    frames = len(features_of_clip.pooled)
    if frames > 1:
        raise DataError(f"{clip}: has {frames} frames, but the first clip has one; give the number to store with --frames")
    return features_of_clip


def _rows_file(path: Path) -> Iterator[tuple[str, Candidate]]:
    """(modality, features) of every clip of a file that holds many clips."""
    ids, arrays = collected.rows_of(path)
    for name, array in arrays.items():
        for clip, values in zip(ids, array, strict=True):
            frames = values if values.ndim == 2 else values[None]  # [T, C]
            where = shown(f"{clip} in {path}", 1000)
            yield name, Candidate(where, PurePosixPath(clip).parts or (clip,), partial(ClipFeatures, frames, None))


def _folder(path: Path, modality: str | None, names: Container[str]) -> Iterator[tuple[str, Candidate]]:
    """(modality, features) of every clip of a folder. Its layout says the modality, else its name does, else `modality`."""
    if not os.path.isdir(path):  # Path.is_dir() raises OSError for names that are too long
        raise UsageError(f"{path}: no such file or folder")
    collection = collected.from_folder(path, names)
    folder = path.resolve().name
    modality = folder.lower() if folder.lower() in collected.MODALITIES else modality
    for clip, by_modality in collection.clips.items():
        for by_layout, read in by_modality.items():
            name = by_layout or modality
            if name not in collected.MODALITIES:
                raise UsageError(
                    f"{path}: does not say which modality it holds; give --modality, one of {', '.join(collected.MODALITIES)}"
                )
            yield name, Candidate(shown(f"{path}/{clip}", 1000), tuple(clip.split("/")), read, folder)


def _add(out: Path, columns: Mapping[str, Sequence[str]], readers: Mapping[str, Readers], provenance: dict[str, Any]) -> Shapes:
    """Write the dataset into a copy of `out`, which then takes its place. A file of extracted features is left alone."""
    if os.path.isdir(out):
        raise UsageError(f"--out {out}: is a folder; name a file in it, {out / 'imported.h5'}")
    lock, busy = out.with_name(f".{out.name}.lock"), f"{out}: another process is importing into it"
    with writes.translated(f"--out {out}", "make room or choose another --out"), locks.alone(lock, busy):
        exists = out.exists()
        if exists:
            _check_room(out, provenance["dataset"])
        writes.remove_left(out)
        with writes.whole(out) as part:
            if exists:
                shutil.copyfile(out, part)
            return _write(part, columns, readers, provenance)


def _check_room(out: Path, dataset: str) -> None:
    """Raise MismatchError for a file that holds extracted features, or a dataset of this name."""
    datasets = features.open_features(out)
    if any("imported_from" not in present.provenance for present in datasets.values()):
        raise MismatchError(f"{out}: holds extracted features; import into another file, such as --out imported.h5")
    if dataset in datasets:
        raise MismatchError(f"{out}: already has a dataset '{dataset}'; choose another --dataset or --out")


def _write(
    part: Path, columns: Mapping[str, Sequence[str]], readers: Mapping[str, Readers], provenance: dict[str, Any]
) -> Shapes:
    """Add a group with all its rows done to the file `part`; return the shapes of what was stored."""
    clips, frames, shapes = columns["clip"], provenance["frames"], {}
    with features.written(part, "a") as file:
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
        crcs, vectors_crcs = (np.zeros((len(clips), len(readers)), np.uint32) for _ in range(2))
        lengths = np.zeros(len(clips), np.int32)
        for column, (modality, reads) in enumerate(readers.items()):
            arrays: dict[str, h5py.Dataset] = {}
            with Progress(len(clips), f"importing {modality}") as progress:
                for row, clip in enumerate(clips):
                    read = reads[clip]()
                    values, lengths[row] = _stored(read, frames, clip), len(read.pooled)
                    if row == 0:
                        shapes[modality] = {name: value.shape for name, value in values.items()}
                        for name, value in values.items():  # else nobody reads what is written here
                            features.storage.check_row_bytes(f"{clip}: {modality}/{name}", value.shape, value.nbytes)
                        arrays = {
                            name: group.create_dataset(f"{modality}/{name}", (len(clips), *value.shape), value.dtype)
                            for name, value in values.items()
                        }
                    shape = {name: value.shape for name, value in values.items()}
                    if shape != shapes[modality]:
                        raise DataError(
                            f"{clip}: {modality} has shapes {shape}, {clips[0]} has {shapes[modality]}; all clips need the same"
                        )
                    for name, value in values.items():
                        arrays[name][row] = value
                    crcs[row, column] = features.row_crc32c(*values.values())
                    vectors_crcs[row, column] = features.row_crc32c(values["pooled"])
                    progress.step()
        listed["n_frames"] = lengths  # frames that had features: `cia-adapt check` names the clips whose frames repeat
        group["crc32c"], group["vectors_crc32c"] = crcs, vectors_crcs
        group["status"] = np.full(crcs.shape, features.DONE, np.uint8)
    return shapes


def _stored(clip: ClipFeatures, frames: int, name: str) -> dict[str, npt.NDArray[Any]]:
    """What is stored of a clip: pooled [T, C] float32, and maps [T, C, H, W] float16 where it has maps; T = `frames`.

    Frames are taken by TSN's rule and repeat where the clip has fewer. Raises DataError for values that are not finite.
    """
    picked = centre_frames(len(clip.pooled), frames) if len(clip.pooled) != frames else slice(None)
    with np.errstate(over="ignore"):
        values: dict[str, npt.NDArray[Any]] = {"pooled": np.asarray(clip.pooled[picked], np.float32)}
        if clip.maps is not None:
            values = {"maps": np.asarray(clip.maps[picked]).astype(np.float16)} | values
    if not all(np.isfinite(value).all() for value in values.values()):
        raise DataError(f"{name}: has values that are not finite, or too large for float16; leave this clip out of the manifest")
    return values
