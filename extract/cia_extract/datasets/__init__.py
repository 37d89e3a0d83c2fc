"""The lists of clips: manifests, class folders, the benchmarks' official files, the rendered demo."""

from cia_extract.datasets import class_folders, definition, manifest, sources
from cia_extract.datasets.benchmarks import build
from cia_extract.datasets.manifest import Manifest, check, check_name

__all__ = ["Manifest", "build", "check", "check_name", "class_folders", "definition", "manifest", "sources"]
