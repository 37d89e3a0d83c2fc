"""The folder of a run: its key, its lock, its files, its state, and how training continues from it."""

from cia_adapt.runs import files, lock, resume, writing
from cia_adapt.runs.correlations import rank_correlation, validator_correlations
from cia_adapt.runs.folder import Result, unfinished_folder
from cia_adapt.runs.key import RunKey, check_alike, compare, completed, finished

__all__ = [
    "Result",
    "RunKey",
    "check_alike",
    "compare",
    "completed",
    "files",
    "finished",
    "lock",
    "rank_correlation",
    "resume",
    "unfinished_folder",
    "validator_correlations",
    "writing",
]
