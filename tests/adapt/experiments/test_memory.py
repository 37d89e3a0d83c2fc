"""Freed memory is used again."""

import subprocess
import sys

import pytest
from cia_adapt.experiments import memory

FAULTS = """
import resource, sys, torch
from cia_adapt.experiments import memory
if sys.argv[1] == "keep":
    memory.keep_freed()
torch.ones(2**24)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_no_new_pages_are_asked_for():
    def faults(how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout)

    if not memory.keep_freed():
        pytest.skip("no glibc here")
    kept, fresh = faults("keep"), faults("as it is")
    assert kept < fresh / 4
