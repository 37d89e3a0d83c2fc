import dataclasses
import re
from importlib import resources

import pytest
from cia_adapt import parts
from cia_adapt.config import library, overview, schema
from cia_adapt.results import statistics, table
from cia_extract.common import settings
from cia_extract.common.errors import UsageError


@pytest.mark.parametrize("name", library.names("methods"))
def test_every_method_file_loads_and_opens_with_its_cell(name):
    chosen = library.load("uh", name, {})
    assert chosen.method.name == name and chosen.method.paper and chosen.method.reconstructed
    first = resources.files("cia_adapt").joinpath("methods", f"{name}.toml").read_text().splitlines()[0]
    assert re.match(r"# (Table \d|Figure \d|Not in the paper's tables)", first) and f"--method {name}" in first
    assert [f"{value:.2f}" for value in chosen.method.published.values()] == re.findall(r"\d\d\.\d\d", first)
    assert name.removesuffix("-ts").endswith("-fl") == ("feature-level" in chosen.method.reconstructed) or name.endswith(
        "-fl-source-only"
    )


@pytest.mark.parametrize("name", library.names("setups"))
def test_every_setup_file_loads(name):
    setup = library.load(name, "cia", {}).setup
    by_itself = {"e100-tbn-trn": (5, "sgd", 3e-3), "e100-tbn-source": (6, "sgd", 1e-2)}
    on_epic = (16 if name.endswith("i3d") else 5, "adam", 1e-4 if name.startswith("e") or name.endswith("i3d") else 3e-3)
    assert (setup.segments, setup.optimiser, setup.lr) == by_itself.get(name, on_epic)
    assert (setup.input == "clips") == name.endswith(("-i3d", "-source"))


def test_published_numbers_are_the_papers(shared):
    """Tables 2 and 3 and figure 1 as `evaluation.md` prints them, and what others published as `methods-after.md` does, or with
    more decimals `published.toml`, which is compared with it.
    """
    text = " ".join(" ".join((shared.parent / f"{name}.md").read_text().split()) for name in ("evaluation", "methods-after"))
    text += " ".join(f"{row.to_hmdb:.2f}/{row.to_ucf:.2f}" for row in overview.published()[0])
    found = 0
    rows = {name for number in ("2", "3") for _, _, name in table.definition(number)["rows"]} | {"ta3n", "ta3n-cia"}
    for name in library.names("methods"):
        published = library.load("uh", name, {}).method.published
        printed = ["/".join(format(value, kind) for value in published.values()) for kind in (".2f", "g")]
        assert any(numbers in text for numbers in printed), name
        found += len(published) * (name in rows)
    assert found == 15 * 2 + 8 * 3 + 2


@pytest.mark.parametrize("number", ["2", "3"])
def test_every_row_of_the_papers_tables_is_a_method(number):
    rows = table.definition(number)["rows"]
    assert len(rows) == {"2": 8, "3": 15}[number]
    for _, label, name in rows:
        method = library.load("uh", name, {}).method
        assert method.paper.startswith(f"Table {number}") and method.published
        assert label.split()[0] in method.paper


def test_supplements_numbers_are_the_defaults():
    method = library.load("uh", "cia", {}).for_pair("ucf", "hmdb")
    assert (method.lambda_class, method.options["adversarial"]["video"], method.options["adversarial"]["frame"]) == (
        1.0,
        1.0,
        0.5,
    )
    assert (method.options["sc"]["scales"], method.options["mc"]["ratio"]) == (3, 16)
    trn = library.load("e100", "cia-trn", {}).setup
    assert (trn.optimiser, trn.lr) == ("sgd", 3e-3)


def test_uh_is_the_supplement_s_set_up_but_for_the_start_of_the_shared_layer_and_the_warm_up():
    ours, paper = (library.load(name, "cia", {}).setup for name in ("uh", "uh-paper"))
    assert (ours.initialise, ours.warm_up, paper.initialise, paper.warm_up) == ("data", 0.1, "random", 0.0)
    assert dataclasses.replace(ours, name="uh-paper", initialise="random", warm_up=0.0) == paper
    assert (paper.optimiser, paper.lr, paper.segments, paper.normalise, paper.reversal) == ("adam", 3e-3, 5, False, 1.0)


def test_tbn_is_fine_tuned_by_the_numbers_of_its_public_code():
    """The command of "Training on EPIC-KITCHENS-100" in https://github.com/ekazakos/temporal-binding-network, and its opts.py."""
    tbn = library.load("e100-tbn-source", "source-only", {}).setup
    assert (tbn.segments, tbn.epochs, tbn.batch, tbn.lr, tbn.weight_decay) == (6, 80, 64, 1e-2, 5e-4)
    assert (tbn.dropout, tbn.clip_norm, tbn.batch_norm, tbn.jitter, tbn.flip) == (0.5, 20.0, "frozen", True, True)


def test_ta3n_has_the_published_setting_of_each_direction():
    small = [library.load("uh", m, {}).for_pair("hmdb-small", "ucf-small") for m in ("ta3n", "ta3n-cia")]
    assert all((m.options["ta3n"]["strength"], m.options["attentive_entropy"]["weight"]) == (1.0, 0.3) for m in small)
    chosen = library.load("uh", "ta3n", {})
    there, back = chosen.for_pair("ucf", "hmdb").options, chosen.for_pair("hmdb", "ucf").options
    assert (there["ta3n"]["strength"], there["attentive_entropy"]["weight"]) == (0.75, 0.003)
    assert (back["ta3n"]["strength"], back["attentive_entropy"]["weight"]) == (1.0, 0.3)
    assert (chosen.setup.optimiser, chosen.setup.lr) == ("sgd", 0.03)
    forced = library.load("uh", "ta3n", {"lr": 0.01}, ["ta3n.strength=0.5"])
    assert forced.setup.lr == 0.01 and forced.for_pair("hmdb", "ucf").options["ta3n"]["strength"] == 0.5


def test_trns_optimiser_comes_with_trn_however_it_is_chosen():
    for method, flags in (("trn", {}), ("cia-trn", {}), ("concat", {"temporal": "trn"})):
        setup = library.load("uh", method, flags).setup
        assert (setup.optimiser, setup.lr) == ("sgd", 3e-3)
    assert library.load("uh", "concat", {"temporal": "trn", "lr": 0.5}).setup.lr == 0.5
    assert (library.load("uh", "ta3n", {}).setup.lr, library.load("uh", "concat", {}).setup.optimiser) == (3e-2, "adam")


def test_a_setups_reversal_leaves_what_the_command_line_sets():
    weakened = library.load("uh", "ta3n", {"reversal": 0.5}).for_pair("a", "b").options
    assert weakened["adversarial"]["video"] == 0.375 and weakened["ta3n"]["strength"] == 0.375
    assert weakened["attentive_entropy"] == library.load("uh", "ta3n", {}).for_pair("a", "b").options["attentive_entropy"]
    kept = library.load("uh", "ta3n", {"reversal": 0.5}, ["adversarial.video=0.75"]).for_pair("a", "b").options
    assert kept["adversarial"]["video"] == 0.75 and kept["adversarial"]["frame"] == 0.25
    with pytest.raises(UsageError, match="--reversal -1"):
        library.load("uh", "cia", {"reversal": -1.0})


def test_settings_of_parts_are_checked():
    load = lambda *sets: library.load("uh", "cia", {}, sets)  # noqa: E731
    assert load("sc.scales=2", "mc.mode=inject_vec").for_pair("", "").options["sc"]["scales"] == 2
    assert load("sc.learn_temperature=true").for_pair("", "").options["sc"]["learn_temperature"] is True
    for entry, message in (
        ("sc.scales", "write part.option=value"),
        ("sc.depth=2", "--set sc.depth=2: unknown, choose from scales, embedding"),
        ("sc.embedding=two", "--set sc.embedding=two: give a whole number of at least 0 and below 1e+09"),
        ("sc.scales=two", "--set sc.scales=two: give a whole number from 1 to 7"),
        ("sc.temperature=-1", "--set sc.temperature=-1: give a number above 0 and below 1e+09"),
        ("mc.mode=swap", "--set mc.mode=swap: unknown, choose from recalibrate"),
        ("mmtm.ratio=4", "this method has no part mmtm, it has adversarial, mc, sc, tsn"),
        ("sc.learn_temperature=perhaps", "say true or false"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            load(entry)
    with pytest.raises(
        UsageError, match=r"this method has no part mc, it has adversarial, avg, tsn$"
    ):  # `none` is no part to set
        library.load("uh", "concat", {}, ["mc.ratio=4"])


def test_flags_override_and_are_checked():
    assert library.load("uh", "cia", {"lr": 1e-4}).setup.lr == 1e-4
    assert library.load("uh", "cia", {"objectives": "none"}).method.objectives == ()
    assert library.load("uh", "cia", {"objectives": "adversarial, attentive_entropy"}).method.objectives == (
        "adversarial",
        "attentive_entropy",
    )
    for overrides, message in (
        ({"pooling": "median"}, "median: no such part in poolings, choose from att, att_flow, avg"),
        ({"objectives": "magic"}, "magic: no such part in objectives"),
        ({"head": "many"}, "--head many: unknown, choose from concat"),
        ({"epochs": 0}, "--epochs 0: give a whole number from 1 to 100000"),
    ):
        with pytest.raises(UsageError, match=message):
            library.load("uh", "cia", overrides)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("heda", "sum", "heda = sum: unknown; did you mean head?"),
        ("head", "summ", "head = summ: unknown, choose from concat, average, sum, blend; did you mean sum?"),
        ("lambda_class", "1", "lambda_class = 1: give a number from 0 to 1e+06"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_the_file(key, value, message):
    with pytest.raises(UsageError) as error:
        library._checked(schema.Method, "methods/mine.toml", {"name": "mine", key: value}, {"lr": 1.0})
    assert re.fullmatch(message.replace("?", r"\?").replace("+", r"\+"), str(error.value).removeprefix("methods/mine.toml: "))


def test_every_field_has_a_text_but_those_that_are_no_flags():
    for cls, no_flags in (
        (schema.Setup, {"name"}),
        (schema.Method, {"name", "paper", "published", "reconstructed", "searched", "options"}),
    ):
        assert set(cls.__dataclass_fields__) - set(settings.docs(cls)) == no_flags


def test_a_part_is_a_file():
    """Names come from the folders; each has Options with a text under every field, and build."""
    for kind in parts.KINDS:
        for name in parts.names(kind):
            module = parts.find(kind, name)
            assert callable(module.build) and module.__doc__
            assert set(settings.docs(module.Options)) == set(module.Options.__dataclass_fields__), f"{kind}/{name}"


def test_needs_follow_from_the_parts():
    needs = {name: library.load("uh", name, {}).method for name in library.names("methods")}
    assert {n for n, m in needs.items() if not m.needs_maps} >= {"source-only", "concat", "mc", "mmtm-fl", "ta3n", "stcda-fl"}
    assert {n for n, m in needs.items() if m.needs_maps} >= {"cia", "sc-1", "att", "tada", "max", "ta3n-cia"}
    # G-Blend's weights come from the source; the -source-only rows of Kim et al. and STCDA keep the part of their loss that does.
    of_source = {"gradient_blend", "cross_modal", "spatio_temporal"}
    assert {n for n, m in needs.items() if not m.needs_target} == {
        *(n for n in needs if n.endswith("source-only")),
        *(n for n, m in needs.items() if not m.objectives),
    }
    assert all(set(m.objectives) <= of_source for m in needs.values() if not m.needs_target)


def test_mean_and_sd():
    assert statistics.mean_sd([50.0]) == "50.0"
    assert statistics.mean_sd([80.0, 82.0, 84.0]) == "82.0 ± 2.0"


def test_the_authors_own_numbers_are_whole_clips():
    """Multiples of 1/360 (U→H) and 1/571 (H→U), so of single runs; quoted ones are not (`docs/reconstruction.md`)."""
    for name in (
        "source-only",
        "concat",
        "cia",
        "cia-average",
        "cia-source-only",
        "cia-average-source-only",
        "mmtm-fl",
        "gblend-fl",
    ):
        published = library.load("uh", name, {}).method.published
        for direction, clips in (("U→H", 360), ("H→U", 571)):
            right = round(published[direction] / 100 * clips)
            assert round(100 * right / clips, 2) == published[direction], (name, direction)
