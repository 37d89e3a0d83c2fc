"""What holds for the project as a whole: the arrows between the packages, the size of files, the README."""

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED_MODULES = {
    "errors",
    "suggest",
    "names",
    "structure",
    "arrays",
    "writes",
    "spreadsheets",
    "processes",
    "console",
    "features",
    "journal",
    "collected",
    "safe_pickle",
    "manifest",
    "clip",
    "flow",
    "preprocess",
    "recipes",
    "backbones",
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_arrows_run_one_way():
    for path in (ROOT / "extract").rglob("*.py"):
        assert not any(name.startswith("cia_adapt") for name in imports(path)), path
    for path in (ROOT / "adapt").rglob("*.py"):
        for name in imports(path):
            if name.startswith("cia_extract."):
                assert name.split(".")[1] in SHARED_MODULES | {"__version__"}, f"{path} imports {name}"


def test_no_file_is_longer_than_agreed():
    for folder in ("extract", "adapt", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def test_readme_shows_the_two_setup_commands():
    assert {"make demo", "make test"} <= set(readme_commands())


@pytest.mark.parametrize("line", [line for line in readme_commands() if "cia-" in line])
def test_every_command_of_the_readme_is_understood(line):
    """Flags and sub-commands exist: parsed by the real command lines, not run."""
    import typer
    from cia_adapt.cli.adapt import app as adapt
    from cia_extract.cli.extract import app as extract

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
