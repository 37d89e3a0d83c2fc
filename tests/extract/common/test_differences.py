"""Differences between two files, of which one may be damaged or somebody else's: one printable line that ends."""

from cia_extract.common import differences


def test_a_message_of_differences_is_short_and_printable():
    old = {f"field{i:03d}": i for i in range(100)} | {
        "a\x1b[2J": "x" * 10_000,
        "b": "\n",
        "c": [["y"] * 10_000],
        "d": {"name": "z\n"},
    }
    line = differences.listed(differences.between(old, {}))
    assert line.isprintable() and len(line) < 40 * 100 + 3 * 210
    assert line.endswith("and 64 more") and "a\\x1b[2J: xxx" in line and "b: \\n → None" in line and "d: z\\n → None" in line


def test_a_name_that_only_looks_the_same_is_told_apart():
    """A byte order mark ahead of a name is invisible."""
    assert (
        differences.listed(differences.between({"\ufefflayout": 1}, {"layout": 1}))
        == "layout: None → 1; '\\ufefflayout': 1 → None"
    )
