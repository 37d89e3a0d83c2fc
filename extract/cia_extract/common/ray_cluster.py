"""Ray (`--ray`, extra `[ray]`): found, joined and left in one way by both commands."""

import contextlib
import logging
import socket
import sys
from collections.abc import Iterator
from typing import Any

from cia_extract.common import switches
from cia_extract.common.errors import UsageError
from cia_extract.common.outcomes import last_line
from cia_extract.common.processes import handlers_kept


def found(address: str) -> Any:
    """The module ray, if it is installed and a cluster answers at `address`. Raises UsageError; Ray would try for minutes."""
    try:
        import ray
    except ImportError:
        raise UsageError(f"--ray {address}: Ray is not installed here; pip install ray") from None
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if separator and port.isdigit():  # local and auto Ray knows itself
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, OverflowError, UnicodeError) as error:
            raise UsageError(
                f"--ray {address}: no Ray cluster answers there ({error}); start one with: ray start --head"
            ) from error
    return ray


@contextlib.contextmanager
def joined(address: str) -> Iterator[Any]:
    """The module ray, joined to the cluster at `address` as Ray takes it ("auto", …), or to one of this machine ("local").

    What is printed inside goes to standard error: Ray's own messages come at any time, and must not get into the result.
    Raises UsageError.
    """
    ray = found(address)  # it may have gone since it was looked for
    switches.ray_environment()
    with contextlib.redirect_stdout(sys.stderr):
        try:
            with handlers_kept():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(f"--ray {address}: {last_line(error)}; give a running cluster's address, or 'local'") from error
        try:
            yield ray
        finally:
            ray.shutdown()
