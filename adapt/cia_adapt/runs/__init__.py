"""The folder of a run: its key, its lock, its files, its state, and how training continues from it."""

from cia_adapt.runs import board, files, lock, resume, writing
from cia_adapt.runs.correlations import rank_correlation, validator_correlations
from cia_adapt.runs.folder import Result, folder_of, unfinished_folder
from cia_adapt.runs.key import RunKey, check_alike, compare, completed, finished, method_of, setup_of
from cia_adapt.runs.run import Run, load_run
from cia_adapt.runs.saver import Saver

__all__ = [
    "Result",
    "Run",
    "RunKey",
    "Saver",
    "board",
    "check_alike",
    "compare",
    "completed",
    "files",
    "finished",
    "folder_of",
    "load_run",
    "lock",
    "method_of",
    "rank_correlation",
    "resume",
    "setup_of",
    "unfinished_folder",
    "validator_correlations",
    "writing",
]
