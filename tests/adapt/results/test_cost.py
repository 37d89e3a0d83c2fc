"""`cia-adapt cost` against counts by the layers' formulas, and the published sums that they explain."""

import json

import pytest
from cia_adapt import cli, config
from cia_adapt.results import cost
from cia_extract.networks import GMACS

from tests.command_line import in_this_process

C, D, CELLS, SCALES, E, K = 1024, 512, 49, 3, 512, 12


def counted(method: str, *sets: str, modalities=("rgb", "flow"), classes=(K,), segments=1) -> cost.Cost:
    chosen = config.load("uh", method, {}, sets)
    return cost.of_method(chosen.for_pair("", ""), modalities, classes, segments, chosen.setup.shared_features)


def row(rows, name: str) -> cost.Row:
    (match,) = [one for one in rows if one.module.startswith(name)]
    return match


@pytest.mark.parametrize("segments", [1, 5])
def test_every_module_of_cia_is_what_its_layers_formulas_say(segments):
    """Layers: inputs × outputs at each place. Products: ⟨u(i), v(j)⟩ within and between the modalities, norms, boxes, pooling."""
    gates = 2 * (2 * C * 128 + 128 * C)
    products = 3 * CELLS**2 * E + 3 * CELLS**2 + 3 * CELLS**2 * SCALES * CELLS
    by_module = {
        "refinement": segments * (gates + 2 * CELLS * C),  # the squeeze is a product too
        "pooling": segments * (2 * CELLS * C * E + products + 2 * CELLS * C),
        "shared": segments * 2 * C * D,
        "temporal": 0,
        "classifiers": D * K,
    }
    parameters = {
        "refinement": gates + 2 * (128 + C),
        "pooling": 2 * (C * E + E),
        "shared": 2 * C * D + D,
        "temporal": 0,
        "classifiers": D * K + K,
    }
    mine = counted("cia", segments=segments)
    assert {name: row(mine.head, name).macs for name in by_module} == by_module
    assert {name: row(mine.head, name).parameters for name in parameters} == parameters
    assert row(mine.training, "objective (adversarial)").parameters == 2 * (D * 100 + 100 + 100 * 2 + 2)
    assert mine.without_backbone == cost.Row("total without backbone", sum(parameters.values()), sum(by_module.values()))


def test_the_backbone_is_that_of_table_1():
    """24,552,576 parameters; 53.372 G of convolutions and 2 a value of 2 × 22,264,032 normalised ones: the published 53.46."""
    rows = cost.backbone(("rgb", "flow"), 1)
    assert sum(one.parameters for one in rows) == 24_552_576
    assert [round(one.macs / 1e9, 3) for one in rows[:2]] == list(GMACS["i3d"].values())
    assert rows[2].macs == 2 * 2 * 22_264_032
    assert round(sum(one.macs for one in rows) / 1e9, 2) == 53.46
    assert [one.macs for one in cost.backbone(("rgb", "flow"), 5)] == [5 * one.macs for one in rows]
    assert round(cost.backbone(("audio",), 1)[0].macs / 1e9, 2) == GMACS["tbn"]["audio"]


def test_what_cia_adds_is_near_the_published_difference_and_not_claimed_to_be_it():
    plain, cia = counted("concat"), counted("cia")
    sums = [(one.with_backbone.parameters, one.with_backbone.macs) for one in (plain, cia)]
    parameters, macs = (after - before for before, after in zip(*sums, strict=True))
    assert parameters == 788_736 + 1_049_600  # the published difference is 2.07 M
    assert 42.5e6 < macs < 60e6  # 0.05 G, rounded; with the products that ptflops does not count
    assert (plain.published, cia.published) == ((25.57, 53.46), (27.64, 53.51))
    assert counted("cia", segments=5).published is None


def test_two_labels_relations_and_sound():
    verbs_nouns = counted("cia", classes=(97, 300))
    assert row(verbs_nouns.head, "classifiers").parameters == (D + 1) * 397
    ta3n = counted("ta3n", segments=5)
    pairs = sum(min(3, n) * size for n, size in ((1, 5), (5, 4), (10, 3), (10, 2)))  # of S = 5 frames, at most 3 tuples a scale
    discriminators = 4 * (256 * 256 + 256 * 2)
    assert row(ta3n.head, "temporal").macs == pairs * D * 256 + discriminators
    sound = counted("concat", modalities=("rgb", "flow", "audio"))
    assert row(sound.head, "shared").parameters == 3 * C * D + D and sound.published is None


def test_the_command_prints_the_paper_beside_and_the_rule():
    run = in_this_process(cli.main, "cost", "--method", "cia", "--method", "trn", "--set", "sc.embedding=256")
    assert run.returncode == 0, run.stderr
    assert "published (table 1)" in run.stdout and "27.64" in run.stdout and "53.51" in run.stdout
    assert "trn, a clip of 5 windows of 16 × 224²" in run.stdout and "note: a MAC is one product" in run.stdout
    run = in_this_process(cli.main, "cost", "--method", "cia", "--classes", "97,300", "--json")
    (one,) = json.loads(run.stdout)["methods"]
    assert one["published"] == {"parameters_m": 27.64, "gmac": 53.51}
    assert one["with_backbone"]["parameters"] == 24_552_576 + one["without_backbone"]["parameters"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "magic"], "--method magic: unknown"),
        (["--classes", "12,x"], "--classes 12,x: write whole numbers with commas between, such as 12 or 97,300"),
        (["--modality", "smell"], "--modality smell: unknown, choose from rgb, flow, audio"),
        (["--modality", "rgb", "--method", "cia"], "MC exchanges between modalities and needs two"),
        (["--method", "trn", "--segments", "1"], "--temporal trn: relates frames to each other and needs --segments 2"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    run = in_this_process(cli.main, "cost", *arguments)
    assert run.returncode == 2 and message in run.stderr and run.stderr.count("\n") == 1, run.stderr
