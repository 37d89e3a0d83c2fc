"""Commands whose flags are the fields of frozen dataclasses, checked by `settings`; typer does the rest.

A field `lr_decay: bool = True` is the flag --lr-decay/--no-lr-decay. The docstring under it is the help, its type the check.
`Annotated[bool, "--json"]` gives a field a flag of another name.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from cia_extract.common import settings


@dataclass(frozen=True)
class Changes:
    """Marks a parameter `Annotated[dict[str, Any], Changes((Setup, Method))]`, which becomes {field: value} of the flags given.

    Every field with a docstring is a flag without a default. Nothing is checked yet: the values change others first.
    """

    classes: tuple[type, ...]
    default: str = ""
    """Where the default comes from, for the help."""


def command(function: Callable[..., None], words: Mapping[str, str] = MappingProxyType({})) -> Callable[..., None]:
    """`function` as typer takes it: a parameter that is a dataclass, or marked by `Changes`, becomes one flag for each field.

    The call raises UsageError that quotes the flag for a value that its field cannot have.

    Args:
        words: {word of a docstring: what the help has in its place}.
    """
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    own = inspect.signature(function).parameters
    by_name = {name: _parameters(own[name].replace(annotation=hint), words) for name, hint in hints.items()}

    @functools.wraps(function)
    def run(**values: Any) -> None:
        arguments: dict[str, Any] = {}
        for name, hint in hints.items():
            given = {parameter.name: values[parameter.name] for parameter in by_name[name]}
            if isinstance(hint, type) and is_dataclass(hint):
                arguments[name] = settings.converted(hint, given, functools.partial(_quoted, hint))
            else:
                changed = {key: value for key, value in given.items() if value is not None}
                arguments[name] = changed if _changes(hint) else given[name]
        function(**arguments)

    parameters = [parameter for listed in by_name.values() for parameter in listed]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameters(parameter: inspect.Parameter, words: Mapping[str, str]) -> list[inspect.Parameter]:
    """What typer reads in place of one parameter of a command."""
    hint, changes = parameter.annotation, _changes(parameter.annotation)
    if changes:
        listed = [(f, kind, text) for cls in changes.classes for f, kind, text in _fields(cls, words) if text]
        return [_flag_of_a_change(f, kind, f"{text} [default: {changes.default}]") for f, kind, text in listed]
    if isinstance(hint, type) and is_dataclass(hint):
        return [_flag(f, kind, text) for f, kind, text in _fields(hint, words)]
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]


def _flag(f: Field[Any], kind: Any, text: str) -> inspect.Parameter:
    default = f.default_factory() if f.default_factory is not MISSING else f.default
    if isinstance(default, tuple):
        default = list(default)
    name = _name(f.name, kind)
    switch = f"{name}/--no-{name[2:]}" if default is True else name
    says_nothing = default in ([], "") or (default is False and "/" not in switch)
    option = typer.Option(switch, help=text, show_default=not says_nothing)
    return _parameter(f.name, Annotated[_typers(kind), option], default)


def _flag_of_a_change(f: Field[Any], kind: Any, text: str) -> inspect.Parameter:
    name, typed = _name(f.name, kind), _typers(kind)
    switch = f"{name}/--no-{name[2:]}" if typed is bool else name
    single = str if get_origin(typed) is list else typed  # names with commas between
    return _parameter(f.name, Annotated[single | None, typer.Option(switch, help=text)], None)


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


def _changes(hint: Any) -> Changes | None:
    return next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Changes)), None)


def _quoted(cls: type, name: str, value: str) -> str:
    return f"{_name(name, get_type_hints(cls, include_extras=True)[name])} {value}"


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
