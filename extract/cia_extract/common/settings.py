"""Settings as frozen dataclasses, the one place that says what each may be. Both commands check all their settings here.

A field's type is the check: `Annotated[int, Meta(ge=1, le=1000)]` is a whole number in that range, `Literal` one of some words.
The docstring under a field is its help.
"""

import contextlib
import dataclasses
import functools
import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import docstring_parser
import msgspec
from msgspec import inspect as types

from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import instead

Quote = Callable[[str, str], str]
"""(name, value) of a setting → how a message calls it: "--lr 5", "rgb.edge = wrap"."""
Settings = TypeVar("Settings")
UNIONS: Final = (Union, UnionType)  # what `get_origin` gives for X | None


def converted(
    cls: type[Settings],
    values: Mapping[str, Any],
    quote: Quote,
    *,
    numbers: msgspec.Meta | None = None,
    section: str = "",
) -> Settings:
    """A `cls` of `values`, each in the type of its field. A field that is a dataclass itself is a section and takes a mapping.

    Args:
        quote: is given dotted names for what lies in a section.
        numbers: limits of the numbers whose fields say none.
        section: of the names, with a dot at its end.

    Raises:
        UsageError: one line that quotes the setting and says what it may be.
    """
    hints = get_type_hints(cls, include_extras=True)
    known = {f"{section}{field.name}": hints[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    fitting: dict[str, Any] = {}
    for name, value in values.items():
        full = f"{section}{name}"
        quoted = quote(brief(full), brief(value))
        if full not in known:
            have = instead(full[:60], list(known)) if known else ", there is nothing to set here"
            raise UsageError(f"{quoted}: unknown{have}")
        kind = known[full]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise UsageError(f"{quoted}: give a section of settings")
            fitting[name] = converted(kind, value, quote, numbers=numbers, section=f"{full}.")  # type: ignore[arg-type]
        elif get_args(kind)[1:] == (Ellipsis,) and isinstance(value, list | tuple):
            item = get_args(kind)[0]
            fitting[name] = tuple(_fitted(item, each, quote(brief(full), brief(each))) for each in value)
        else:
            limited = Annotated[kind, numbers] if numbers and kind in (int, float) else kind
            fitting[name] = _fitted(limited, value, quoted)
    return cls(**fitting)


def _fitted(kind: Any, value: Any, quoted: str) -> Any:
    """`value` in the type `kind`. Raises UsageError that begins with `quoted`."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeError) as error:  # UnicodeError: bytes of a command line that are no text
        raise UsageError(f"{quoted}: {_wanted(kind, value) or error}") from None


def parsed(entry: str, form: str, example: str) -> tuple[str, Any]:
    """(name, value) of a `--set` entry, `form`=value. Raises UsageError for another form.

    >>> parsed("rgb.edge=zero", "section.knob", ""), parsed("rgb.mean = [1, 2, 3]", "section.knob", "")
    (('rgb.edge', 'zero'), ('rgb.mean', [1, 2, 3]))
    """
    name, separator, text = (part.strip() for part in entry.partition("="))
    if not separator or name.count(".") != 1 or not all(name.split(".")):
        raise UsageError(f"--set {brief(entry)}: write {form}=value, for example {example}")
    return name, _value(text)


def _value(text: str) -> Any:
    """A value in TOML; a number or a truth value as Python writes it (.5, True); or else the text itself."""
    try:
        read = tomllib.loads(f"value = {text}")
        if set(read) == {"value"}:
            return read["value"]
    except (ValueError, RecursionError):  # no TOML, a number of thousands of digits, or brackets without end
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
    return {"true": True, "false": False}.get(text.lower(), text)


@functools.cache
def docs(cls: type) -> Mapping[str, str]:
    """{field: the docstring under it}, with those of the classes it is derived from."""
    texts: dict[str, str] = {}
    for parent in filter(dataclasses.is_dataclass, reversed(cls.__bases__)):
        texts |= docs(parent)
    own = docstring_parser.parse_from_object(cls).params
    return texts | {param.arg_name: inspect.cleandoc(param.description or "") for param in own}


def limits(kind: Any) -> str:
    """The range of a type of numbers, as "from 1 to 1000"; empty where it has none.

    >>> limits(Annotated[int, msgspec.Meta(gt=0)] | None)
    'above 0'
    """
    return next((_range(one) for one in _alternatives(kind) if isinstance(one, types.IntType | types.FloatType)), "")


def choices(kind: Any) -> list[str]:
    """The words of a `Literal` type; "" stands for no choice and is not one. Empty for other types."""
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind) if word != ""]
    return [word for inner in get_args(kind) for word in choices(inner)] if get_origin(kind) in (Annotated, *UNIONS) else []


def brief(value: object) -> str:
    """A value for a message: one line of 1 to 60 characters."""
    try:
        text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested without end
        text = f"a {type(value).__name__}"
    return (text if len(text) <= 60 else f"{text[:59]}…") or "''"


def _alternatives(kind: Any) -> Iterator[types.Type]:
    info = types.type_info(kind)
    yield from info.types if isinstance(info, types.UnionType) else [info]


def _wanted(kind: Any, value: Any) -> str:
    """What a value must be, as the end of a message; empty for types that no message is written for."""
    if words := choices(kind):
        return f"unknown{instead(brief(value), words)}"
    for one in _alternatives(kind):
        match one:
            case types.BoolType():
                return "say true or false"
            case types.IntType() | types.FloatType():
                return f"give {_number(one)} {_range(one)}".strip()
            case types.TupleType(item_types=(types.FloatType() as item, *others)):
                return f"give {1 + len(others)} numbers {_range(item)}, in brackets and with commas between"
            case types.StrType():
                return "give a text" + (f" of {one.min_length} to {one.max_length} characters" if one.max_length else "")
    return ""


def _number(info: types.IntType | types.FloatType) -> str:
    return "a whole number" if isinstance(info, types.IntType) else "a number"


def _range(info: types.IntType | types.FloatType) -> str:
    if info.ge is not None and info.le is not None:
        return f"from {_short(info.ge)} to {_short(info.le)}"
    words = (("of at least", info.ge), ("above", info.gt), ("of at most", info.le), ("below", info.lt))
    return " and ".join(f"{word} {_short(limit)}" for word, limit in words if limit is not None)


def _short(number: float) -> str:
    """1e+06 for a million, but all digits of 4294967295."""
    return f"{number:g}" if float(f"{number:g}") == number else str(number)
