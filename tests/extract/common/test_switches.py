"""Process-wide switches are put back, also when what runs inside fails."""

import os
import subprocess
import sys

import cv2
import pytest
import torch
import torch._inductor.config as inductor
from cia_extract.common import switches


def state() -> dict[str, object]:
    cudnn = torch.backends.cudnn
    return {
        "tf32": (torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32),
        "cudnn": (cudnn.deterministic, cudnn.benchmark),
        "freezing": inductor.freezing,
        "threads": (torch.get_num_threads(), cv2.getNumThreads()),
    }


@pytest.mark.parametrize(
    ("switch", "what", "inside"),
    [
        (lambda: switches.tf32(True), "tf32", (True, True)),
        (lambda: switches.tf32(False), "tf32", (False, False)),
        (switches.deterministic_cudnn, "cudnn", (True, False)),
        (switches.frozen_weights, "freezing", True),
        (switches.one_thread, "threads", (1, 1)),
    ],
)
def test_a_switch_holds_inside_and_is_put_back_after_an_error(monkeypatch, switch, what, inside):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    try:
        before = state()
        with pytest.raises(RuntimeError, match="inside"), switch():
            assert state() == before | {what: inside}
            raise RuntimeError("inside")
        assert state() == before
    finally:
        torch.set_num_threads(before_threads)


def test_not_wanted_leaves_cudnn_as_it_is(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with switches.deterministic_cudnn(False):
        assert state()["cudnn"] == (False, True)


def test_a_worker_process_computes_on_one_core():
    code = "from cia_extract.common import switches; switches.one_thread_for_good(); import cv2, torch; "
    code += "assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "2"})


FAULTS = """
import resource, sys, torch
from cia_extract.common import switches
if sys.argv[1] == "keep":
    switches.keep_freed_memory()
torch.ones(2**24)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again():
    def faults(how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout)

    if not switches.keep_freed_memory():
        pytest.skip("no glibc here")
    kept, fresh = faults("keep"), faults("as it is")
    assert kept < fresh / 4
