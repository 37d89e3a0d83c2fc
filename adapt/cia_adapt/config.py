"""What a run is made of: a set-up (benchmark, optimiser, schedule) and a method (a row of the paper's tables).

The dataclasses are the one source of truth: their fields are the command line's flags, the keys of `setups/*.toml` and
`methods/*.toml`, and the configuration stamped into every run; the text under a field is its help. The settings of a method's
parts are those parts' own (`parts`): tables of its TOML, and `--set part.option=value`.
"""

import ast
import dataclasses
import inspect
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cia_extract.errors import UsageError
from cia_extract.suggest import did_you_mean

from cia_adapt import parts, splits


@dataclass(frozen=True)
class Setup:
    """Benchmark protocol and optimisation, shared by all methods that are compared."""

    name: str
    segments: int = 5
    """Frames used of each clip; training shifts them at random within their segments, evaluation takes the centres."""
    epochs: int = 30
    """Passes over the source's training clips."""
    batch: int = 128
    """Source clips a step; the target's batch is proportional, so that both are passed once an epoch."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """adam, or sgd with Nesterov momentum 0.9."""
    lr: float = 3e-3
    """Learning rate at the start."""
    lr_decay: bool = True
    """Multiply the rate by (1 + 10p)^-0.75, p the share of steps done."""
    weight_decay: float = 1e-4
    """L2 penalty."""
    dropout: float = 0.5
    """On frame features and on the clip's."""
    clip_norm: float = 20.0
    """Largest norm of the gradient; 0 for no limit."""
    balanced: bool = False
    """Draw source clips so that every class is as likely."""
    labels: str = "label"
    """Columns to predict, with commas between: label, or label,noun for EPIC-KITCHENS-100's verbs and nouns."""
    train_split: str = "train"
    """Split of the clips that train; all: every clip; source=NAME,target=NAME: by domain. Of the target no label is read."""
    val_split: str = "val"
    """Split of the clips that are evaluated, in both domains; written as --train-split. target=all tests on every target clip."""
    shared_features: int = 512
    """Width of the trainable layer between pooling and temporal part, in all methods alike; 0 for none."""
    normalise: bool = False
    """Centre and scale the features of each frame and modality before the shared layer, and its own before their ReLU."""
    reversal: float = 1.0
    """Multiplies λ and β of every reversed gradient in all methods alike, but for those that --set gives."""
    select: Literal["source_val", "entropy", "im", "snd", "bnm", "ami", "dev", "last"] = "source_val"
    """Rule of `selected`, without target labels: accuracy on the source's val clips, a validator, or the last epoch."""

    @property
    def label_columns(self) -> tuple[str, ...]:
        return tuple(column.strip() for column in self.labels.split(","))


@dataclass(frozen=True)
class Method:
    """One row of the paper's tables."""

    name: str
    paper: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    reconstructed: str = ""
    refinement: str = "none"
    """Exchange between modalities before pooling: REFINEMENTS."""
    pooling: str = "avg"
    """Over the 7×7 cells: POOLINGS."""
    temporal: str = "tsn"
    """From frames to clips: TEMPORAL."""
    head: Literal["concat", "average", "sum", "blend"] = "concat"
    """concat: one classifier on concatenated modalities (★); average: one each, softmaxes averaged (◇); sum: logits summed;
    blend: both.
    """
    objectives: tuple[str, ...] = ()
    """Losses beside the source's cross-entropy, with commas between, or none: OBJECTIVES."""
    supervision: Literal["source", "target"] = "source"
    """Whose labels train; target is the bound that target-only gives, no adaptation."""
    lambda_class: float = 1.0
    """λ_y, weight of the classification loss."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def needs_maps(self) -> bool:
        """Gates of channels commute with averaging, so that under `avg` the stored vectors say all."""
        needs: bool = parts.find("poolings", self.pooling).NEEDS_MAPS
        return needs

    @property
    def needs_target(self) -> bool:
        """Whether training looks at the target's clips at all."""
        return any(parts.needs_target(name, self.option(name)) for name in self.objectives)

    def option(self, part: str) -> Mapping[str, Any]:
        return self.options.get(part, {})

    def used_parts(self) -> list[tuple[str, str]]:
        """(kind, name) of every part."""
        chosen = [("refinements", self.refinement), ("poolings", self.pooling), ("temporal", self.temporal)]
        return chosen + [("objectives", name) for name in self.objectives]


_LIMITS = {
    "segments": (1, 1000), "epochs": (1, 100_000), "batch": (2, 1_000_000), "dropout": (0, 0.99), "lr": (1e-12, 1e3),
    "weight_decay": (0, 1e3), "clip_norm": (0, 1e9), "shared_features": (0, 65536), "lambda_class": (0, 1e6),
    "reversal": (1e-6, 1e3),
}  # fmt: skip
_NOT_FLAGS = {"name", "paper", "published", "reconstructed", "options"}


def names(kind: str) -> list[str]:
    """Names of the built-in `methods` or `setups`."""
    folder = resources.files("cia_adapt").joinpath(kind)
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


@dataclass(frozen=True)
class Chosen:
    """A set-up and a method for any pair of domains."""

    setup: Setup
    method: Method
    pairs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{"source-target": {"part.option": value}}, where the method differs by direction."""
    sets: Mapping[str, Any] = field(default_factory=dict)
    """From the command line, above all else."""

    def for_pair(self, source: str, target: str) -> Method:
        """The method with what its TOML says of this pair, the set-up's `reversal` and what the command line says, every option
        of its parts written out.
        """
        of_pair = _resolved(self.method, self.pairs.get(f"{source}-{target}", {}))
        return _resolved(of_pair, _weakened(of_pair, self.setup.reversal) | dict(self.sets))


def load(setup: str, method: str, overrides: Mapping[str, Any], sets: Sequence[str] = ()) -> Chosen:
    """By names, with flags over what the files say. Between set-up and flags stand the temporal part's `SETUP` (TRN's optimiser)
    and the method's own `[setup]`.

    Raises UsageError quoting the flag.
    """
    from_method = _read("methods", method)
    pairs, own_setup = from_method.pop("pairs", {}), from_method.pop("setup", {})
    tables = {key: from_method.pop(key) for key in list(from_method) if isinstance(from_method[key], dict) and key != "published"}
    chosen_method = _checked(Method, f"methods/{method}.toml", {"name": method} | from_method | {"options": tables}, overrides)
    of_part = getattr(parts.find("temporal", chosen_method.temporal), "SETUP", {})
    values = {"name": setup} | _read("setups", setup) | of_part | own_setup
    chosen_setup = _checked(Setup, f"setups/{setup}.toml", values, overrides)
    chosen = Chosen(chosen_setup, chosen_method, pairs, dict(_parsed(entry) for entry in sets))
    for kind, name in chosen.method.used_parts():
        parts.find(kind, name)
    used = {name for _, name in chosen.method.used_parts()}
    for key in chosen.sets:
        if key.split(".")[0] not in used:
            part = key.split(".")[0]
            have = f"it has {', '.join(sorted(used))}{did_you_mean(part, used)}"
            raise UsageError(f"--set {key}: this method has no part {part}, {have}")
    _resolved(chosen.method, chosen.sets)
    return chosen


def _read(kind: str, name: str) -> dict[str, Any]:
    if name not in names(kind):
        known = f"{', '.join(names(kind))}{did_you_mean(name, names(kind))}"
        raise UsageError(f"--{kind[:-1]} {name}: unknown, choose from {known}")
    return tomllib.loads(resources.files("cia_adapt").joinpath(kind, f"{name}.toml").read_text(encoding="utf-8"))


def _checked(cls: Any, where: str, values: dict[str, Any], overrides: Mapping[str, Any]) -> Any:
    known = {f.name for f in fields(cls)}
    if set(values) - known:
        raise UsageError(f"{where}: unknown keys {', '.join(sorted(set(values) - known))}")
    given = {key: value for key, value in overrides.items() if key in known}
    for key in {"train_split", "val_split"} & known:
        before = values.get(key, getattr(cls, key))
        given[key] = splits.merged("--" + key.replace("_", "-"), before, given.get(key, before))
    values = values | given
    if isinstance(values.get("objectives"), str):  # from a flag
        listed = [name.strip() for name in values["objectives"].split(",")]
        values["objectives"] = () if listed == ["none"] else listed
    if "objectives" in values:
        values["objectives"] = tuple(values["objectives"])
    config = cls(**values)
    for name, entries in (("objectives", getattr(config, "objectives", ())), ("labels", getattr(config, "label_columns", ()))):
        if "" in entries or len(set(entries)) < len(entries):
            raise UsageError(f"--{name} {', '.join(entries)}: write names with commas between, each once")
    hints = get_type_hints(cls)
    for name, value in vars(config).items():
        flag = "--" + name.replace("_", "-")
        if get_origin(hints[name]) is Literal and value not in get_args(hints[name]):
            choices = get_args(hints[name])
            raise UsageError(f"{flag} {value}: unknown, choose from {', '.join(choices)}{did_you_mean(str(value), choices)}")
        low, high = _LIMITS.get(name, (None, None))
        if low is not None and high is not None and not low <= value <= high:
            raise UsageError(f"{flag} {value}: must lie between {low:g} and {high:g}")
    return config


def _parsed(entry: str) -> tuple[str, str]:
    key, separator, value = entry.partition("=")
    if not separator or not all(key.strip().partition(".")) or key.count(".") != 1:
        raise UsageError(f"--set {entry}: write part.option=value, for example sc.scales=2")
    return key.strip(), value.strip()


def _resolved(method: Method, sets: Mapping[str, Any]) -> Method:
    options = {name: dict(method.option(name)) for _, name in method.used_parts()}
    for key, value in sets.items():
        part, option = key.split(".")
        if part in options:
            options[part][option] = value
    resolved = {name: dataclasses.asdict(parts.options(kind, name, options[name])) for kind, name in method.used_parts()}
    return replace(method, options={name: values for name, values in resolved.items() if values})


def _weakened(method: Method, factor: float) -> dict[str, Any]:
    """What multiplies a reversed gradient, times `factor`."""
    return {
        f"{name}.{option}": round(factor * method.option(name)[option], 12)  # 0.02, not 0.020000000000000004
        for kind, name in method.used_parts()
        for option in getattr(parts.find(kind, name), "REVERSED", ())
    }


def flags(cls: type[Setup] | type[Method]) -> dict[str, tuple[type, str]]:
    """{field: (type, help)} of the fields that are flags: those with a text under them."""
    hints, docs = get_type_hints(cls), _docs(cls)
    found = {}
    for f in fields(cls):
        if f.name in docs and f.name not in _NOT_FLAGS:
            kind = str if get_origin(hints[f.name]) in (Literal, tuple) else hints[f.name]
            text = docs[f.name]
            for word in parts.KINDS:
                text = text.replace(word.upper(), ", ".join(parts.names(word)))
            found[f.name] = (kind, text)
    return found


def _docs(cls: type) -> dict[str, str]:
    """The string under each field of a class; Python keeps it in the source only."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for before, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(before.target, ast.Name)
            docs[before.target.id] = str(after.value.value)
    return docs
