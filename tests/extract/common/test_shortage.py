"""Out of memory is one line with what to lower, in extraction too."""

import errno

import pytest
import torch
from cia_extract.common import shortage
from cia_extract.common.errors import UsageError


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_a_shortage_is_a_line_with_advice(error):
    with pytest.raises(UsageError) as caught, shortage.shortage_said("demo on cuda", "take less"):
        raise error
    assert str(caught.value) == "demo on cuda: not enough memory; take less"


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes differ"), shortage.shortage_said("x", "y"):
        raise RuntimeError("shapes differ")


def test_a_full_disk_is_named_and_other_errors_are_not():
    full = OSError(errno.ENOSPC, "No space left on device", "runs/stamp.json")
    assert shortage.full_disk(full) == "runs/stamp.json: No space left on device; make room, then run the same command again"
    nowhere = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']")
    assert shortage.full_disk(nowhere).startswith("no temporary folder can be written: the disk is full")
    assert shortage.full_disk(PermissionError(errno.EACCES, "Permission denied", "x")) == ""
    assert shortage.full_disk(FileNotFoundError(errno.ENOENT, "No such file or directory", "x")) == ""
