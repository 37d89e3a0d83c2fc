"""What is asked for and has no effect is said before training starts."""

from dataclasses import replace

import pytest
from cia_adapt.experiments import checks, directions
from cia_extract.common import machine

from tests.adapt.runs.test_resume import request


def notes_of(file, folder, method: str, **changes) -> list[str]:
    asked = request(file, folder, method, **changes)
    (direction,) = directions.prepared(asked, lambda note: None)
    return checks.check(asked, direction)


@pytest.mark.parametrize(
    ("method", "objectives", "option"),
    [
        ("ta3n", "none", "--temporal ta3n"),
        ("tada", "none", "--pooling tada"),
        ("transvae", "disentanglement", "--temporal transvae"),
        ("ta3n", "class_confusion", "--temporal ta3n"),
    ],
)
def test_discriminators_of_a_part_that_nothing_trains_are_noted(small_file, tmp_path, method, objectives, option):
    expected = (
        f"{option}: only the objective adversarial trains its domain discriminators, and this method does not have it, so they "
        "stay as they begin; add adversarial to --objectives"
    )
    assert expected in notes_of(small_file, tmp_path, method, objectives=objectives)
    for name in (method, "concat", "source-only"):
        assert not [note for note in notes_of(small_file, tmp_path, name) if "discriminators" in note]


@pytest.mark.parametrize(
    ("method", "changes", "cause"),
    [
        ("rna", {}, "the classifiers alone are trained, so a loss on features (alignment, norms, contrasts) changes nothing"),
        ("concat", {}, "the classifiers alone are trained, so a loss on features (alignment, norms, contrasts) changes nothing"),
        ("rna", {"temporal": "trn"}, "no layer before the features that relative_norm compares is trained by it, so it changes"),
        ("cia-rna", {}, "no layer before the features that relative_norm compares is trained by it, so it changes nothing"),
        ("rna", {"refinement": "mc"}, None),
        ("source-only", {}, None),
    ],
)
def test_a_loss_on_features_that_nothing_trains_is_noted(small_file, tmp_path, method, changes, cause):
    """MC stands before the features that RNA compares, but `cia-rna` keeps RNA's gradient out of it."""
    found = [n for n in notes_of(small_file, tmp_path, method, shared_features=0, **changes) if "--shared-features 0" in n]
    assert len(found) == (cause is not None) and all(f"--shared-features 0: {cause}" in note for note in found)
    assert not [n for n in notes_of(small_file, tmp_path, method, **changes) if "--shared-features" in n]


def test_a_factor_of_reversed_gradients_is_noted_where_none_is_reversed(small_file, tmp_path):
    """Set-up demo has 0.1 itself, of which nothing is said."""
    expected = "--reversal 0.3: no part of --method mcc reverses a gradient, so it changes nothing"
    assert expected in notes_of(small_file, tmp_path, "mcc", reversal=0.3)
    for method, changes in (("mcc", {}), ("concat", {"reversal": 0.3}), ("ta3n", {"reversal": 0.3, "objectives": "none"})):
        assert not [note for note in notes_of(small_file, tmp_path, method, **changes) if "--reversal" in note]


def test_bf16_on_a_processor_without_it_is_noted(small_file, tmp_path, monkeypatch):
    (direction,) = directions.prepared(request(small_file, tmp_path), lambda note: None)
    for has_it, precision, noted in ((False, "bf16", True), (True, "bf16", False), (False, "fp32", False)):
        monkeypatch.setattr(machine, "multiplies_bf16", lambda has_it=has_it: has_it)
        notes = checks.check(replace(request(small_file, tmp_path), precision=precision), direction)
        assert any("this processor has no instructions for bf16" in note for note in notes) == noted
