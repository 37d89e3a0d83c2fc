"""EPIC-KITCHENS-100's domain adaptation challenge: its numbering, its submissions, its table."""

from cia_adapt.results.challenge import official, submission, table
from cia_adapt.results.challenge.checking import LEVELS, check

__all__ = ["LEVELS", "check", "official", "submission", "table"]
