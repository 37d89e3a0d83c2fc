"""What holds for the project as a whole: the arrows between the packages, the size of files, the README and the pages."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def commands(*pages: Path) -> list[str]:
    """The lines of the pages' shell blocks, without comments."""
    blocks = [block for page in pages for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)]
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def test_readme_shows_the_two_setup_commands():
    assert {"make demo", "make test"} <= set(commands(ROOT / "README.md"))


@pytest.mark.parametrize(
    "line", sorted({c for c in commands(ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if "cia-" in c and "--help" not in c})
)
def test_every_command_of_the_readme_and_the_pages_is_understood(line):
    """Flags and sub-commands exist: parsed by the real command lines, not run."""
    import typer
    from cia_adapt.cli import app as adapt
    from cia_extract.cli import app as extract

    words = shlex.split(line)
    while (words and "=" in words[0]) or words[0].endswith("/bin/activate"):
        words = words[1:]
    app = {"cia-extract": extract, "cia-adapt": adapt}[Path(words[0]).name]
    group = typer.main.get_command(app)
    context = group.make_context(words[0], words[1:], resilient_parsing=False)
    rest = [*getattr(context, "_protected_args", []), *context.args]
    if rest:
        command = group.get_command(context, rest[0])
        assert command is not None, f"no command {rest[0]}"
        command.make_context(rest[0], rest[1:], parent=context)


def test_makefile_has_the_promised_targets():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test", "test-all", "lint", "format", "clean"):
        assert re.search(rf"^{target}:", text, re.MULTILINE), target
