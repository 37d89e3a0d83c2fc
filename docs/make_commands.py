"""Writes docs/commands.md, every command with its arguments and flags, from the command lines: `python docs/make_commands.py`."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from cia_adapt.cli import app as adapt
from cia_extract.cli import app as extract

PAGE = Path(__file__).with_name("commands.md")

HEAD = """# Commands and flags

*Made by `python docs/make_commands.py` from the code. Edit the help texts, not this page.*

`COMMAND --help` prints the same, and two examples. A flag that may be repeated says so.
"""


def page() -> str:
    """The whole page, as Markdown."""
    commands = [("cia-extract", extract), ("cia-adapt", adapt)]
    return HEAD + "".join(text for name, app in commands for text in sections(name, typer.main.get_command(app)))


def sections(name: str, command: Any) -> Iterator[str]:
    """The section of a command (of click's, of which typer may have a copy of its own), then those of its sub-commands."""
    rows = [(written(parameter), meaning(parameter)) for parameter in command.params if "--help" not in parameter.opts]
    yield f"\n## `{name}`\n\n{inspect.cleandoc(command.help).replace(chr(10), ' ')}\n"
    if rows:
        yield "\n| argument or flag | meaning |\n| --- | --- |\n" + "".join(f"| {left} | {right} |\n" for left, right in rows)
    for child, below in getattr(command, "commands", {}).items():
        yield from sections(f"{name} {child}", below)


def written(parameter: Any) -> str:
    """`--flag`, both of `--flag` and `--no-flag`, or the argument's name in capitals."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])


def meaning(parameter: Any) -> str:
    text, default = parameter.help, parameter.default
    if (default or (default == 0 and default is not False)) and "[default" not in text:
        shown = ", ".join(map(str, default)) if isinstance(default, list | tuple) else default
        shown = parameter.opts[0] if default is True else shown
        text += f" [default: {shown}]"
    text = text.replace("] [", "] \\[")  # or it is a reference in Markdown
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
