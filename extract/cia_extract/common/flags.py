"""Commands whose flags are the fields of frozen dataclasses, checked by `settings`; typer does the rest.

A field `lr_decay: bool = True` is the flag --lr-decay/--no-lr-decay. The docstring under it is the help, its type the check.
`Annotated[bool, "--json"]` gives a field a flag of another name.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from cia_extract.common import settings


@dataclass(frozen=True)
class Changes:
    """Marks a parameter `Annotated[dict[str, Any], Changes((Setup, Method))]`, which becomes {field: value} of the flags given.

    Every field with a docstring is a flag without a default. Nothing is checked yet: the values change others first.
    """

    classes: tuple[type, ...]
    words: Mapping[str, str] = field(default_factory=dict)
    """What stands in the help for words of the docstrings."""
    default: str = ""
    """Where the default comes from, for the help."""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """`function` as typer takes it: a parameter that is a dataclass, or marked by `Changes`, becomes one flag for each field.

    The call raises UsageError that quotes the flag for a value that its field cannot have.
    """
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    own = inspect.signature(function).parameters
    by_name = {name: _parameters(own[name].replace(annotation=hint)) for name, hint in hints.items()}

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


def _parameters(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """What typer reads in place of one parameter of a command."""
    hint = parameter.annotation
    if isinstance(hint, type) and is_dataclass(hint):
        docs = settings.docs(hint)
        return [_flag(f, kind, docs[f.name]) for f, kind in _fields(hint)]
    if changes := _changes(hint):
        return [
            _flag_of_a_change(f, kind, docs[f.name], changes)
            for cls in changes.classes
            for docs in [settings.docs(cls)]
            for f, kind in _fields(cls)
            if f.name in docs
        ]
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]


def _flag(f: Field[Any], kind: Any, text: str) -> inspect.Parameter:
    default = f.default_factory() if f.default_factory is not MISSING else f.default
    if isinstance(default, tuple):
        default = list(default)
    name = _name(f.name, kind)
    switch = f"{name}/--no-{name[2:]}" if default is True else name  # what is off needs no flag that says so
    option = typer.Option(switch, help=_with_limits(text, kind), show_default=default is not False and default not in ([], ""))
    return _parameter(f.name, Annotated[_typers(kind), option], default)


def _flag_of_a_change(f: Field[Any], kind: Any, text: str, changes: Changes) -> inspect.Parameter:
    for word, meaning in changes.words.items():
        text = text.replace(word, meaning)
    name, typed = _name(f.name, kind), _typers(kind)
    switch = f"{name}/--no-{name[2:]}" if typed is bool else name
    option = typer.Option(switch, help=f"{_with_limits(text, kind)} [default: {changes.default}]")
    single = str if get_origin(typed) is list else typed  # names with commas between
    return _parameter(f.name, Annotated[single | None, option], None)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _fields(cls: type) -> list[tuple[Field[Any], Any]]:
    """Each with its type."""
    hints = get_type_hints(cls, include_extras=True)
    return [(f, hints[f.name]) for f in fields(cls)]


def _changes(hint: Any) -> Changes | None:
    return next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Changes)), None)


def _quoted(cls: type, name: str, value: str) -> str:
    return f"{_name(name, get_type_hints(cls, include_extras=True)[name])} {value}"


def _name(field_name: str, kind: Any) -> str:
    """The flag of a field."""
    named = [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, str)]
    return named[0] if named else f"--{field_name.replace('_', '-')}"


def _with_limits(text: str, kind: Any) -> str:
    return f"{text} [{limits}]" if (limits := settings.limits(kind)) else text


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
