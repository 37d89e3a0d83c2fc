"""The kinds of errors and their exit codes, the same for both commands.

Exit codes: 0 done, 1 unexpected, 2 usage, 3 data, 4 exists or does not match, 5 invalid
submission, 6 diverged, 130 interrupted: by Ctrl-C, SIGTERM or SIGHUP.
"""


class CiaError(Exception):
    """An error the user can mend. The message says what, where and how to fix it; it is printed as one line."""

    exit_code = 1


class UsageError(CiaError):
    """A wrong flag, path or combination of flags; a disk that is full or cannot be written."""

    exit_code = 2


class DataError(CiaError):
    """A clip, manifest or feature file that cannot be used as it is."""

    exit_code = 3


class MismatchError(CiaError):
    """The output exists already and was made with other settings."""

    exit_code = 4


class InWorkError(MismatchError):
    """Another process is making the output right now."""


class SubmissionError(CiaError):
    """A challenge submission that the challenge would refuse; the message names the ids."""

    exit_code = 5


class DivergedError(CiaError):
    """Training produced a value that is not finite."""

    exit_code = 6
