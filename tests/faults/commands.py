"""The two commands in processes of their own, started from one that has imported all they need, which saves seconds each.

Each is a fork that runs `main()` as the console script does: kills, signals and exit codes are real.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The launcher forks a keeper for each command, which forks the command, waits for it and writes down how it ended.
_LAUNCHER: Final = """
import json, os, signal, sys
import av, cv2, h5py, torch, safetensors.torch
import cia_extract.cli, cia_adapt.cli
from cia_extract.extraction import pipeline
from cia_adapt.experiments import dry_run, runner, sweep
from cia_adapt.results import table
from cia_adapt.runs import saver
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    asked = json.loads(line)
    if os.fork():
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(asked["folder"])
    pid = os.fork()
    if pid:
        open("pid.part", "w").write(str(pid))
        os.rename("pid.part", "pid")
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        open("code.part", "w").write(str(code))
        os.rename("code.part", "code")
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # under `make test &` a shell lets its children ignore it
    for stream, name in enumerate(("/dev/null", "stdout", "stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o644), stream)
    os.environ.update(asked["environment"])
    exec(asked["before"])
    sys.argv = [asked["program"], *asked["words"]]
    {"cia-extract": cia_extract, "cia-adapt": cia_adapt}[asked["program"]].cli.main()
"""


@dataclass
class Started:
    """A command that was started, the leader of a process group and session of its own."""

    pid: int
    folder: Path
    """What it has printed: the files `stdout` and `stderr`. Its working directory too."""

    def wait(self, within_s: float = 300) -> int:
        """Its exit code, negative for a signal."""
        _appears(self.folder / "code", within_s)
        return int((self.folder / "code").read_text())

    def running(self) -> bool:
        """Whether it has not ended yet; a zombie has."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def send(self, number: int, everyone: bool = False) -> None:
        """Send a signal to the command alone, or to its whole group as a terminal does."""
        (os.killpg if everyone else os.kill)(self.pid, number)

    def kill(self) -> bool:
        """`kill -9`; False where it had ended before."""
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    @property
    def told(self) -> str:
        """What it has written to stderr so far."""
        return self._printed("stderr")

    @property
    def said(self) -> str:
        """What it has written to stdout so far."""
        return self._printed("stdout")

    def _printed(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""  # it has only just been started

    def until(self, condition: Callable[[], object], within_s: float = 120) -> bool:
        """Wait until the condition holds; False where the command ended before."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, self.told
            if not self.running():
                return bool(condition())
            time.sleep(0.005)
        return True


class Launcher:
    """Starts commands, any number at once, in folders below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen([sys.executable, "-c", _LAUNCHER], stdin=subprocess.PIPE, text=True, bufsize=1)

    def start(self, program: str, *words: object, before: str = "", environment: Mapping[str, str] | None = None) -> Started:
        """Start a command. `before` is Python code that it runs first."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        asked = {"program": program, "words": [*map(str, words)], "folder": str(folder), "before": before}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked | {"environment": dict(environment or {})}) + "\n")
        _appears(folder / "pid", 120)
        return Started(int((folder / "pid").read_text()), folder)

    def run(self, program: str, *words: object, **options) -> Started:
        """Start a command and wait for its end."""
        started = self.start(program, *words, **options)
        started.wait()
        return started

    def close(self) -> None:
        """End the launcher, not what it started."""
        self.process.kill()
        self.process.wait()


def _appears(path: Path, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.005)
