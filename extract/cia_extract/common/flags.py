"""Commands whose flags are the fields of frozen dataclasses, checked by `settings`; typer does the rest.

A field `lr_decay: bool = True` is the flag --lr-decay/--no-lr-decay. The docstring under it is the help, its type the check.
`Annotated[bool, "--json"]` gives a field a flag of another name.
"""

import functools
import inspect
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from cia_extract.common import settings
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean


@dataclass(frozen=True)
class Changes:
    """Marks a parameter `Annotated[dict[str, Any], Changes((Setup, Method))]`, which becomes {field: value} of the flags given.

    Every field with a docstring is a flag without a default. Nothing is checked yet: the values change others first.
    """

    classes: tuple[type, ...]
    default: str = ""
    """What the help says of the default."""


def command(function: Callable[..., None], words: Mapping[str, str] = MappingProxyType({})) -> Callable[..., None]:
    """`function` as typer takes it: a parameter that is a dataclass, or marked by `Changes`, becomes one flag for each field.

    The call raises UsageError that quotes the flag for a value that its field cannot have.

    Args:
        words: {word of a docstring: what the help has in its place}.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    asked = {name: _asked(own.replace(annotation=hints[name]), words) for name, own in parameters.items()}

    @functools.wraps(function)
    def run(**values: Any) -> None:
        function(**{name: one.argument({flag.name: values[flag.name] for flag in one.flags}) for name, one in asked.items()})

    flags = [flag for one in asked.values() for flag in one.flags]
    run.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    run.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return run


def groups(classes: Sequence[type[Any]], values: Mapping[str, Any], out_of_place: Container[str] = ()) -> list[Any]:
    """One object of each of the classes, of the values of their fields as a Python caller gives them: a text does for a path.

    Args:
        values: {field: value} of all classes together.
        out_of_place: fields that are taken for unknown.

    Raises:
        UsageError: that quotes the field, for a value that it cannot have and a name that is none.
    """
    known = {f.name: hint for cls in classes for f, hint, _ in _fields(cls, {}) if f.name not in out_of_place}
    for name in values:
        if name not in known:
            raise UsageError(f"{name}: unknown, choose from {', '.join(known)}{did_you_mean(name, known)}")
    given = {name: _path(value) if Path in (known[name], *get_args(known[name])) else value for name, value in values.items()}
    return [
        settings.converted(
            cls, {f.name: given[f.name] for f in fields(cls) if f.name in given}, lambda name, value: f"{name}={value}"
        )
        for cls in classes
    ]


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class _Asked:
    """What typer asks for one parameter of a command, and what the command gets for the answers."""

    flags: list[inspect.Parameter]
    argument: Callable[[dict[str, Any]], Any]


def _asked(parameter: inspect.Parameter, words: Mapping[str, str]) -> _Asked:
    kind = parameter.annotation
    for mark in getattr(kind, "__metadata__", ()):
        if isinstance(mark, Changes):
            fields_with_text = [(cls, *each) for cls in mark.classes for each in _fields(cls, words) if each[2]]
            said = f"[default: {mark.default}]"
            flags = [_flag_of_a_change(cls, f, kind, f"{text} {said}") for cls, f, kind, text in fields_with_text]
            return _Asked(flags, lambda values: {name: value for name, value in values.items() if value is not None})
    if isinstance(kind, type) and is_dataclass(kind):
        listed = list(_fields(kind, words))
        names = {f.name: _name(f.name, kind) for f, kind, _ in listed}
        flags = [_flag(kind, *each) for each in listed]
        return _Asked(flags, lambda values: settings.converted(kind, values, lambda name, value: f"{names[name]} {value}"))
    return _Asked([parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)], lambda values: values[parameter.name])


def _flag(cls: type, f: Field[Any], kind: Any, text: str) -> inspect.Parameter:
    default = f.default_factory() if f.default_factory is not MISSING else f.default
    if isinstance(default, tuple):
        default = list(default)
    name = _name(f.name, kind)
    switch = f"{name}/--no-{name[2:]}" if default is True else name
    says_nothing = default in ([], "") or (default is False and "/" not in switch)
    option = typer.Option(switch, help=text, show_default=not says_nothing, rich_help_panel=_title(cls, f.name))
    return _parameter(f.name, Annotated[_typers(kind), option], default)


def _flag_of_a_change(cls: type, f: Field[Any], kind: Any, text: str) -> inspect.Parameter:
    name, typed = _name(f.name, kind), _typers(kind)
    switch = f"{name}/--no-{name[2:]}" if typed is bool else name
    single = str if get_origin(typed) is list else typed  # names with commas between
    option = typer.Option(switch, help=text, rich_help_panel=_title(cls, f.name))
    return _parameter(f.name, Annotated[single | None, option], None)


def _title(cls: type, field_name: str) -> str:
    """What the help calls the group of a flag: the first words of the docstring of the class that has the field first."""
    owner = next(base for base in reversed(cls.__mro__) if field_name in inspect.get_annotations(base))
    return re.split(r"[.,:;]", inspect.getdoc(owner) or "", maxsplit=1)[0]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _fields(cls: type, words: Mapping[str, str]) -> Iterator[tuple[Field[Any], Any, str]]:
    """Each with its type and its help."""
    hints, docs = get_type_hints(cls, include_extras=True), settings.docs(cls)
    for f in fields(cls):
        text = docs.get(f.name, "")
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        limits = settings.limits(hints[f.name])
        yield f, hints[f.name], f"{text} [{limits}]" if text and limits else text


def _name(field_name: str, kind: Any) -> str:
    """The flag of a field."""
    named = [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, str)]
    return named[0] if named else f"--{field_name.replace('_', '-')}"


def _typers(kind: Any) -> Any:
    """The type that typer is to read: `settings` checks limits and words, and makes tuples of lists."""
    if get_origin(kind) is Annotated:
        return _typers(get_args(kind)[0])
    if get_origin(kind) in settings.UNIONS:
        (only,) = (each for each in get_args(kind) if each is not NoneType)
        return _typers(only) | None
    if get_origin(kind) is Literal:
        return str
    if get_origin(kind) is tuple:
        return list[_typers(get_args(kind)[0])]  # type: ignore[misc]
    return kind
