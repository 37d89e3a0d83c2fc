"""What a worker process is made of. Crashes, hangs and reading ahead: tests/extract/extraction/test_pipeline.py."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cia_extract import recipes
from cia_extract.clips import ClipJob, workers


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
