"""The domains and classes of the demo, and its version."""

VERSION = 1
"""Raised whenever the same seed would give other clips; a folder holds clips of one version only."""

DOMAINS: tuple[str, ...] = ("studio", "street")

# The position in this tuple is part of every clip's seed: append, never reorder.
CLASSES: tuple[str, ...] = (
    "slam_ball", "snatch_ball",  # one the other played backwards: motion tells
    "climb_up", "climb_down",  # likewise
    "lift_crate", "lift_suitcase",  # one motion, colours of equal brightness: appearance tells
    "chop_wood", "beat_drum",  # likewise
)  # fmt: skip
