"""The rooms of both packages: arrows run downwards only, nothing imports past a face, files stay short, tests mirror the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"cia_extract": ROOT / "extract/cia_extract", "cia_adapt": ROOT / "adapt/cia_adapt"}
# From the top floor to the ground: a room may import from the floors below it.
FLOORS = {
    "cia_extract": [
        {"cli"},
        {"comparison", "pages"},
        {"extraction"},
        {"networks", "clips"},
        {"datasets", "features"},
        {"recipes"},
        {"common"},
    ],
    "cia_adapt": [
        {"cli"},
        {"experiments", "results"},
        {"runs"},
        {"training"},
        {"data", "model"},
        {"footage"},
        {"config"},
        {"parts"},
    ],
}
# What stage two may use of stage one.
SHARED = {"common", "features", "datasets", "recipes", "clips", "networks"}
LONGEST = 300  # lines
# Modules that others import as they are: the room without a face, and what all parts of methods are made from.
OPEN = ("cia_extract.common.", "cia_adapt.parts.interface")


def modules() -> dict[str, Path]:
    found = {}
    for name, root in PACKAGES.items():
        for path in root.rglob("*.py"):
            found[".".join((name, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(module: str) -> Iterator[tuple[str, str]]:
    """(module imported from, name) of every import of our own modules, inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            assert not node.level, f"{module}: relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def room(module: str) -> str:
    """ "cia_extract.clips" of "cia_extract.clips.flow.cache"; "cia_extract" of the package itself."""
    return ".".join(module.split(".")[:2])


def target(source: str, name: str) -> str:
    """The module that an import reaches: `from cia_extract import features` reaches a room, not the package."""
    return f"{source}.{name}" if f"{source}.{name}" in MODULES else source


def test_arrows_run_downwards_only():
    floors = {f"{package}.{name}": i for package, listed in FLOORS.items() for i, floor in enumerate(listed) for name in floor}
    wrong = []
    for module in MODULES:
        for source, name in imports(module):
            here, there = room(module), room(target(source, name))
            if here == there or "." not in there or "." not in here:
                continue
            same_package = here.split(".")[0] == there.split(".")[0]
            allowed = (
                floors[here] < floors[there] if same_package else there.split(".")[1] in SHARED and here.startswith("cia_adapt")
            )
            if not allowed:
                wrong.append(f"{module} imports {source} ({name})")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_past_a_face():
    wrong = []
    for module in MODULES:
        for source, name in imports(module):
            reached = target(source, name)
            past = MODULES[source].name != "__init__.py" and room(source) != room(module)
            if past and not reached.startswith(OPEN) and "." in source.removeprefix(room(source)):
                wrong.append(f"{module} imports {source} ({name})")
    assert not wrong, "\n".join(wrong)


def test_no_import_circle():
    """An import from a package runs the package too, so both count."""
    graph = {
        module: {place for source, name in imports(module) for place in (source, target(source, name))} - {module}
        for module in MODULES
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join((*way[way.index(module) :], module))
        if module not in done:
            for other in graph[module]:
                visit(other, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("package", PACKAGES)
def test_at_most_ten_things_meet_a_newcomer_at_the_top(package):
    top = [p for p in PACKAGES[package].iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.rglob("*.py")))]
    assert len([p for p in top if p.name != "__init__.py"]) <= 10


def test_files_stay_short():
    long = {
        module: count
        for module, path in MODULES.items()
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert not long


def test_tests_mirror_the_rooms():
    """tests/extract/clips/test_audio_files.py tests cia_extract.clips.audio (or a room): the name begins with a module's."""
    wrong = []
    for side, package in (("extract", "cia_extract"), ("adapt", "cia_adapt")):
        for path in (ROOT / "tests" / side).rglob("test_*.py"):
            inside = ".".join((package, *path.relative_to(ROOT / "tests" / side).parent.parts))
            tested = path.stem.removeprefix("test_")
            siblings = [module.rpartition(".")[2] for module in MODULES if module.rpartition(".")[0] == inside]
            if inside not in MODULES or not any(tested == name or tested.startswith(f"{name}_") for name in siblings):
                wrong.append(str(path.relative_to(ROOT)))
    assert not wrong, "\n".join(wrong)
