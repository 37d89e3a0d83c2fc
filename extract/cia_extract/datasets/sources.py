"""From a `--dataset` name to its manifest and root folder, and checks of paths that flags name."""

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
    """A manifest, the folder that its paths are relative to, and notes on it for the user, one line each."""

    manifest: Manifest
    root: Path
    notes: list[str] = field(default_factory=list)
    left_out: str = ""
    """The rows of official files that name no clip, as one line; the command ends with it and exit code 3. Empty: none."""


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
    """The manifest and root of a dataset.

    A `manifest` goes before everything else. Without one, `demo` is rendered into `root` (or only listed, without `render`); the
    built-in datasets are read from the official downloads below `root`, with their split files below `annotations` if given; any
    other dataset needs a manifest.csv in its root. Raises UsageError, DataError or MismatchError.
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
            f"--root {root}: {_no_folder(root)}; it should hold the clips of --dataset {dataset}{_built_in_names(manifest)}{like}"
        )
    if manifest is None:
        manifest = root / "manifest.csv"
        if not manifest.is_file():
            raise UsageError(
                f"--dataset {dataset}: no {manifest}; put the clips in class folders and run "
                f"cia-extract manifest --from-folders {root}, or pass --manifest FILE{_built_in_names(None)}"
                + did_you_mean(dataset, ["demo", *definition.names()])
            )
    return Source(manifests.read(manifest), root)


def default_root(folder: str) -> Path:
    """The root of a dataset without `--root`: `$CIA_DATA/FOLDER`, else `data/FOLDER`."""
    return Path(os.environ.get("CIA_DATA") or "data") / folder


def check_file(flag: str, path: Path) -> None:
    """Raise UsageError if `path`, given to a flag for a file, is a folder or cannot exist. It need not exist."""
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
    """Raise UsageError if `path`, given to a flag for a folder, is a file or cannot exist. It need not exist."""
    if not _is_folder(path) and (why := _no_folder(path)) != "no such folder":
        raise UsageError(f"{flag} {_shown(path)}: {why}")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _no_folder(path: Path) -> str:
    """Why a path is not a folder, as the end of a sentence."""
    try:
        return "is a file, not a folder" if path.exists() else "no such folder"
    except (OSError, ValueError) as error:
        return f"cannot be a folder ({getattr(error, 'strerror', None) or error})"


def _shown(path: Path) -> str:
    return str(path) if str(path).isprintable() else ascii(str(path))[1:-1]


def _built_in_names(manifest: Path | None) -> str:
    """The built-in names for a message; empty if the user gave a manifest."""
    return "" if manifest else f" (built-in names: demo, {', '.join(definition.names())})"


def _built_in(dataset: str, root: Path, annotations: Path | None) -> Source:
    get = definition.load(dataset).how_to_get(lists=annotations is None)
    if not _is_folder(root):
        raise UsageError(f"--root {root}: {_no_folder(root)}; for {dataset}, {get}")
    built = benchmarks.build(dataset, root, annotations)
    if built.on_disk == 0:
        raise UsageError(f"--root {root}: no clip of {dataset} in it; {get}")
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
        raise UsageError(f"--root {root}: {error.strerror or error}; make room or choose another folder") from error
    return Source(manifests.check("demo", rows), root)
