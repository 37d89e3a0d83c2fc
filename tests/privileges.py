"""Root may read and write everything. Tests of what a user may not do run where they are bound by permissions, as users are."""

import ctypes
import os
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Final

import pytest

VERSION_3: Final = 0x20080522  # of the kernel's header; then two words of (effective, permitted, inheritable): capget(2)
OF_FILES: Final = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


def bound_by_permissions(check: Callable[[], object]) -> None:
    """Run `check` with an ordinary user's rights: as root, in a fork that has given up its own. Its failure fails the test."""
    if os.geteuid():
        check()
        return
    if sys.platform != "linux":
        pytest.skip("root's rights can be given up on Linux only")
    pid = os.fork()
    if not pid:
        try:
            _give_up()
            check()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _give_up() -> None:
    libc, header, data = ctypes.CDLL(None), struct.pack("Ii", VERSION_3, 0), ctypes.create_string_buffer(24)
    assert libc.capget(header, data) == 0
    effective, permitted, *rest = struct.unpack("6I", data.raw)
    assert libc.capset(header, struct.pack("6I", effective & ~OF_FILES, permitted & ~OF_FILES, *rest)) == 0
