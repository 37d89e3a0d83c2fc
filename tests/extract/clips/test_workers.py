"""What a worker process is made of. Crashes, hangs and reading ahead: tests/extract/extraction/test_pipeline.py."""

import os
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from cia_extract import recipes
from cia_extract.clips import ClipJob, workers
from cia_extract.common.outcomes import ClipError


def test_workers_do_not_import_torch():
    """It would take seconds and hundreds of megabytes in each, and its threads would be as many as the cores."""
    code = "import sys, cia_extract.clips.workers; sys.exit(bool({'torch', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def niceness(job: ClipJob, beat) -> int:
    """What a worker has beside that of this process; a clip takes as long as its name says."""
    time.sleep(float(job.path.name))
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
@pytest.mark.parametrize(("clip_s", "network_s", "expected"), [(0.2, 0.0, 0), (0.0, 0.2, workers.YIELDING)])
def test_workers_give_way_while_finished_clips_wait_for_the_network_and_to_nobody_while_it_waits_for_them(
    clip_s, network_s, expected
):
    """A worker that gave way to strangers too would starve beside them, and the network with it."""
    jobs = [(i, ClipJob(Path(str(clip_s)), ("rgb",), recipes.load("kinetics"))) for i in range(8)]
    had = []
    for _, nice in workers.prepared_clips(iter(jobs), workers=1, work=niceness):
        had.append(nice - os.getpriority(os.PRIO_PROCESS, 0))
        time.sleep(network_s)
    assert had[4:] == [expected] * 4, had


GARBAGE = {
    "no pickle": b"garbage",
    "nothing": b"",
    "a name that does not exist": b"cno_such_module\nname\n.",
}


def sends_garbage(job: ClipJob, beat) -> str:
    """What a decoder that wrote over this process's memory may make of it; other clips are what their names say."""
    if job.path.name in GARBAGE:
        (pipe,) = (cell.cell_contents for cell in beat.__closure__ if isinstance(cell.cell_contents, Connection))
        pipe.send_bytes(GARBAGE[job.path.name])
        time.sleep(60)
    return job.path.name


def test_a_worker_that_sends_garbage_costs_its_clip_and_not_the_run():
    names = [name for garbage in GARBAGE for name in (garbage, f"after {garbage}")]
    jobs = [(i, ClipJob(Path(name), ("rgb",), recipes.load("kinetics"))) for i, name in enumerate(names)]
    results = dict(workers.prepared_clips(iter(jobs), workers=1, work=sends_garbage))
    for number, name in enumerate(names):
        if name in GARBAGE:
            assert isinstance(results[number], ClipError)
            assert str(results[number]).startswith(f"{name}: decoding it corrupted the worker process (")
            assert str(results[number]).endswith("); is the file damaged?")
        else:
            assert results[number] == name
