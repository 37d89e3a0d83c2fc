"""What a worker process is made of. Crashes, hangs and reading ahead: tests/extract/extraction/test_pipeline.py."""

import subprocess
import sys


def test_workers_do_not_import_torch():
    """It would take seconds and hundreds of megabytes in each, and its threads would be as many as the cores."""
    code = "import sys, cia_extract.clips.workers; sys.exit(bool({'torch', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
