"""Advice while a run trains, and the metrics that it is read from."""

import math
import re

import numpy as np
import pytest
import torch
from cia_adapt import config
from cia_adapt.training import health

from tests.adapt.runs_of import run, trainer_of

WELL = {"target_top_class_share": 0.4, "video_domain_loss": 0.69, "video_domain_accuracy": 55.0, "domain_to_task_gradient": 1.0}
WELL["video_reversal"] = 0.1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, ""),
        ({"target_top_class_share": 0.95}, "collapse.*lower λ .--reversal 0.03. or --lr"),
        ({"video_domain_loss": 12.0}, "run away from the video.*lower λ .--reversal 0.03. or --lr"),
        ({"relation_domain_loss": 12.0, "relation_domain_accuracy": 50.0}, "run away from the relation"),
        ({"video_domain_accuracy": 99.5}, "wins.*raise λ .--reversal 0.3. or train longer"),
        (
            {"source_effective_cells": 20.0, "target_effective_cells": 1.4},
            "sits on 1.4 cells of the target.*try a higher --set sc.temperature",
        ),
        ({"domain_to_task_gradient": 300.0}, "outweigh.*lower λ .--reversal 0.03. or raise --lambda-class"),
    ],
)
def test_advice_is_one_sentence_and_only_when_something_is_wrong(change, word):
    advice = health.advice([WELL | change], classes=5, progress=0.5, reversal=0.1)
    line = str(advice) if advice else ""
    assert re.search(word, line) and bool(line) == bool(word) and "\n" not in line
    assert advice is None or health.Advice.read(line) == advice
    assert health.advice([WELL | change], classes=5, progress=0.1) is None


def history_of(kind: str, method: config.Method) -> list[dict[str, float]]:
    """Metrics of a run of this method in which something is wrong; empty where that cannot be with its parts."""
    sees = {"adversarial": "video", "conditional_adversarial": "conditional"}
    level = next((sees[name] for name in method.objectives if name in sees), None)
    if kind == "narrow map":
        return [{"source_effective_cells": 2.8}] if method.pooling == "sc" else []
    if kind == "collapse":
        return [{"target_top_class_share": 0.95}]
    if kind == "outweighed":
        return [{"domain_to_task_gradient": 300.0}] if method.objectives else []
    loss, accuracies = {"running away": (9.0, [50]), "not aligned": (0.1, [99]), "swinging": (0.7, [90, 10, 90, 10, 90])}[kind]
    of_level = [{f"{level}_domain_loss": loss, f"{level}_domain_accuracy": accuracy} for accuracy in accuracies]
    return [{**metrics, f"{level}_reversal": 0.1} for metrics in of_level] if level else []


@pytest.mark.parametrize("kind", ["collapse", "running away", "not aligned", "outweighed", "narrow map", "swinging"])
def test_what_is_proposed_is_a_setting_that_the_method_has_and_that_is_not_set_yet(kind):
    met = set()
    for name in config.names("methods"):
        method = config.load("uh", name, {}).for_pair("ucf", "hmdb")
        if not (history := history_of(kind, method)):
            continue
        advice = health.advice(history, 5, 0.5, options=method.options)
        assert advice.kind == kind
        met.add(name)
        proposals = re.findall(r"--set (\w+\.\w+=[^\s,]+)", advice.sentence)
        for proposal in proposals:
            changed = config.load("uh", name, {}, [proposal]).for_pair("ucf", "hmdb")
            assert changed != method, (name, proposal)
            again = health.advice(history, 5, 0.5, options=changed.options)
            assert proposal not in again.sentence, (name, proposal)
        for reversal in re.findall(r"--reversal ([\d.]+)", advice.sentence):
            config.load("uh", name, {"reversal": float(reversal)})
        assert proposals or re.search("lower|raise", advice.sentence), (name, advice.sentence)
    assert {"cia", "cia-cdan"} <= met and (("cia-dan" in met) == (kind in ("collapse", "outweighed", "narrow map")))


@pytest.mark.parametrize(
    ("kind", "method", "proposed"),
    [
        ("narrow map", "cia", ["sc.centre=true", "sc.standardise=1"]),
        ("narrow map", "sc-identity", ["sc.centre=true", "adversarial.reaches=shared", "sc.standardise=1"]),
        ("narrow map", "cia-cdan", ["sc.centre=true", "sc.standardise=1"]),
        ("narrow map", "cia-source-only", ["sc.centre=true", "sc.standardise=1"]),
        ("swinging", "concat", ["adversarial.lr=0.3", "adversarial.penalty=1", "adversarial.reaches=shared"]),
        ("swinging", "cia", ["adversarial.lr=0.3", "adversarial.penalty=1"]),
        ("swinging", "cdan", ["conditional_adversarial.reaches=shared"]),
        ("swinging", "cia-cdan", []),
        ("running away", "cia", ["adversarial.ramp=10"]),
        ("running away", "dann", []),
        ("running away", "cdan", []),
    ],
)
def test_what_is_proposed_to_some_methods(kind, method, proposed):
    method = config.load("uh", method, {}).for_pair("ucf", "hmdb")
    sentence = health.advice(history_of(kind, method), 5, 0.5, options=method.options).sentence
    assert re.findall(r"--set (\w+\.\w+=[^\s,]+)", sentence) == proposed
    assert proposed or "lower λ (--reversal 0.3)" in sentence


@pytest.mark.parametrize(("cells", "narrow"), [(2.8, True), (4.2, False)])
def test_a_map_as_that_of_the_run_that_collapsed_is_narrow(cells, narrow):
    """Cells after the second epoch of the seed that collapsed, and the fewest of the other seeds (benchmarks/STUDY.md)."""
    assert (health.advice([WELL | {"target_effective_cells": cells}], 5, 0.5) is not None) == narrow


def test_a_standardised_map_that_is_narrow_wants_a_lower_spread():
    options = config.load("uh", "cia", {}, ["sc.standardise=3", "sc.centre=true"]).for_pair("ucf", "hmdb").options
    advice = health.advice([WELL | {"target_effective_cells": 2.0}], 5, 0.5, options=options)
    assert advice.sentence.endswith("cells of the target's frames; try a lower --set sc.standardise")


def test_a_run_is_told_what_its_method_has_not_set(small_file, monkeypatch):
    monkeypatch.setattr(health, "NARROW", 50.0)
    _, outcome = run(small_file, "cia")
    advice = outcome.history[-1]["advice"]
    assert "narrow map" in advice and "--set sc.centre=true" in advice and "reaches" not in advice


@pytest.mark.parametrize(
    ("accuracies", "swings"), [([90, 15, 95, 50, 60], True), ([60, 55, 50, 58, 65], False), ([95, 20, 95], False)]
)
def test_a_discriminator_that_swings_is_named_when_it_has_been_seen_for_long_enough(accuracies, swings):
    history = [WELL | {"video_domain_accuracy": float(a)} for a in accuracies]
    advice = health.advice(history, classes=5, progress=0.5)
    assert (advice is not None and advice.kind == "swinging") == swings
    assert not swings or "swung between 15 and 95 %" in advice.sentence


def test_advice_names_no_lambda_where_nothing_is_reversed():
    assert str(health.advice([{"target_top_class_share": 0.95}], 5, 0.5)).endswith("one class; try a lower --lr")


@pytest.mark.parametrize(("method", "level", "strength"), [("ta3n", "relation", 0.75), ("tada", "region", 1.0)])
def test_the_reversal_inside_a_part_is_recorded_and_grows(small_file, method, level, strength):
    trainer, outcome = run(small_file, method, sets=["adversarial.ramp=10"], reversal=0.5, epochs=3)
    grown = [2 / (1 + math.exp(-10 * step / trainer.steps_total)) - 1 for step in range(trainer.steps_total)]
    by_epoch = np.array(grown).reshape(3, -1).mean(1)
    assert [m[f"{level}_reversal"] for m in outcome.history] == pytest.approx((0.5 * strength * by_epoch).tolist(), abs=1e-5)


def test_gradient_norms_are_those_at_the_features():
    features = {"a": torch.tensor([[1.0, 2.0]], requires_grad=True)}
    task, domain = (features["a"] * 3).sum(), (features["a"] * torch.tensor([[0.0, 4.0]])).sum()
    found = health.gradient_ratio(task, [domain], features)
    assert found["task_gradient"] == pytest.approx(18**0.5) and found["domain_gradient"] == pytest.approx(4)
    assert found["domain_to_task_gradient"] == pytest.approx(4 / 18**0.5)
    assert health.gradient_ratio(task, [], features) == {}
    elsewhere = {"b": torch.tensor([1.0], requires_grad=True)}
    assert health.gradient_ratio(task, [domain], elsewhere, features) == found


@pytest.mark.parametrize("method", ["rna", "pseudo-label", "co2a-fl", "mcc", "cia"])
def test_gradient_norms_of_a_loss_on_norms_and_on_a_second_view_are_seen(small_file, method):
    sets = ("pseudo_label.threshold=0",) if method == "pseudo-label" else ()  # nothing is certain at the first step
    trainer, _ = trainer_of(small_file, method, sets=sets)
    metrics = trainer.epoch()
    assert metrics["domain_gradient"] > 0 and metrics["task_gradient"] > 0
    assert metrics["domain_to_task_gradient"] == pytest.approx(metrics["domain_gradient"] / metrics["task_gradient"])


def test_health_of_predictions():
    found = health.predictions(torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.1, 0.9, 0.0]]))
    assert found["target_top_class_share"] == pytest.approx(2 / 3) and found["target_classes_predicted"] == 2
