"""Writing TOML, which Python's `tomllib` only reads."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cia_extract.common.names import printable


def toml_text(values: Mapping[str, Any], remark: str) -> str:
    """Scalars, lists and tables of them as TOML, with the remark's lines as comments at its head.

    >>> print(toml_text({"head": "sum", "setup": {"lr": 1e-05, "balanced": True}}, "mine"), end="")
    # mine
    head = "sum"
    <BLANKLINE>
    [setup]
    lr = 1e-05
    balanced = true
    """
    lines = [f"# {printable(line)}" for line in remark.splitlines()]
    lines += _lines({key: value for key, value in values.items() if not isinstance(value, Mapping)})
    for name, table in values.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_key(name)}]", *_lines(table)]
    return "\n".join(lines) + "\n"


def _lines(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if key.isascii() and key.isidentifier() else _text(key)


def _text(text: str) -> str:
    """A basic string of TOML: JSON's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_lines(value)) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)
