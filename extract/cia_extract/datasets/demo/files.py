"""The files of the demo dataset: its list of clips, and rendering of the missing ones in worker processes."""

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cia_extract.common import machine, text_files, writes
from cia_extract.common.errors import CiaError, DataError
from cia_extract.common.json_objects import json_object
from cia_extract.common.processes import end_with_parent, ignore_signals
from cia_extract.datasets.demo.classes import CLASSES, DOMAINS, VERSION
from cia_extract.datasets.demo.render import Clip, render

STAMP = "demo.json"
ELSEWHERE = "give another folder or delete this one"


def build(
    root: Path,
    clips_per_class: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
    workers: int | None,
) -> list[dict[str, str]]:
    """See `cia_extract.datasets.demo.build`."""
    if clips_per_class < 1:
        raise ValueError(f"demo: clips per class must be at least 1, not {clips_per_class}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"demo: the seed must lie in 0 ... 2**32 - 1, not {seed}")
    clips = plan(clips_per_class, seed)
    claim(root, seed)
    missing = [clip for clip in clips if not _is_rendered(root / clip.path)]
    done = len(clips) - len(missing)
    if progress:
        progress(done, len(clips))
    for folder in {(root / clip.path).parent for clip in missing}:
        folder.mkdir(parents=True, exist_ok=True)
        writes.remove_old(folder, ".*.part")
    processes = min(workers or machine.cores(), len(missing))
    if processes <= 1:
        for clip in missing:
            write(root, clip)
            done += 1
            if progress:
                progress(done, len(clips))
        return [row(clip) for clip in clips]
    # spawn: a fork would copy the locks of the caller's threads (torch, HDF5) in whatever state they are.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start_worker)
    try:
        for finished in as_completed([pool.submit(write, root, clip) for clip in missing]):
            finished.result()
            done += 1
            if progress:
                progress(done, len(clips))
    except BrokenProcessPool as error:
        killed = f"demo: a process that renders clips was killed, out of memory? {done} of {len(clips)} clips are rendered"
        raise CiaError(f"{killed} and stay; the same command goes on, try fewer --workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [row(clip) for clip in clips]


def plan(clips_per_class: int, seed: int) -> list[Clip]:
    """All clips of the dataset, in the order of domain, class, split and index."""
    sizes = {"train": clips_per_class, "val": max(1, clips_per_class // 2)}
    return [
        Clip(seed, domain, label, split, index)
        for domain in DOMAINS
        for label in CLASSES
        for split, number in sizes.items()
        for index in range(number)
    ]


def row(clip: Clip) -> dict[str, str]:
    """The clip's row of the manifest, {column: text}."""
    return {
        "clip": clip.name,
        "path": clip.path,
        "label": clip.label,
        "split": clip.split,
        "group": clip.group,
        "domain": clip.domain,
        "seed": str(clip.own_seed),
    }


def claim(root: Path, seed: int) -> None:
    """Mark `root` as the folder of this seed and version. Raises ValueError if it holds other clips."""
    stamp, own_stamp = root / STAMP, {"dataset": "demo", "version": VERSION, "seed": seed}
    if stamp.is_file():
        try:
            present = json_object(text_files.read_text(stamp, "JSON file", ELSEWHERE), f"{stamp}:", ELSEWHERE)
        except DataError:
            present = {}
        if present != own_stamp:
            raise ValueError(
                f"{stamp}: this folder holds demo clips of {_describe(present)}, not of {_describe(own_stamp)}; {ELSEWHERE}"
            )
        return
    existing = [domain for domain in DOMAINS if (root / domain).exists()]
    if existing:
        raise ValueError(
            f"{root / existing[0]}: exists already, but {STAMP} is missing beside it, so these may be other clips; {ELSEWHERE}"
        )
    root.mkdir(parents=True, exist_ok=True)
    writes.text(stamp, json.dumps(own_stamp) + "\n")


def write(root: Path, clip: Clip) -> None:
    """Render one clip into its file; the file appears whole or not at all."""
    with writes.whole(root / clip.path) as part:
        part.write_bytes(render(clip))


def _is_rendered(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _describe(stamp: dict[str, Any]) -> str:
    if not stamp:
        return "an unknown seed"
    return f"seed {stamp.get('seed')}, version {stamp.get('version')}"


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent does, even if it is killed."""
    ignore_signals()
    end_with_parent()
