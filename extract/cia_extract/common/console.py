"""How both commands talk: one line for a mistake, the right exit code, progress that fits a terminal or a log."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

import typer

from cia_extract.common import help_pages, processes, switches
from cia_extract.common.errors import CiaError, UsageError
from cia_extract.common.names import printable
from cia_extract.common.shortage import full_disk

if TYPE_CHECKING:
    import torch
    from rich.text import Text


def say(message: str) -> None:
    """Print a line about what is happening to stderr: stdout is for results."""
    _print(printable(message), sys.stderr)


def out(text: str) -> None:
    """Print lines of a result to stdout. Control characters in names are escaped, so that they cannot command the terminal."""
    _print(printable(text, keep="\n"), sys.stdout)


def cells(*texts: str) -> "list[Text]":
    """Texts as cells of a rich table, taken literally: no markup, no emoji codes, no control characters."""
    from rich.text import Text

    return [Text(printable(text, keep="\n")) for text in texts]


def _print(text: str, file: TextIO) -> None:
    """Print text; characters that the encoding of `file` lacks become escapes."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


def print_json(value: Any) -> None:
    """Print `value` as indented JSON to stdout: the one object that --json promises."""
    print(json.dumps(value, indent=2))


def print_fields(fields: Mapping[str, Any], indent: str = "") -> None:
    """Print nested values as indented `name: value` lines to stdout."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            out(f"{indent}{printable(name)}:")
            print_fields(value, indent + "  ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            out(f"{indent}{printable(name)}: {printable(shown)}")


def device(request: str) -> "torch.device":
    """The torch device of a `--device` value; `auto` is the GPU if torch sees one. Raises UsageError for any other name."""
    import torch

    if request == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        parsed = torch.device(request)
    except RuntimeError:
        shown = request if request.isprintable() else ascii(request)
        raise UsageError(f"--device {shown[:60]}: unknown, choose auto, cpu or cuda{_gpu_like(request)}") from None
    if parsed.type not in {"cpu", "cuda"}:
        raise UsageError(f"--device {request}: unknown, choose auto, cpu or cuda")
    if parsed.type == "cuda":
        check_gpu(request, parsed.index or 0, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return parsed


def check_gpu(request: str, index: int, count: int) -> None:
    """Raise UsageError unless GPU `index` (from 0) is one of the `count` GPUs of this machine."""
    if not count:
        raise UsageError(f"--device {request}: torch sees no GPU here; use --device cpu")
    if index >= count:
        seen = f"GPUs cuda:0 to cuda:{count - 1}" if count > 1 else "one GPU, cuda:0"
        raise UsageError(f"--device {request}: torch sees {seen}")


def _gpu_like(request: str) -> str:
    return "; a GPU is called cuda" if request.casefold().startswith(("gpu", "nvidia", "cud")) else ""


def application(text: str, *examples: str) -> typer.Typer:
    """An empty command line with the help `text`, without shell completion, rich markup or pretty tracebacks."""
    return help_pages.Application(
        help=text,
        epilog=help_pages.examples(*examples),
        cls=help_pages.Group,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def exit_code(app: typer.Typer, program: str) -> int:
    """Run a command line and return its exit code; a user's mistake is printed as one line."""
    switches.threads_within_quota()
    try:
        code = app(prog_name=program, standalone_mode=False)
    except CiaError as error:
        say(f"{program}: {error}")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors; typer brings its own copy of click from 0.20 or so on
            say(f"{program}: {error.format_message().rstrip('.')} (see {program} --help)")
            return 2
        if os.environ.get("CIA_TRACEBACK"):
            traceback.print_exc()
        if full := full_disk(error):
            say(f"{program}: {full}")
            return 2
        if processes.received():  # what was interrupted may fail in its own way: an import that cannot be repeated
            return 130
        advice = "please report it, with the traceback that CIA_TRACEBACK=1 prints"
        say(f"{program}: unexpected {type(error).__name__}: {error}; {advice}")
        return 1
    return code if isinstance(code, int) else 0


class Progress:
    """Counts steps: a rich bar on a terminal, elsewhere one plain line every `every_s` seconds (and the last).

    `title` names the work. `done` of `total` steps were finished before; rates do not count them.
    """

    def __init__(self, total: int, title: str, done: int = 0, every_s: float = 60.0, quiet: bool = False) -> None:
        self.total, self.title, self.done, self.every_s, self.quiet = total, printable(title), done, every_s, quiet
        self.began = self.spoke = time.monotonic()
        self.first = done
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty() and not self.quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, TextColumn("{task.fields[note]}", markup=False), console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, completed=self.done, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, done: int, total: int) -> None:
        """Show that `done` of `total` steps are finished: the callback for work that counts its own steps."""
        if total != self.total:
            self.total, self.first = total, done
        self.done = done - 1
        self.step()

    def step(self, note: str = "") -> None:
        """Count one more step and show it, with `note` beside the rate."""
        self.done += 1
        note = printable(note)
        if self._bar is not None:
            rate = (self.done - self.first) / max(time.monotonic() - self.began, 1e-9)
            self._bar.update(
                self._task, completed=self.done, total=self.total, note=f"{rate:.2f} a second; {note}" if note else ""
            )
        elif not self.quiet and (time.monotonic() - self.spoke >= self.every_s or self.done == self.total):
            self.spoke = time.monotonic()
            rate = (self.done - self.first) / max(self.spoke - self.began, 1e-9)
            left = f", {(self.total - self.done) / rate / 60:.1f} min left" if rate and self.done < self.total else ""
            say(f"{self.title}: {self.done}/{self.total}, {rate:.2f} a second{left}{'; ' + note if note else ''}")

    def line(self, message: str) -> None:
        """Print a line above the bar, which stays whole."""
        if self._bar is not None:
            self._bar.console.print(printable(message), markup=False, highlight=False, emoji=False)
        else:
            say(message)


Say = Callable[[str], None]
