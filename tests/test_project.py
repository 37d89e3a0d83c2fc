"""What holds for the project as a whole: the arrows between the packages, the size of files, the README and the pages."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import cia_adapt.cli as adapt
import cia_extract.cli as extract
import pytest
import typer
import yaml
from cia_extract import __version__
from packaging.specifiers import SpecifierSet

from tests.command_line import in_this_process

ROOT = Path(__file__).parents[1]


def commands(*pages: Path) -> list[str]:
    """The lines of the pages' shell blocks, without comments."""
    blocks = [block for page in pages for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)]
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def test_readme_shows_the_two_setup_commands():
    assert {"make demo", "make test"} <= set(commands(ROOT / "README.md"))


OURS = re.compile(r"(?:\w+=\S* )*(?:\S*/)?cia-(?:extract|adapt)\b(?!.*--help)")


@pytest.mark.parametrize(
    "line", sorted({c for c in commands(ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if OURS.match(c)})
)
def test_every_command_of_the_readme_and_the_pages_is_understood(line):
    """Flags and sub-commands exist: parsed by the real command lines, not run."""
    words = shlex.split(line)
    while "=" in words[0]:
        words = words[1:]
    command, context = typer.main.get_command(APPS[Path(words[0]).name]), None
    while words:
        context = command.make_context(words[0], words[1:], parent=context, resilient_parsing=False)
        words = [*getattr(context, "_protected_args", []), *context.args] if hasattr(command, "commands") else []
        if words:
            command = command.get_command(context, words[0])
            assert command is not None, f"no command {words[0]}"


def test_makefile_has_the_promised_targets():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test", "test-all", "lint", "format", "clean"):
        assert re.search(rf"^{target}:", text, re.MULTILINE), target


def test_what_constraints_pin_installs_on_the_oldest_python():
    """pip finds no version at all where the pinned one wants a later Python: Debian 12 has 3.11.2, and 3.11.5 was wanted."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    oldest = declared.removeprefix(">=") + ".0"
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    wanted = {}
    for name in pinned:
        try:
            wanted[name] = metadata.metadata(name).get("Requires-Python") or ""
        except metadata.PackageNotFoundError:
            continue  # for another Python or machine
    assert len(wanted) > 50
    assert {name: python for name, python in wanted.items() if oldest not in SpecifierSet(python)} == {}


def test_the_citation_is_of_this_version_and_has_what_the_format_demands():
    """The keys that https://citation-file-format.github.io demands; GitHub shows nothing for a file without them."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys() and citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__ and citation["license"] == "MIT" and citation["type"] == "software"
    for work in (citation, *citation["references"]):
        assert all("name" in author or {"family-names", "given-names"} <= author.keys() for author in work["authors"])
        assert work["title"] and work["type"]


def instructions() -> list[list[str]]:
    """The Dockerfile's instructions, word by word; continued lines are joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_the_dockerfile_copies_what_is_there_and_needs_nothing_else():
    """No Docker runs here: its sources exist, none is kept out by .dockerignore, and they are all that the wheel is made of."""
    copied = [word for name, *words in instructions() if name == "COPY" and "--from=wheel" not in words for word in words[:-1]]
    allowed = {line.strip("!\n") for line in (ROOT / ".dockerignore").open(encoding="utf-8") if line.startswith("!")}
    assert set(copied) == allowed and all((ROOT / source).exists() for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {Path(package).parts[0] for package in wheel["packages"]} | set(wheel["force-include"])
    assert needed | {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"} <= set(copied)


def test_the_dockerfile_installs_the_wheel_with_an_extra_that_exists():
    names = [name for name, *_ in instructions()]
    assert set(names) <= {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD"} and names.count("FROM") == 2
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")  # nothing is installed as nobody
    install = " ".join(next(words for words in reversed(instructions()) if words[0] == "RUN"))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert re.search(r"--find-links /dist \"cia-video\[(\w+)\]\"", install)[1] in extras
    for command in re.findall(r"(?:^RUN|&&) (.*?)(?= &&|$)", install):
        subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize(("torch", "asked"), [("", False), ("cpu", True)])
def test_the_demo_installs_no_developers_tools_and_a_build_of_torch_where_one_is_named(tmp_path, torch, asked):
    make = ["make", "--dry-run", "demo", f"VENV={tmp_path}/venv", f"TORCH={torch}"]
    lines = subprocess.run(make, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "-e '.[openvino]'" in lines and "[dev]" not in lines
    assert ("torch --index-url https://download.pytorch.org/whl/cpu" in lines) is asked
    assert "-e '.[dev]'" in subprocess.run([*make, "lint"], capture_output=True, text=True, check=True, cwd=ROOT).stdout


APPS = {"cia-extract": extract.app, "cia-adapt": adapt.app}


def help_of(command: str, monkeypatch) -> str:
    """What `command --help` prints, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "120")
    program, *words = command.split()
    return in_this_process({"cia-extract": extract.main, "cia-adapt": adapt.main}[program], *words, "--help").stdout


SECTIONS = {
    "cia-extract": ["What to extract", "How a clip becomes network input", "Performance", "Where to"],
    "cia-adapt": ["Which features of which domains", "Which clips", "What to train", "What becomes of the runs"],
}


@pytest.mark.parametrize("program", SECTIONS)
def test_the_help_is_in_sections(program, monkeypatch):
    text = help_of(program, monkeypatch)
    titles = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert titles[:4] == SECTIONS[program] and titles[-2:] == ["Options", "Commands"]
    assert re.search(r"^Options:\n  --help .*\n\nCommands:", text, re.MULTILINE)  # every other flag has a section


def walk(name: str, command) -> Iterator[tuple[str, object]]:
    yield name, command
    for child, below in getattr(command, "commands", {}).items():
        yield from walk(f"{name} {child}", below)


ALL_COMMANDS = dict(each for program, app in APPS.items() for each in walk(program, typer.main.get_command(app)))


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_the_help_of_a_command_ends_with_two_examples_of_it_that_are_understood(name, monkeypatch):
    examples = help_of(name, monkeypatch).split("\n  Examples:\n")[1].strip().splitlines()
    assert len(examples) == 2
    for example in map(str.strip, examples):
        assert example.startswith(name)
        test_every_command_of_the_readme_and_the_pages_is_understood(example)


@pytest.mark.parametrize("program", SECTIONS)
def test_the_list_of_commands_has_whole_sentences(program, monkeypatch):
    """What a command does is said in its first sentence, which fits beside its name on a terminal of 80 columns."""
    listed = help_of(program, monkeypatch).split("\nCommands:\n")[1].split("\n\n")[0]
    lines = [line for line in listed.splitlines() if line.strip()]
    assert len(lines) > 6 and all(line.endswith(".") and not line.endswith("...") for line in lines), listed


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_a_command_with_many_flags_has_them_in_sections(name):
    flags = [p for p in ALL_COMMANDS[name].params if p.param_type_name == "option" and "--help" not in p.opts]
    assert len(flags) < 7 or all(flag.rich_help_panel for flag in flags)
