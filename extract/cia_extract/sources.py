"""From a `--dataset` name to its manifest and root folder."""

import os
from dataclasses import dataclass
from pathlib import Path

from cia_extract import demo
from cia_extract import manifest as manifests
from cia_extract.console import Progress
from cia_extract.errors import MismatchError, UsageError
from cia_extract.manifest import Manifest


@dataclass(frozen=True)
class Source:
    """Rows and the folder that their paths are relative to."""

    manifest: Manifest
    root: Path


def find(
    dataset: str, manifest: Path | None, root: Path | None, clips_per_class: int, seed: int, workers: int, render: bool
) -> Source:
    """The rows of a dataset. `demo` is rendered on the spot; any other needs `--manifest`, or a manifest.csv in its root.

    `render` off lists the demo's clips without making them. Raises UsageError, DataError or MismatchError.
    """
    if "/" in dataset or not dataset.strip(". "):
        raise UsageError(f"--dataset '{dataset}': give a plain name, it becomes a group of the feature file")
    root = root or Path(os.environ.get("CIA_DATA") or "data") / dataset
    if dataset == "demo" and manifest is None:
        return _demo(root, clips_per_class, seed, workers, render)
    if not root.is_dir():
        raise UsageError(f"--root {root}: no such folder; it should hold the clips of --dataset {dataset}")
    if manifest is None:
        manifest = root / "manifest.csv"
        if not manifest.is_file():
            raise UsageError(
                f"--dataset {dataset}: no {manifest}; put the clips in class folders and run "
                f"cia-extract manifest --from-folders {root}, or pass --manifest FILE"
            )
    return Source(manifests.read(manifest), root)


def _demo(root: Path, clips_per_class: int, seed: int, workers: int, render: bool) -> Source:
    if not render:
        from cia_extract.demo import files

        return Source(manifests.check("demo", [files.row(clip) for clip in files.plan(clips_per_class, seed)]), root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with Progress(0, f"rendering the demo clips into {root}") as progress:
            rows = demo.build(root, clips_per_class, seed, progress.at, workers)
    except ValueError as error:
        raise MismatchError(str(error)) from error
    except OSError as error:
        raise UsageError(f"--root {root}: {error.strerror or error}") from error
    return Source(manifests.check("demo", rows), root)
