"""The pages: their examples run, their links lead somewhere, and flags and pages name each other."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import cia_adapt
import cia_extract
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@cache
def parameters() -> dict[str, dict[str, set[str]]]:
    """{command: {sub-command, "" for the bare one: its flags}}; --help, which all have, is left out."""
    import typer
    from cia_adapt.cli import app as adapt
    from cia_extract.cli import app as extract

    def walk(command, name: str) -> dict[str, set[str]]:
        options = [p for p in command.params if p.param_type_name == "option"]
        own = {name: {flag for option in options for flag in [*option.opts, *option.secondary_opts]} - {"--help"}}
        for child, below in getattr(command, "commands", {}).items():
            own |= walk(below, f"{name} {child}".strip())
        return own

    return {"cia-extract": walk(typer.main.get_command(extract), ""), "cia-adapt": walk(typer.main.get_command(adapt), "")}


def test_the_feature_files_example_reads_one_frame(feature_file, tmp_path, monkeypatch):
    """It once copied the whole data set to read one frame of it."""
    example = next(block for block in blocks("feature-file.md", "python") if "open_features" in block)
    shutil.copyfile(feature_file, tmp_path / "feats.h5")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example.replace('["demo"]', '["here"]').replace("maps[row, 12]", "maps[row, 3]"), names)
    assert names["frame"].shape == (1024, 7, 7) and (names["frame"] == names["maps"][0, 3]).all()
    assert "done()]" not in example


def test_the_feature_files_reader_and_writer_work(feature_file, tmp_path, monkeypatch, capsys):
    from cia_adapt.data.checking import Protocol, check

    reader, writer = (block for block in blocks("feature-file.md", "python") if "h5py" in block)
    shutil.copyfile(feature_file, tmp_path / "feats.h5")
    monkeypatch.chdir(tmp_path)
    exec(reader, {})
    assert "done, [" in capsys.readouterr().out
    exec(writer, {})
    findings = check(Path("mine.h5"), (), (), Protocol.of("train", None, "label"))
    assert not [finding for finding in findings if finding.severity == "fault"]


@pytest.mark.parametrize("page", ["methods", "commands"])
def test_a_generated_page_is_what_its_script_makes(page):
    """A new method, setting, flag or docstring is on the page after `python docs/make_methods.py` and `make_commands.py`."""
    spec = importlib.util.spec_from_file_location(f"make_{page}", DOCS / f"make_{page}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (DOCS / f"{page}.md").read_text(encoding="utf-8") == script.page(), f"run python docs/make_{page}.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert page.parent != DOCS or file.is_relative_to(DOCS), f"{page.name}: {target} is not on the site; write its path"
        if heading:
            titles = re.findall(r"^#+ (.*)$", CODE.sub("", file.read_text(encoding="utf-8")), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page.name}: {target}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_paths_of_this_project_exist(page):
    """`adapt/cia_adapt/methods`, `benchmarks/RESULTS.md`, … in the pages' text."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    for path in re.findall(r"`((?:adapt|extract|tests|benchmarks|docs|data/manifests)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_every_promise_names_tests_that_exist():
    """`tests/….py::test_…`; `::test_…` alone is of the file before it."""
    text = (DOCS / "promises.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", text)
    file, seen = "", 0
    for path, test in named:
        file = path or file
        if file and test:
            seen += 1
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"
    assert seen > 20


def test_a_page_that_code_cites_is_in_the_project():
    """`docs/facts.md` and not a note that a reader of the code does not have."""
    # Some tests read and compare notes where these are at hand, or write a file of that name.
    allowed = {
        ("test_library.py", "evaluation.md"), ("test_library.py", "methods-after.md"), ("test_overview.py", "methods-after.md"),
        ("test_sweep.py", "t.md"), ("test_disk.py", "t.md"), ("test_interrupts.py", "t.md"),
    }  # fmt: skip
    places = [ROOT / folder for folder in ("extract", "adapt", "data/manifests", "tests", "benchmarks", "docs")]
    cited = [
        (path, name)
        for place in places
        for path in place.rglob("*")
        if path.suffix in {".py", ".toml"} and path != Path(__file__)
        for name in re.findall(r"(?<![\w/.-])(?:docs/)?[A-Za-z][\w-]*\.md\b", path.read_text(encoding="utf-8"))
    ]
    absent = {
        (path.name, name) for path, name in cited if not any((ROOT / at / name).is_file() for at in (".", "docs", "benchmarks"))
    }
    assert len(cited) > 20 and absent - allowed == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_that_a_page_names_exist(page):
    known = {flag for commands in parameters().values() for flags in commands.values() for flag in flags} | {"--help"}
    text = page.read_text(encoding="utf-8")
    ours = "\n".join(
        line
        for line in text.splitlines()
        if not re.search(r"\bpython |\bpip |\bmake \b|\bmkdocs |^docker |^uv |--gpus all", line)
    )
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", ours))
    assert named <= known, f"{page.name}: {sorted(named - known)}"


@pytest.mark.parametrize("command", ["cia-extract", "cia-adapt"])
def test_every_flag_stands_with_its_command(command):
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `(.*?)`\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    for sub, flags in parameters()[command].items():
        cells = re.findall(r"^\| (.*?) \|", sections[f"{command} {sub}".strip()], re.MULTILINE)
        named = set(re.findall(r"`(--[a-z][a-z0-9-]*)`", " ".join(cells)))
        assert flags == named, f"{command} {sub}: {sorted(flags ^ named)}"


@pytest.mark.parametrize("command", ["cia-extract", "cia-adapt"])
def test_every_flag_is_explained_on_a_page_that_is_not_generated(command):
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.name not in ("commands.md", "methods.md"))
    flags = set().union(*parameters()[command].values())
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
    assert flags <= named, sorted(flags - named)


@pytest.mark.parametrize("page", PAGES[2:], ids=lambda page: page.name)
def test_the_index_and_the_site_lead_to_the_page(page):
    index, site = (DOCS / "README.md").read_text(encoding="utf-8"), (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert page.name == "README.md" or f"({page.name})" in index
    assert re.search(rf": {re.escape(page.name)}$", site, re.MULTILINE)


def test_the_site_is_built_without_a_warning(tmp_path):
    """Links between the pages, anchors, and the reference that is drawn from docstrings. --quiet would hide warnings."""
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "python/index.html").read_text(encoding="utf-8")
    given = {"cia_extract.extraction.Summary", "cia_extract.features.DatasetFeatures", "cia_adapt.runs.Run"}
    given |= {"cia_adapt.results.predicting.Scores", "cia_extract.common.errors.CiaError"}
    calls = {f"{face.__name__}.{name}" for face in (cia_extract, cia_adapt) for name in face.__all__ if name != "__version__"}
    assert len(calls) == 5
    for name in calls | given:
        assert f'id="{name}"' in reference, name


def notebook() -> list[str]:
    """The code cells of the quick start's notebook."""
    content = nbformat.read(DOCS / "quick-start.ipynb", 4)
    nbformat.validate(content)
    return [cell.source for cell in content.cells if cell.cell_type == "code"]


def test_the_notebook_is_kept_without_outputs_and_its_cells_are_python():
    content = nbformat.read(DOCS / "quick-start.ipynb", 4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in content.cells)
    for cell in notebook():
        compile(cell, "quick-start.ipynb", "exec")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """In a kernel of its own as Jupyter runs it, with one clip a class and few epochs."""
    content = nbformat.read(DOCS / "quick-start.ipynb", 4)
    for cell in content.cells:
        cell.source = cell.source.replace("frames = 6, 3", "frames = 1, 1").replace("seeds=3", "seeds=1, epochs=2, batch=4")
    content.cells.append(nbformat.v4.new_code_cell("print(len(results), len(vectors), summary.done)"))
    done = NotebookClient(content, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [output.text for output in done.cells[-1].outputs] == ["4 32 32\n"]
    assert done.cells[-2].outputs[-1].data["image/png"]


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the project to add to."""
    for folder in ("adapt", "extract", "data/manifests", "docs", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run_in(copy: Path, *arguments: object) -> str:
    """What Python prints in the copy, with its packages. A program that ends with another code than 0 fails the test."""
    environment = os.environ | {"PYTHONPATH": f"{copy}/extract{os.pathsep}{copy}/adapt{os.pathsep}{copy}"}
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=copy, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_method_recipe_and_dataset_of_the_page_on_adding_work_in_the_files_that_it_names(copy):
    """Nothing but those files is touched. The project's own tests of methods, recipes, datasets and pages pass with them."""
    page = (DOCS / "adding.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))
    parts = [sections[title] for title in ("A method of parts that exist", "A recipe", "A dataset")]
    method, recipe, dataset = (re.search(r"```toml\n(.*?)```", part, re.DOTALL)[1] for part in parts)
    before = contents(copy)
    (copy / "adapt/cia_adapt/methods/my-method.toml").write_text(method, encoding="utf-8")
    (copy / "extract/cia_extract/recipes/dense.toml").write_text(recipe, encoding="utf-8")
    (copy / "data/manifests/ucf-ball.toml").write_text(dataset, encoding="utf-8")
    names = copy / "extract/cia_extract/recipes/files.py"
    names.write_text(names.read_text(encoding="utf-8").replace('"kinetics", "tr', '"kinetics", "dense", "tr'), encoding="utf-8")
    (command,) = re.search(r"```sh\npython (.*?)\n```", parts[0]).groups()
    run_in(copy, "-B", command)
    after = contents(copy)
    touched = {path for path in after if after[path] != before.get(path)}
    named = set(re.findall(r"`([\w/.-]+)`", "".join(parts)))
    assert len(touched) == 5 and all({path, str(Path(path).parent)} & named for path in touched)

    def program(name: str, *arguments: str) -> str:
        return run_in(copy, "-c", f"from {name}.cli import main; main()", *arguments)

    assert "temperature: 2.0" in program("cia_adapt", "methods", "my-method")
    assert "frames: 64" in program("cia_extract", "recipes", "dense")
    (copy / "trainlist01.txt").write_text("Basketball/v_Basketball_g08_c01.avi 8\nDrumming/v_Drumming_g08_c01.avi 27\n")
    (copy / "testlist01.txt").write_text("GolfSwing/v_GolfSwing_g01_c01.avi\n")
    program("cia_extract", "manifest", "--dataset", "ucf-ball", "--root", "clips", "--annotations", ".", "--out", "balls.csv")
    rows = (copy / "balls.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[2:4] for row in rows[1:]] == [["shoot_ball", "train"], ["golf", "val"]]
    tests = "adapt/config/test_overview.py", "extract/recipes/test_files.py", "extract/datasets/test_benchmarks.py"
    checks = [*(f"tests/{name}" for name in tests), "-k", "group or recipe or definition"]
    run_in(copy, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *checks)
    run_in(copy, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/test_documents.py", "-k", "generated_page")
