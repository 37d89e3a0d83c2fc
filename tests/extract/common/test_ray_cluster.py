"""Ray is found or missed in one line, and what it prints does not get into a result."""

import socket
import sys

import pytest
from cia_extract.common import ray_cluster
from cia_extract.common.errors import UsageError


def test_where_ray_is_missing_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # import ray: ImportError
    with pytest.raises(UsageError, match=r"^--ray auto: Ray is not installed here; pip install ray$"):
        ray_cluster.found("auto")


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}", "localhost:{}"])
def test_an_address_that_nobody_answers_at_is_told_at_once(address):
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.format(server.getsockname()[1])
    with pytest.raises(UsageError, match="no Ray cluster answers there"):
        ray_cluster.found(address)


@pytest.mark.slow
def test_what_is_printed_meanwhile_goes_to_standard_error(capfd):
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    with ray_cluster.joined("local") as ray:
        print("by Ray")
        assert ray.get(ray.remote(lambda: 4).remote()) == 4
    print("by us")
    said = capfd.readouterr()
    assert said.out == "by us\n" and "by Ray\n" in said.err and not ray.is_initialized()
