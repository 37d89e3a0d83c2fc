"""What a run is of, and whether two runs are of the same."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cia_extract.common import names
from cia_extract.common.differences import Difference, between, listed
from cia_extract.common.errors import MismatchError

from cia_adapt.config import Method, Setup
from cia_adapt.runs.files import read_config


@dataclass(frozen=True)
class RunKey:
    """What a run is of; two runs with equal keys must give equal numbers on one machine."""

    setup: Setup
    method: Method
    source: str
    target: str
    modalities: tuple[str, ...]
    seed: int
    features: str
    """Digest of the feature file's datasets that are read, and of their labels."""
    precision: str = "fp32"

    def folder(self, root: Path) -> Path:
        """Where the run lies below `root`. Raises DataError for names that would lead elsewhere or name no folder."""
        for what, name in (("set-up", self.setup.name), ("method", self.method.name)):
            names.check(name, what)
        for name in (self.source, self.target):
            names.check(name, "domain")
        pair = names.check(f"{self.source}-{self.target}", "the pair of domains")
        return root / self.setup.name / self.method.name / pair / f"seed{self.seed}"

    def fields(self) -> dict[str, Any]:
        """As JSON has them. What does not decide numbers (published values, texts) is left out of comparisons by `compare`."""
        return json.loads(json.dumps(asdict(self)))


def completed(setup: dict[str, Any]) -> dict[str, Any]:
    """A set-up of config.json with the fields that versions before did not write, at the value that they had."""
    return {"train_split": "train"} | setup


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Difference]:
    """The fields in which two configurations differ, of those that decide numbers."""
    texts = ("paper", "published", "reconstructed")

    def stripped(c: dict[str, Any]) -> dict[str, Any]:
        method = {k: v for k, v in c["method"].items() if k not in texts}
        return {k: v for k, v in c.items() if k != "classes"} | {"method": method, "setup": completed(c["setup"])}

    return between(stripped(old), stripped(new))


def finished(folder: Path, key: RunKey, extend: bool = False) -> bool:
    """Whether this very run is there already. Raises MismatchError when another one is, listing what differs.

    With `extend`, a run that differs in having fewer epochs is not finished.
    """
    if not (folder / "done").exists():
        return False
    return _same(folder, read_config(folder), key, extend)


def _same(folder: Path, there: dict[str, Any], key: RunKey, extend: bool) -> bool:
    differing = compare(there, key.fields())
    more = extend and there["setup"]["epochs"] < key.setup.epochs
    wrong = [one for one in differing if not (more and one.field == "setup.epochs")]
    if wrong:
        raise MismatchError(
            f"{folder}: holds a run with other settings ({listed(wrong)}); pass --overwrite, or --runs for another folder"
        )
    return not differing


def check_alike(folders: Sequence[Path]) -> None:
    """Refuse to average runs that differ in more than the seed. Raises MismatchError with the fields."""
    first, *others = (read_config(folder) | {"seed": None} for folder in folders)
    for folder, config in zip(folders[1:], others, strict=True):
        differing = compare(first, config)
        if differing:
            raise MismatchError(f"{folder} and {folders[0]} differ ({listed(differing)}); report them separately")
