"""Preparing a clip as workers do, with what it took written down: `{"path", "seconds", "peak_mb"}`, a line a clip."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from cia_extract import clips

LOG = "MEASURED"  # the variable of the environment that names the file
HOOK = """
import sys; sys.path.insert(0, {root!r})
from functools import partial
from cia_extract.extraction import clips_to_rows
from tests.faults import measured
clips_to_rows.prepared_clips = partial(clips_to_rows.prepared_clips, work=measured.prepare)
"""


def prepare(job: clips.ClipJob, beat: Callable[[], None]) -> clips.PreparedClip:
    """`prepare_clip`, measured; nothing is written of one whose process is killed."""
    began = time.monotonic()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    except OSError:
        pass  # then the peak is that of all clips so far
    try:
        return clips.prepare_clip(job, beat)
    finally:
        peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
        line = json.dumps({"path": str(job.path), "seconds": time.monotonic() - began, "peak_mb": peak / 1024})
        with open(os.environ[LOG], "a") as log:
            log.write(line + "\n")
