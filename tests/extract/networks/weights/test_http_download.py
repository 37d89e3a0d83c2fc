"""Downloads from a server that cuts, stalls, moves, changes or refuses: the whole file, or the reason in one line."""

import random
import time

import pytest
from cia_extract.common.errors import UsageError
from cia_extract.networks.weights import http_download
from cia_extract.networks.weights.http_download import fetch

from tests.extract.file_server import serving

CONTENT = random.Random(0).randbytes(200_000)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http_download, "PAUSES_S", (0.0,))
    with serving(CONTENT) as files:
        yield files


@pytest.mark.parametrize("path", ["whole", "moved", "503-once", "no-range", "slow"])
def test_the_file_arrives(server, tmp_path, monkeypatch, path):
    """A slow one too, which takes longer in all than a connection may be quiet."""
    monkeypatch.setattr(http_download, "QUIET_S", 0.3)
    fetch(server.url(path), tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == CONTENT


def test_a_cut_download_goes_on_where_it_was(server, tmp_path):
    """Every connection gives 1000 bytes: 200 of them, each asks for the rest."""
    fetch(server.url("cut"), tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == ["", *(f"bytes={n}-" for n in range(1000, 200_000, 1000))]


def test_a_later_process_goes_on(server, tmp_path, monkeypatch):
    monkeypatch.setattr(http_download, "QUIET_S", 0.2)
    with pytest.raises(UsageError, match="timed out"):
        fetch(server.url("stalled"), tmp_path / "w.pt", tries=0)
    assert (tmp_path / "w.pt").read_bytes() == CONTENT[:1000]
    fetch(server.url("whole"), tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == CONTENT and server.asked[-1] == ("whole", "bytes=1000-")


def test_another_version_begins_anew(server, tmp_path):
    """Bytes of two versions never meet in one file, though the server knows ranges."""
    (tmp_path / "w.pt").write_bytes(b"y" * 1000)
    (tmp_path / "w.pt.etag").write_text('"another"')
    fetch(server.url("whole"), tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == CONTENT


def test_a_file_longer_than_the_servers_begins_anew(server, tmp_path):
    (tmp_path / "w.pt").write_bytes(CONTENT + b"more")
    (tmp_path / "w.pt.etag").write_text(server.etag)
    fetch(server.url("whole"), tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "reason", "requests"),
    [
        ("404", "HTTP 404 Not Found", 1),
        ("page", "gives a web page, not a file", 1),
        ("never", "the connection was cut", 4),
        ("loop", "HTTP 302 .* infinite loop", 5),
        ("to-a-file", "HTTP 302 .*not allowed", 1),
    ],
)
def test_what_is_said_of_an_address_that_gives_nothing(server, tmp_path, path, reason, requests):
    with pytest.raises(UsageError, match=f"^{server.url(path)}: {reason}") as error:
        fetch(server.url(path), tmp_path / "w.pt", tries=4)
    assert len(server.asked) == requests and "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/w.pt", "http://[::", "http://no-such-host.invalid/w.pt"])
def test_no_server_and_no_address(tmp_path, monkeypatch, address):
    monkeypatch.setattr(http_download, "PAUSES_S", (0.0,))
    with pytest.raises(UsageError) as error:
        fetch(address, tmp_path / "w.pt")
    assert str(error.value).startswith(address) and len(str(error.value)) > len(address) + 10


def test_pauses_between_tries(server, tmp_path, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(http_download, "PAUSES_S", (1.0, 2.0, 4.0))
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(UsageError):
        fetch(server.url("never"), tmp_path / "w.pt", tries=5)
    assert pauses == [1.0, 2.0, 4.0, 4.0]
