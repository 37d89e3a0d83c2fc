"""What a run is made of: a set-up (benchmark, optimiser, schedule) and a method (a row of the paper's tables).

The dataclasses are the one source of truth: their fields are the command line's flags, the keys of `setups/*.toml` and
`methods/*.toml`, and the configuration stamped into every run; the text under a field is its help.
"""

import ast
import inspect
import textwrap
import tomllib
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from cia_extract.errors import UsageError


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


@dataclass(frozen=True)
class Method:
    """One row of the paper's tables."""

    name: str
    paper: str = ""
    published: str = ""
    reconstructed: str = ""
    pooling: Literal["avg", "sc"] = "avg"
    """Over the 7×7 cells: avg, or sc (spatial consensus)."""
    refinement: Literal["none", "mc"] = "none"
    """Exchange between modalities before pooling: none, or mc (mutual complementarity)."""
    head: Literal["concat", "average"] = "concat"
    """concat: one classifier on concatenated modalities (★); average: one each, softmaxes averaged (◇)."""
    alignment: Literal["none", "adversarial"] = "none"
    """Of source and target: none (source only), or adversarial at video and frame level."""
    shared_features: int = 512
    """Width of the trainable layer between pooling and heads, in all methods alike; 0 for none."""
    lambda_class: float = 1.0
    """λ_y, weight of the classification loss."""
    lambda_video: float = 1.0
    """λ_vd, on the gradient reversed from the video-level discriminators."""
    lambda_frame: float = 0.5
    """λ_fd, on the gradient reversed from the frame-level discriminators."""
    discriminator_hidden: int = 100
    """Width of the discriminators' hidden layer."""
    mc_ratio: int = 16
    """MC: bottleneck ratio r of the gates."""
    mc_mode: Literal["recalibrate", "inject_vec", "inject_map"] = "recalibrate"
    """MC: what the gates do."""
    sc_scales: int = 3
    """SC: k, scales of the correlation."""
    sc_embedding: int = 512
    """SC: channels of the 1×1 embedding; 0 for none."""
    sc_temperature: float = 0.1
    """SC: temperature of the map's softmax."""

    @property
    def needs_maps(self) -> bool:
        return self.pooling != "avg" or self.refinement != "none"

    @property
    def needs_target(self) -> bool:
        return self.alignment != "none"


Config = TypeVar("Config", Setup, Method)
_LIMITS = {
    "segments": (1, 1000), "epochs": (1, 100_000), "batch": (2, 1_000_000), "dropout": (0, 0.99), "lr": (1e-12, 1e3),
    "weight_decay": (0, 1e3), "clip_norm": (0, 1e9), "shared_features": (0, 65536), "discriminator_hidden": (1, 65536),
    "mc_ratio": (1, 2048), "sc_scales": (1, 7), "sc_embedding": (0, 65536), "sc_temperature": (1e-6, 1e6),
    "lambda_class": (0, 1e6), "lambda_video": (0, 1e6), "lambda_frame": (0, 1e6),
}  # fmt: skip


def names(kind: str) -> list[str]:
    """Names of the built-in `methods` or `setups`."""
    folder = resources.files("cia_adapt").joinpath(kind)
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(cls: type[Config], name: str, overrides: dict[str, Any]) -> Config:
    """A set-up or method by name with flags over it. Raises UsageError quoting the flag."""
    kind = "setups" if cls is Setup else "methods"
    if name not in names(kind):
        raise UsageError(f"--{kind[:-1]} {name}: unknown, choose from {', '.join(names(kind))}")
    text = resources.files("cia_adapt").joinpath(kind, f"{name}.toml").read_text(encoding="utf-8")
    values = tomllib.loads(text)
    known = {field.name for field in fields(cls)}
    if set(values) - known:
        raise UsageError(f"{kind}/{name}.toml: unknown keys {', '.join(sorted(set(values) - known))}")
    config: Config = cls(**({"name": name} | values))
    config = replace(config, **{key: value for key, value in overrides.items() if key in known})
    _check(config)
    return config


def _check(config: Setup | Method) -> None:
    hints = get_type_hints(type(config))
    for field in fields(config):
        value, flag = getattr(config, field.name), "--" + field.name.replace("_", "-")
        if get_origin(hints[field.name]) is Literal and value not in get_args(hints[field.name]):
            raise UsageError(f"{flag} {value}: unknown, choose from {', '.join(get_args(hints[field.name]))}")
        low, high = _LIMITS.get(field.name, (None, None))
        if low is not None and high is not None and not low <= value <= high:
            raise UsageError(f"{flag} {value}: must lie between {low:g} and {high:g}")


def flags(cls: type[Setup] | type[Method]) -> dict[str, tuple[type, str]]:
    """{field: (type, help)} of the fields that are flags: those with a text under them."""
    hints, docs = get_type_hints(cls), _docs(cls)
    return {
        field.name: (str if get_origin(hints[field.name]) is Literal else hints[field.name], docs[field.name])
        for field in fields(cls)
        if field.name in docs
    }


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
