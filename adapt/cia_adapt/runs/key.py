"""A run's key: everything that decides its numbers; and whether two runs have the same key."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from cia_extract.common import names, settings
from cia_extract.common.differences import Difference, between, listed
from cia_extract.common.errors import DataError, MismatchError, UsageError

from cia_adapt import parts
from cia_adapt.config import Method, Setup
from cia_adapt.runs.files import AGAIN, read_config

Configured = TypeVar("Configured", Setup, Method)


@dataclass(frozen=True)
class RunKey:
    """Everything that decides a run's numbers: two runs with equal keys give equal numbers on one machine."""

    setup: Setup
    method: Method
    source: str
    """Name of the domain whose labels train."""
    target: str
    """Name of the domain that is adapted to."""
    modalities: tuple[str, ...]
    seed: int
    features: str
    """Digest of both domains' features and labels (`cia_adapt.data.digest`)."""
    precision: str = "fp32"
    """"fp32" or "bf16"."""

    def folder(self, root: Path) -> Path:
        """The run's folder below `root`. Raises DataError for a name that cannot be a folder's, or leads out of `root`."""
        for kind, name in (("set-up", self.setup.name), ("method", self.method.name)):
            names.check(name, kind)
        for name in (self.source, self.target):
            names.check(name, "domain")
        pair = names.check(f"{self.source}-{self.target}", "the pair of domains")
        return root / self.setup.name / self.method.name / pair / f"seed{self.seed}"

    def fields(self) -> dict[str, Any]:
        """All fields as config.json has them, texts and published numbers of the method too, which `compare` ignores."""
        return json.loads(json.dumps(asdict(self)))


def completed(setup: Mapping[str, Any]) -> dict[str, Any]:
    """The set-up of a config.json; fields that earlier versions did not write get the value that they then had."""
    return {f.name: f.default for f in fields(Setup) if f.default is not MISSING} | dict(setup)


def setup_of(config: Mapping[str, Any], folder: Path) -> Setup:
    """The set-up of the config.json of the run in `folder`.

    Raises DataError naming the file and a setting that is not known here, or has a value that no flag takes.
    """
    return _checked(Setup, "setup", completed(config["setup"]), folder)


def method_of(config: Mapping[str, Any], folder: Path) -> Method:
    """The method of the config.json of the run in `folder`, and DataError, as `setup_of`; the settings of its parts too."""
    method = _checked(Method, "method", config["method"], folder)
    with _said_of(folder):
        for kind, name in _known_parts(method):
            parts.options(kind, name, method.option(name))
    return method


def _checked(cls: type[Configured], what: str, values: Mapping[str, Any], folder: Path) -> Configured:
    if unknown := values.keys() - {f.name for f in fields(cls)}:
        raise DataError(
            f"{folder / 'config.json'}: the run's {what} has the setting {settings.brief(min(unknown))}, which is not known "
            f"here: it is of another version; {AGAIN}"
        )
    with _said_of(folder):
        return settings.converted(cls, values, lambda name, value: f"{what}.{name} = {value}")


@contextmanager
def _said_of(folder: Path) -> Iterator[None]:
    """Inside this context a UsageError for a setting is a DataError that names the run's config.json."""
    try:
        yield
    except UsageError as error:
        raise DataError(f"{folder / 'config.json'}: {str(error).removeprefix('--set ')}; {AGAIN}") from None


def completed_options(method: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the parts of a method in a config.json; those that earlier versions did not have at their defaults.

    So a setting's default must be what was done before there was the setting. A method that departs from it says so in its TOML.
    """
    options = dict(method.get("options", {}))
    used = {key: value for key, value in method.items() if key in ("refinement", "pooling", "temporal", "objectives")}
    for kind, name in _known_parts(Method("", **used)):
        options[name] = asdict(parts.options(kind, name, {})) | options.get(name, {})
    return {name: values for name, values in options.items() if values}


def _known_parts(method: Method) -> list[tuple[str, str]]:
    """(kind, name) of a method's parts, each once; a part of somebody else's may have gone."""
    known = {(kind, name) for kind in parts.KINDS for name in parts.names(kind)}
    return [part for part in dict.fromkeys(method.used_parts()) if part in known]


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Difference]:
    """The fields in which two configurations differ, of those that decide numbers."""
    texts = ("paper", "published", "reconstructed", "searched")

    def decisive(config: dict[str, Any]) -> dict[str, Any]:
        method = {k: v for k, v in config["method"].items() if k not in texts}
        method["options"] = completed_options(method)
        return {k: v for k, v in config.items() if k != "classes"} | {"method": method, "setup": completed(config["setup"])}

    return between(decisive(old), decisive(new))


def finished(folder: Path, key: RunKey, extend: bool = False) -> bool:
    """Whether `folder` holds the finished run of this key. Raises MismatchError, with the differences, for another run.

    With `extend` a run of the same key with fewer epochs counts as unfinished.
    """
    if not (folder / "done").exists():
        return False
    return same_run(folder, read_config(folder), key, extend)


def same_run(folder: Path, config: dict[str, Any], key: RunKey, extend: bool) -> bool:
    """Whether `config`, read from `folder`, is of this key. Raises MismatchError, with the differences, where it is not.

    With `extend` the result is False, without an error, where the key has more epochs and nothing else differs.
    """
    differing = compare(config, key.fields())
    more = extend and config["setup"]["epochs"] < key.setup.epochs
    wrong = [difference for difference in differing if not (more and difference.field == "setup.epochs")]
    if wrong:
        raise MismatchError(
            f"{folder}: holds a run with other settings ({listed(wrong)}); pass --overwrite, or --runs for another folder"
        )
    return not differing


def check_alike(folders: Sequence[Path]) -> None:
    """Raise MismatchError, with the differences, for runs that differ in more than the seed and must not be averaged."""
    first, *others = (read_config(folder) | {"seed": None} for folder in folders)
    for folder, config in zip(folders[1:], others, strict=True):
        differing = compare(first, config) if config != first else []
        if differing:
            raise MismatchError(f"{folder} and {folders[0]} differ ({listed(differing)}); report them separately")
