"""A mistyped name gets the name that was meant."""

import pytest
from cia_extract.common.suggest import did_you_mean


@pytest.mark.parametrize(
    ("written", "names", "meant"),
    [
        ("cai", ["cia", "concat", "avg"], "cia"),
        ("hu", ["demo", "e100", "e55", "uh"], "uh"),
        ("ufc", ["ucf", "hmdb"], "ucf"),
        ("Ucf", ["ucf", "hmdb"], "ucf"),
        ("source_only", ["source-only", "target-only"], "source-only"),
        ("scale", ["scales", "k"], "scales"),
        ("Source", ["source-only-of-all-methods", "cia"], "source-only-of-all-methods"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_name_that_was_meant(written: str, names: list[str], meant: str) -> None:
    assert did_you_mean(written, names) == f"; did you mean {meant}?"


@pytest.mark.parametrize("written", ["", "x", "resnet50", "\0", "é"])
def test_a_name_like_no_other_gets_no_misleading_advice(written: str) -> None:
    assert did_you_mean(written, ["ucf", "hmdb"]) == ""
    assert did_you_mean(written, []) == ""
