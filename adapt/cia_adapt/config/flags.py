"""The command line's flags: the fields of the configuration that carry a help text."""

import ast
import inspect
import textwrap
from dataclasses import fields
from typing import Literal, get_origin, get_type_hints

from cia_adapt import parts
from cia_adapt.config.schema import Method, Setup

_NOT_FLAGS = {"name", "paper", "published", "reconstructed", "options"}


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
