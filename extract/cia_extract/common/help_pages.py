"""What --help prints: flags under titles, and examples at the end. It is plain text, to be piped, searched and copied."""

import inspect
from typing import Any, Protocol

import typer
from typer.core import TyperCommand, TyperGroup


class _HasParameters(Protocol):
    def get_params(self, ctx: Any) -> list[Any]: ...


def _write_parameters(command: _HasParameters, context: Any, formatter: Any) -> None:
    """A section for each title among the parameters (typer's `rich_help_panel`); those without one are the last."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            plain = "Arguments" if parameter.param_type_name == "argument" else "Options"
            sections.setdefault(getattr(parameter, "rich_help_panel", None) or plain, []).append(record)
    for title, records in sections.items():
        with formatter.section(title):
            formatter.write_dl(records)


class Command(TyperCommand):
    """A command whose help has sections and ends with the indented lines below `Examples:` of its docstring."""

    def __init__(self, *, help: str | None = None, epilog: str | None = None, **options: Any) -> None:
        text, _, lines = inspect.cleandoc(help or "").partition("\n\nExamples:\n")
        super().__init__(help=text, epilog=epilog or examples(*map(str.strip, lines.splitlines())), **options)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and flags."""
        _write_parameters(self, ctx, formatter)


class Group(TyperGroup):
    """A command with sub-commands whose help has sections."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and flags, then the sub-commands."""
        _write_parameters(self, ctx, formatter)
        self.format_commands(ctx, formatter)


class Application(typer.Typer):
    """A command line whose commands' help has sections."""

    def command(self, name: str | None = None, **options: Any) -> Any:
        """As typer's."""
        return super().command(name, **{"cls": Command, **options})


def examples(*lines: str) -> str | None:
    """Commands as the end of a help page; the first character keeps its lines apart."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) if lines else None
