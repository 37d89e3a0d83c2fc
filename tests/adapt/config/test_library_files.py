"""Methods and set-ups from files whose names end in .toml: as the built-in ones, and checked like everything from outside."""

import re
from dataclasses import replace
from importlib import resources

import pytest
from cia_adapt.config import library
from cia_extract.common.errors import CiaError


@pytest.mark.parametrize("name", ["cia", "ta3n", "trn"])
def test_a_copy_of_a_built_in_file_is_the_same_method(tmp_path, name):
    path = tmp_path / f"{name}.toml"
    path.write_bytes(resources.files("cia_adapt").joinpath("methods", f"{name}.toml").read_bytes())
    assert library.load("uh", str(path), {"lr": 0.5}) == library.load("uh", name, {"lr": 0.5})


def test_a_method_and_a_set_up_are_called_as_their_files(tmp_path):
    (tmp_path / "mine.toml").write_text('pooling = "sc"\n[sc]\nscales = 1\n[setup]\nlr = 0.25\n')
    (tmp_path / "small.toml").write_text("epochs = 7\nlr = 0.5\n")
    chosen = library.load(str(tmp_path / "small.toml"), str(tmp_path / "mine.toml"), {})
    assert (chosen.setup.name, chosen.setup.epochs, chosen.setup.lr) == ("small", 7, 0.25)
    assert chosen.method.name == "mine" and chosen.for_pair("", "").options["sc"]["scales"] == 1
    assert library.load(str(tmp_path / "small.toml"), "concat", {}).setup == replace(chosen.setup, lr=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pooling = 3", "m.toml: pooling = 3"),
        ("poolin = 'sc'", "m.toml: poolin = sc: unknown"),
        ("[ssc]\nscales = 2", "m.toml: [ssc]: no such part; did you mean sc?"),
        ("sc = 2", "m.toml: sc: write a table"),
        ("setup = 2", "m.toml: setup: write a table"),
        ("pairs = 2", "m.toml: pairs: write a table"),
        ("options = 2", "m.toml: options: write a table"),
        ("[options]\nsc = 2", "m.toml: [options]: no such part"),
        ("[pairs]\na-b = 2", "m.toml: [pairs.a-b]: write lines"),
        ("[pairs.a-b]\nsc = 2", "m.toml: [pairs.a-b]: write lines"),
        ("[pairs.a-b]\n'tsn.x' = 2", "m.toml: tsn.x=2"),
        ("pooling = 'sc'\n[sc]\nscale = 2", "m.toml: sc.scale=2: unknown"),
        ("pooling = 'sc'\n[sc]\nscales = 'two'", "m.toml: sc.scales=two: give a whole number"),
        ("[setup]\nlr = 'fast'", "m.toml: [setup]: lr = fast: give a number"),
        ("[setup]\nlrr = 1", "m.toml: [setup]: lrr = 1: unknown"),
        ("[published]\nx = 'y'", "m.toml: published"),
        ("name = 'x", "m.toml: is no TOML"),
        ("x = " + "[" * 1900, "m.toml: is no TOML"),
        ("x = " + "[" * 5000, "m.toml: has a line of more than 2000 characters"),
        (".".join("a" * 3000) + " = 1", "m.toml: has a line of more than 2000 characters"),
        ("paper = 'a.b'\na.b.c.d.e.f.g.h.i = 1", "m.toml: a.b.c.d.e.f.g.h.i: has more than 8 parts with dots between"),
        ("[a.'b'.c . d.e.f.g.h.\"i\"]", "m.toml: a._.c . d.e.f.g.h._: has more than 8 parts with dots between"),
        ("#" + "x" * 256_000, "m.toml: is larger than 256 kB"),
        ('paper = """\n' + '\\"""\n' * 50_000, "m.toml: is no TOML"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, text, message):
    path = tmp_path / "m.toml"
    path.write_text(text)
    with pytest.raises(CiaError, match=re.escape(message)) as error:
        library.load("uh", str(path), {})
    assert "\n" not in str(error.value) and "--set" not in str(error.value)


def test_dots_in_texts_and_comments_are_no_keys(tmp_path):
    prose = "one. two. three. four. five. six. seven. eight. nine. ten"
    (tmp_path / "m.toml").write_text(f'paper = \'{prose} # {prose}\'  # {prose}\nreconstructed = """\n{prose}\n"""\n')
    assert library.load("uh", str(tmp_path / "m.toml"), {}).method.paper == f"{prose} # {prose}"


def test_a_file_that_is_no_text_or_not_there(tmp_path):
    (tmp_path / "m.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CiaError, match=r"m\.toml"):
        library.load(str(tmp_path / "m.toml"), "cia", {})
    with pytest.raises(CiaError, match=r"--setup none\.toml: no such file"):
        library.load("none.toml", "cia", {})


def test_a_set_up_s_settings_of_parts_stand_below_the_method_s_and_above_the_parts_own(tmp_path):
    (tmp_path / "small.toml").write_text("epochs = 7\n[sc]\nembedding = 32\nscales = 2\n[mmtm]\nratio = 8\n")
    small = str(tmp_path / "small.toml")

    def sc_of(method, flags=None, sets=()):
        options = library.load(small, method, flags or {}, sets).for_pair("a", "b").options
        return [options["sc"][name] for name in ("embedding", "scales", "temperature")]

    assert sc_of("cia") == [32, 2, 0.1]
    assert sc_of("sc-identity") == [0, 2, 0.1] and sc_of("sc-3") == [32, 3, 0.1]
    assert sc_of("cia", sets=["sc.embedding=16"]) == [16, 2, 0.1]
    assert sc_of("concat", {"pooling": "sc"}) == [32, 2, 0.1]
    assert "sc" not in library.load(small, "concat", {}).for_pair("a", "b").options  # nor mmtm, which it does not use
    assert library.load(small, "mmtm-fl", {}).for_pair("a", "b").options["mmtm"]["ratio"] == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sc]\nscale = 2", "s.toml: sc.scale=2: unknown"),
        ("[mmtm]\nratio = 'x'", "s.toml: mmtm.ratio=x: give a whole number"),
        ("[ssc]\nscales = 2", "s.toml: [ssc]: no such part; did you mean sc?"),
        ("[pairs.a-b]\n'sc.scales' = 2", "s.toml: [pairs]: no such part"),
        ("sc = 2", "s.toml: sc: write a table"),
    ],
)
def test_a_bad_table_of_a_set_up_is_one_line_that_names_it(tmp_path, text, message):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(CiaError, match=re.escape(message)) as error:
        library.load(str(tmp_path / "s.toml"), "cia", {})
    assert "\n" not in str(error.value) and "--set" not in str(error.value)
