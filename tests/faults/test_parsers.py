"""Every parser of text is given what nobody would write: it reads, or refuses in one printable line, soon.

Hypothesis changes sound files in a few places, or puts together pieces that each format has. Feature files, weights, journals
and pickles are fuzzed where their readers are tested. A run's configuration goes through `table`, `report` and `predict` too.
"""

import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cia_adapt import config
from cia_adapt.config import library
from cia_adapt.experiments import runner, search
from cia_adapt.footage.store import Store
from cia_adapt.results import comparison, formats, predicting, table
from cia_adapt.results.report import page
from cia_adapt.runs import files
from cia_extract import recipes
from cia_extract.common.errors import CiaError
from cia_extract.datasets import manifest, tables
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adapt.clips_of import PICTURES
from tests.adapt.experiments.test_search import SPACE as SEARCHED
from tests.adapt.experiments.test_search import search_of
from tests.adapt.runs.test_resume import folder_of, request
from tests.adapt.runs_of import copied
from tests.hostile import mutated

MANIFEST = b"clip,path,label,split,start,stop,domain\na,wave/a.avi,wave,train,0,1.5,x\nb,wave/b.avi,wave,val,,,y\n"
METHOD = b'paper = "none"\nreconstructed = "all"\npooling = "sc"\nobjectives = ["coral"]\n\n[coral]\nweight = 0.2\n'
SETUP = b"segments = 5\nepochs = 3\nbatch = 8\noptimiser = 'adam'\nlr = 3e-3\nlabels = 'label'\n"
CONFIG = {
    "source": "here", "target": "there", "features": "ab", "precision": "fp32", "seed": 0,
    "modalities": ["rgb"], "classes": {"label": ["a"]},
    "setup": {"name": "demo", "epochs": 1, "segments": 3},
    "method": {"name": "cia", "paper": "", "reconstructed": "", "pooling": "sc", "published": {"here-there": 50.0}},
}  # fmt: skip
RESULT = {"source": "a", "target": "b", "method": "cia", "setup": "demo", "last": 1.0, "selected": 1, "oracle": 2.5}
RESULT |= {"source_val": 3.0, "seed": 0, "target_val_clips": 9}
METRICS = {"source_val_accuracy": 0.5, "target_val_accuracy": 0.25, "class_loss": 1.5, "advice": "x"}
SPACE = b"[setup]\nlr = { low = 1e-3, high = 1e-2, log = true }\nbatch = [4, 8]\n[adversarial]\nframe = { low = 0.1, high = 1 }\n"
KNOBS = json.dumps(recipes.load("kinetics").knobs(["rgb", "flow"])).encode()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def in_a_run(read: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    def reads(path: Path) -> object:
        (path.parent / name).write_bytes(path.read_bytes())
        return read(path.parent)

    return reads


def of_a_search(name: str, read: Callable[[search.Search], object]) -> tuple[bytes, str, Callable[[Path], object]]:
    """A file of a search's folder."""

    def reads(path: Path) -> object:
        asked = search_of(path, path.parent)
        (asked.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (asked.folder / name).write_bytes(path.read_bytes())
        return read(asked)

    with tempfile.TemporaryDirectory() as folder:
        asked = search_of(Path(folder), Path(folder))
        search._check_same(asked)
        search._written(asked, 1, {"setup.lr": 2e-3, "setup.reversal": 0.5})
        return (asked.folder / name).read_bytes(), name, reads


def of_a_frame_cache(name: str) -> tuple[bytes, str, Callable[[Path], object]]:
    """A file of a frame cache."""

    def begun(folder: Path) -> Store:
        (folder / "m.csv").write_bytes(MANIFEST)
        store = Store(folder, "rgb")
        store.begin_or_continue(PICTURES, manifest.read(folder / "m.csv"))
        return store

    def reads(path: Path) -> object:
        content = path.read_bytes()
        path.unlink()
        if name != "rgb.json":
            (path.parent / "rgb.json").unlink(missing_ok=True)
        store = begun(path.parent)
        path.write_bytes(content)
        return store.check(PICTURES, manifest.read(path.parent / "m.csv")), store.checksums()

    with tempfile.TemporaryDirectory() as folder:
        begun(Path(folder))
        return (Path(folder) / name).read_bytes(), name, reads


# {what is parsed: (a sound file, its name, the parser)}
PARSERS: dict[str, tuple[bytes, str, Callable[[Path], object]]] = {
    "a manifest": (MANIFEST, "m.csv", manifest.read),
    "an official list": (MANIFEST, "l.csv", lambda p: tables.read(p, ["clip", "label"], [])),
    "a method": (METHOD, "m.toml", lambda p: library.load("demo", str(p), {})),
    "a set-up": (SETUP, "s.toml", lambda p: library.load(str(p), "source-only", {})),
    "a run's configuration": (as_json(CONFIG), "c", in_a_run(files.read_config, "config.json")),
    "a run's result": (as_json(RESULT), "r", in_a_run(files.read, "result.json")),
    "a run's stamp": (as_json({"feature_file": "f", "device": "cpu"}), "s", in_a_run(files.read_stamp, "stamp.json")),
    "a run's metrics": (as_json(METRICS) + b"\n" + as_json(METRICS), "m", in_a_run(files.read_metrics, "metrics.jsonl")),
    "a run's predictions": (
        b"clip,label,last,selected\na,x,y,x\n'=b,x,y,y\n",
        "p",
        in_a_run(files.read_predictions, "predictions.csv"),
    ),
    "a space": (SPACE, "s.toml", lambda p: config.load_space(str(p), library.load("demo", "dann", {}))),
    "a search": of_a_search("search.json", lambda asked: (search.begun_in(asked, SEARCHED), search._check_same(asked))),
    "a search's trial": of_a_search("concat-trial001.toml", search._known),
    "what a frame cache is of": of_a_frame_cache("rgb.json"),
    "the states of a frame cache": of_a_frame_cache("rgb.state.npy"),
    "a file's recipe": (KNOBS, "k.json", lambda p: recipes.restored(json.loads(p.read_text()), "f.h5")),
}
PIECES = [
    *rb"""" ' , ; = [ ] { } . - # \ : / .. ''' [[ ]] 1e999 nan inf -1 0 true null""".split(),
    *rb"""clip path label split start stop setup pairs weight""".split(),
    *rb"""../../etc/passwd /etc/passwd =cmd() <script> 1979-05-27 0x1F \u0000 \ud800 "\u202e" """.split(),
    *(b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b[2J", b"\xe2\x80\xae", b"\xed\xa0\x80", b'"' * 3),
    *(b"1" * 5000, b"[" * 3000, b'{"a":' * 3000, b"a." * 3000, b"x" * 200_000, b"," * 2000, b"\n" * 2000),
]


def attempt(parser: tuple[bytes, str, Callable[[Path], object]], data: bytes, folder: Path) -> bool:
    """Whether the bytes were read, rather than refused as all should be."""
    _, name, read = parser
    (folder / name).write_bytes(data)
    try:
        read(folder / name)
    except CiaError as error:
        assert str(error).isprintable() and len(str(error)) < 3000, str(error)[:300]
        return False
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, ValueError):
        if name != "k.json":  # whose JSON is parsed by the reader of feature files
            raise
        return False
    return True


@pytest.mark.parametrize("how_often", [60, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", PARSERS)
def test_a_parser_reads_or_refuses_in_one_line(tmp_path, what, how_often):
    parser = PARSERS[what]
    assert attempt(parser, parser[0], tmp_path), "the sound one"

    @settings(max_examples=how_often, deadline=60_000, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def fuzz(data):
        if data.draw(st.booleans()):
            content = mutated(parser[0], parser[0], data.draw(st.randoms(use_true_random=True)))
        else:
            at, removed = data.draw(st.integers(0, len(parser[0]))), data.draw(st.integers(0, 9))
            pieces = b"".join(data.draw(st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=6)))
            content = parser[0][:at] + pieces + parser[0][at + removed :]
        attempt(parser, content, tmp_path)

    fuzz()


# --- a run's configuration, through the commands ------------------------------------------------------------------------

VALUES = [
    *(
        None,
        True,
        False,
        0,
        1,
        2,
        -1,
        7,
        1000,
        10**7,
        10**15,
        0.5,
        -0.5,
        1e300,
        "",
        "x",
        "rgb",
        "sc",
        "cia",
        "../../etc",
        "\x1b[2J",
    ),
    *([], {}, [1], [[]], ["x"], ["x", "x"], [""], {"x": 1}, {"x": {}}, {"sc": [1]}, {"sc": {"embedding": 10**8}}, {"": ""}),
    *(
        "clips",
        "label,noun",
        "label,label",
        ",",
        "all",
        "source=all",
        "adam",
        "x" * 5000,
        ["a"] * 200_000,
        [["a"]] * 3,
        "none.toml",
    ),
]


@pytest.fixture(scope="module")
def trained(small_file, tmp_path_factory) -> Path:
    """The root of one finished run of SC, without checksums."""
    root = tmp_path_factory.mktemp("trained") / "of"
    runner.run(request(small_file, root, "sc-3", epochs=1), lambda message: None)
    return copied(root, root.with_name("runs"))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something can be changed: the keys that lead to each value of a JSON object."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ([path] if path else []) + [place for key, below in inner for place in places(below, (*path, key))]


def changed(data: st.DataObject, config: Any) -> Any:
    """The configuration with one to three fields of another value, removed, or added."""
    config = copy.deepcopy(config)
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(places(config)))
        holder = config
        for key in path:
            holder = holder[key]
        value = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
        match data.draw(st.sampled_from(["other", "other", "other", "none", "more"])):
            case "none":
                del holder[last]
            case "more" if isinstance(holder, dict):
                holder[data.draw(st.sampled_from(["", "new", "noun", "x" * 300, "\x1b[2J"]))] = value
            case _:
                holder[last] = value
        if not places(config):
            break
    return config


def commands(folder: Path, out: Path) -> list[Callable[[], object]]:
    """What `table`, `report` and `predict` do with a run."""

    def quiet(message: str) -> None:
        pass

    def rendered() -> object:
        return formats.render(table.paper_table("3", comparison.groups([folder]), "selected", None), "csv")

    return [
        rendered,
        lambda: page.write([folder], out, page.Wanted(clips=0), quiet),
        lambda: predicting.write(out.with_suffix(".csv"), predicting.scores_of(folder, predicting.Asked(), quiet), {}),
    ]


@pytest.mark.parametrize("how_often", [12, pytest.param(600, marks=pytest.mark.slow)])
def test_a_run_s_configuration_is_read_or_refused_by_the_commands(trained, tmp_path, how_often):
    folder = folder_of(trained, "sc-3")
    sound = json.loads((folder / "config.json").read_text())
    for command in commands(folder, tmp_path / "x.html"):
        command()

    @settings(max_examples=how_often, deadline=60_000, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def fuzz(data):
        (folder / "config.json").write_text(json.dumps(changed(data, sound)))
        for command in commands(folder, tmp_path / "x.html"):
            try:
                command()
            except CiaError as error:
                assert error.exit_code in (2, 3, 4), error
                assert str(error).isprintable() and len(str(error)) < 3000, str(error)[:300]

    fuzz()
    (folder / "config.json").write_text(json.dumps(sound))
