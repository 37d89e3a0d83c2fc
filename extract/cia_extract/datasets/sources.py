"""From a `--dataset` name to its manifest and root folder."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import cia_extract.datasets.benchmarks as benchmarks
import cia_extract.datasets.definition as definition
import cia_extract.datasets.demo as demo
import cia_extract.datasets.manifest as manifests
from cia_extract.common.console import Progress
from cia_extract.common.errors import MismatchError, UsageError
from cia_extract.common.suggest import did_you_mean
from cia_extract.datasets.manifest import Manifest


@dataclass(frozen=True)
class Source:
    """Rows and the folder that their paths are relative to; `notes` is what the user should know of them, one line each."""

    manifest: Manifest
    root: Path
    notes: list[str] = field(default_factory=list)
    left_out: str = ""
    """Rows of official files that name no clip, as one line; the command ends with it and exit code 3."""


def find(
    dataset: str,
    manifest: Path | None,
    root: Path | None,
    clips_per_class: int,
    seed: int,
    workers: int,
    render: bool,
    annotations: Path | None = None,
) -> Source:
    """The rows of a dataset.

    `demo` is rendered on the spot; the built-in names are read from the official downloads below `root`, and from `annotations`
    if the split files lie elsewhere; any other name needs `manifest`, or a manifest.csv in its root. A `manifest` goes before all
    of these. `render` off lists the demo's clips without making them. Raises UsageError, DataError or MismatchError.
    """
    manifests.check_name(dataset)
    if manifest is not None:
        check_file("--manifest", manifest)
    built_in = manifest is None and dataset in definition.names()
    if annotations is not None and not built_in:
        raise UsageError(f"--annotations {annotations}: goes with a built-in dataset only ({', '.join(definition.names())})")
    root = root or default_root(definition.load(dataset).folder if built_in else dataset)
    if dataset == "demo" and manifest is None:
        return _demo(root, clips_per_class, seed, workers, render)
    if built_in:
        return _built_in(dataset, root, annotations)
    if not _is_folder(root):
        like = "" if manifest else did_you_mean(dataset, ["demo", *definition.names()])
        raise UsageError(
            f"--root {root}: {_no_folder(root)}; it should hold the clips of --dataset {dataset}{_known(manifest)}{like}"
        )
    if manifest is None:
        manifest = root / "manifest.csv"
        if not manifest.is_file():
            raise UsageError(
                f"--dataset {dataset}: no {manifest}; put the clips in class folders and run "
                f"cia-extract manifest --from-folders {root}, or pass --manifest FILE{_known(None)}"
                + did_you_mean(dataset, ["demo", *definition.names()])
            )
    return Source(manifests.read(manifest), root)


def default_root(folder: str) -> Path:
    """`$CIA_DATA/FOLDER`, else `data/FOLDER`."""
    return Path(os.environ.get("CIA_DATA") or "data") / folder


def check_file(flag: str, path: Path) -> None:
    """Raises UsageError where a flag that names a file is given a folder, or a path that cannot exist."""
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:
        raise UsageError(f"{flag} {_shown(path)}: cannot be a file ({getattr(error, 'strerror', None) or error})") from error
    if is_folder:
        raise UsageError(f"{flag} {_shown(path)}: is a folder; give a file in it")
    if "\0" in str(path):
        raise UsageError(f"{flag} {_shown(path)}: cannot be a file (NUL character)")
    if path.parent.exists() and not path.parent.is_dir():
        raise UsageError(f"{flag} {_shown(path)}: {path.parent} is a file, not a folder")


def check_folder(flag: str, path: Path) -> None:
    """Raises UsageError where a flag that names a folder, which may be new, is given a file or a path that cannot exist."""
    if not _is_folder(path) and (why := _no_folder(path)) != "no such folder":
        raise UsageError(f"{flag} {_shown(path)}: {why}")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _no_folder(path: Path) -> str:
    """Why a path that is no folder is none."""
    try:
        return "is a file, not a folder" if path.exists() else "no such folder"
    except (OSError, ValueError) as error:
        return f"cannot be a folder ({getattr(error, 'strerror', None) or error})"


def _shown(path: Path) -> str:
    return str(path) if str(path).isprintable() else ascii(str(path))[1:-1]


def _known(manifest: Path | None) -> str:
    return "" if manifest else f" (built-in names: demo, {', '.join(definition.names())})"


def _built_in(dataset: str, root: Path, annotations: Path | None) -> Source:
    if not _is_folder(root):
        raise UsageError(f"--root {root}: {_no_folder(root)}; for {dataset}, {definition.load(dataset).how_to_get()}")
    built = benchmarks.build(dataset, root, annotations)
    if built.on_disk == 0:
        raise UsageError(f"--root {root}: no clip of {dataset} in it; {definition.load(dataset).how_to_get()}")
    return Source(built.manifest, root, built.mismatches, built.left_out())


def _demo(root: Path, clips_per_class: int, seed: int, workers: int, render: bool) -> Source:
    check_folder("--root", root)
    if not render:
        import cia_extract.datasets.demo.files as files

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
