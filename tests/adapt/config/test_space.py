"""The space of a search: what a file may say, and a method with values of it."""

import re
from pathlib import Path

import pytest
from cia_adapt.config import library, space
from cia_extract.common.errors import CiaError


def load(folder: Path, text: str, method: str = "cia") -> space.Space:
    (folder / "s.toml").write_text(text)
    return space.load_space(str(folder / "s.toml"), library.load("demo", method, {}))


@pytest.mark.parametrize("method", library.names("methods"))
def test_the_default_space_fits_every_method_and_holds_what_the_method_has(method):
    chosen = library.load("demo", method, {})
    axes = space.load_space("default", chosen)
    used = {part for _, part in chosen.method.used_parts()}
    assert {"setup.lr", "setup.dropout"} <= axes.keys() and {key.split(".")[0] for key in axes} <= {"setup", *used}
    lowest = {key: axis.low for key, axis in axes.items()}
    before, after = chosen.for_pair("", ""), library.load("demo", method, {"reversal": 0.5}).for_pair("", "")
    assert ("setup.reversal" in axes) == (before != after)
    assert space.values_of(space.with_values(library.read("methods", method), lowest), axes) == lowest


@pytest.mark.parametrize(
    ("method", "own"),
    [
        ("cia", {"sc.temperature"}),
        ("cia-mcc", {"sc.temperature", "class_confusion.weight", "class_confusion.temperature"}),
        ("mcc", {"class_confusion.weight", "class_confusion.temperature"}),
        ("im", {"information_maximisation.weight"}),
        ("dan", {"kernel_discrepancy.weight"}),
        ("coral", {"coral.weight"}),
        ("cdan", set()),  # λ is searched by setup.reversal
        ("co2a-fl", {"dual_contrast.temperature"}),
        ("comix-fl", {"temporal_contrast.temperature"}),
    ],
)
def test_the_default_space_has_weights_and_temperatures_of_the_parts_that_a_method_has(method, own):
    axes = space.load_space("default", library.load("demo", method, {}))
    assert {key for key in axes if not key.startswith("setup.")} == own
    assert ("setup.reversal" in axes) == (method in ("cia", "cia-mcc", "cdan"))


@pytest.mark.parametrize(
    ("setup", "methods"), [("uh", library.names("methods")), *((s, ["concat", "trn", "ta3n"]) for s in library.names("setups"))]
)
def test_the_default_space_holds_what_set_ups_and_methods_have_themselves(setup, methods):
    for method in methods:
        chosen = library.load(setup, method, {})
        options = chosen.for_pair("", "").options
        for key, axis in space.load_space("default", chosen).items():
            part, option = key.split(".")
            own = getattr(chosen.setup, option) if part == "setup" else options[part][option]
            assert axis.low < own < axis.high, (method, key, own)


@pytest.mark.parametrize("setup", library.names("setups"))
@pytest.mark.parametrize("method", ["cia", "trn", "ta3n"])  # the last two have rates of their own
def test_the_default_space_holds_a_tenth_to_ten_times_the_set_ups_rate_and_reversal(setup, method):
    chosen = library.load(setup, method, {})
    axes = space.load_space("default", chosen)
    for own, axis in ((chosen.setup.lr, axes["setup.lr"]), (chosen.setup.reversal, axes["setup.reversal"])):
        assert axis.low <= own / 10 * 1.001 and axis.high >= 10 * own / 1.001 and axis.log
    assert axes["setup.dropout"].low + 0.2 < chosen.setup.dropout < axes["setup.dropout"].high - 0.2
    fixed = space.earlier_spaces(chosen)[0]  # as the file says: never narrower, and nothing else differs
    assert {key for key in axes if axes[key] != fixed[key]} <= {"setup.lr", "setup.reversal"} and axes.keys() == fixed.keys()
    assert all(axes[key].low <= fixed[key].low and axes[key].high >= fixed[key].high for key in axes)


@pytest.mark.parametrize(
    ("setup", "lr", "reversal"),
    [("demo", (3e-5, 5e-2), (0.01, 1.0)), ("uh", (3e-5, 5e-2), (0.01, 10.0)), ("e100", (1e-5, 5e-2), (0.01, 10.0))],
)
def test_the_ranges_of_the_default_space(setup, lr, reversal):
    axes = space.load_space("default", library.load(setup, "cia", {}))
    assert axes["setup.lr"] == space.Range(*lr, log=True) and axes["setup.reversal"] == space.Range(*reversal, log=True)


def test_the_default_space_keeps_within_the_limits_of_its_settings():
    axes = space.load_space("default", library.load("demo", "cia", {"lr": 500.0, "reversal": 2e-6}))
    assert axes["setup.lr"].high == 1e3 and axes["setup.reversal"].low == 1e-6


def test_the_earlier_space_is_the_default_without_weights_and_with_narrower_rates():
    axes = space.load_space("earlier", library.load("demo", "cia-mcc", {}))
    assert set(axes) == {"setup.lr", "setup.dropout", "setup.reversal", "sc.temperature", "class_confusion.temperature"}
    assert axes["setup.lr"] == space.Range(1e-4, 1e-2, log=True)


def test_a_setting_decides_whether_numbers_are_whole(tmp_path):
    axes = load(
        tmp_path, "[sc]\nscales = {low = 1, high = 3}\n[setup]\nreversal = {low = 1, high = 3}\nnormalise = [true, false]"
    )
    assert axes["sc.scales"].whole and not axes["setup.reversal"].whole
    assert axes["setup.normalise"] == space.Choice((True, False))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = 3", "lr: write it in a table, [setup] or a part"),
        ("", "names no setting"),
        ("[setup]", "names no setting"),
        ("[setup]\nlrr = [1.0]", "setup.lrr=1.0: unknown; did you mean lr?"),
        ("[setup]\nlr = 3e-3", "setup.lr: write a list of values, or { low"),
        ("[setup]\nlr = []", "setup.lr: list numbers"),
        ("[setup]\nlr = [[1]]", "setup.lr: list numbers"),
        ("[setup]\nlr = [1e-3, 1e-3]", "each once"),
        ("[setup]\nlr = [nan]", "setup.lr: nan is not finite"),
        ("[setup]\nlr = ['fast']", "setup.lr=fast: give a number"),
        ("[setup]\nlr = {low = 1e-3}", "setup.lr: write a list of values, or { low"),
        ("[setup]\nlr = {low = 1e-3, high = 1e-4}", "setup.lr: low must be below high"),
        ("[setup]\nlr = {low = 1e-3, high = 1e4}", "setup.lr=10000.0: give a number from"),
        ("[setup]\nlr = {low = 'x', high = 1e-4}", "setup.lr: low = x: give a number"),
        ("[setup]\nlr = {low = 1e-4, high = 1e-3, step = 2}", "setup.lr: step = 2: unknown, choose from low, high, log"),
        ("[setup]\ndropout = {low = 0.0, high = 0.5, log = true}", "above 0 with log"),
        ("[setup]\noptimiser = {low = 1, high = 2}", "setup.optimiser"),
        ("[setup]\nselect = ['im', 'last']", "setup.select: belongs to the protocol"),
        (
            "[cs]\ntemperature = [0.1]",
            "[cs]: this method has no such part, choose from adversarial, mc, sc, setup, tsn; did you mean sc?",
        ),
        ("[sc]\ntemperatur = [0.1]", "sc.temperatur=0.1: unknown"),
        ("[sc]\nscales = [0.5]", "sc.scales=0.5: give a whole number"),
        ("[setup", "is no TOML"),
        ("[setup]\nlr = " + "[" * 1900, "is no TOML"),
    ],
)
def test_a_bad_space_is_one_line_that_names_file_and_setting(tmp_path, text, message):
    with pytest.raises(CiaError, match=re.escape(message)) as error:
        load(tmp_path, text)
    assert "s.toml: " in str(error.value) and "\n" not in str(error.value)


def test_values_hold_for_every_pair():
    method = space.with_values(library.read("methods", "ta3n"), {"ta3n.strength": 0.2, "setup.lr": 0.1})
    assert method["ta3n"]["strength"] == 0.2 and method["setup"]["lr"] == 0.1
    assert all("ta3n.strength" not in of_pair for of_pair in method["pairs"].values())


@pytest.mark.parametrize("value", [0.2, "0.05", True, None, [0.05]])
def test_a_value_out_of_the_space_is_no_trial(value):
    axes = {"sc.temperature": space.Range(0.03, 0.1)}
    assert space.values_of({"sc": {"temperature": value}}, axes) is None
    assert space.values_of({}, axes) is None
    assert space.values_of({"sc": {"temperature": 0.05}}, axes) == {"sc.temperature": 0.05}
