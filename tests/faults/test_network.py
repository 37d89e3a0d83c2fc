"""Nothing is sent anywhere: neither by us nor by the telemetry of a library, which OpenVINO's and Ray's are by default."""

import importlib.util

from tests.faults.jobs import extraction, training

# Told of every address that this process, or a fork of it, looks up or connects to; files of a domain socket are none.
LISTEN = """
import sys
def listen(event, arguments, out=open({!r}, "a", buffering=1)):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        out.write(f"{{event}} {{arguments}}\\n")
sys.addaudithook(listen)
"""


def test_no_command_connects_to_anything(root, small_file, launcher, tmp_path):
    log = tmp_path / "connections"
    engine = "openvino" if importlib.util.find_spec("openvino") else "eager"
    words = [word for word in extraction(root, tmp_path / "f.h5") if word != "--deterministic"]  # which is eager
    commands = [
        [*words, "--engine", engine],
        ["cia-extract", "verify", tmp_path / "f.h5"],
        training(small_file, tmp_path / "runs", 1),
        ["cia-adapt", "report", tmp_path / "runs", "--out", tmp_path / "report.html"],
    ]
    for words in commands:
        once = launcher.run(*words, before=LISTEN.format(str(log)))
        assert once.wait() == 0, once.told
    assert log.read_text() == ""
