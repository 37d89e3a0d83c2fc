"""Weights by name: brought once from an address, a mirror or a file, proved, kept, proved again; and what `auto` makes of it."""

import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import torch
from cia_extract.common.errors import DataError, UsageError
from cia_extract.networks import weights
from cia_extract.networks.weights import cache, http_download, identity, known, layouts
from safetensors.numpy import load_file, save_file

from tests.extract.file_server import serving
from tests.extract.weight_files import save_tbn, to_torch


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(http_download, "PAUSES_S", (0.0,))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tensors() -> dict[str, layouts.Tensors]:
    """{checkpoint: tensors} with the published names and hardly any values, so that files are quick to send.

    The channels of the first kernel tell RGB from flow.
    """
    random = np.random.default_rng(0)

    def drawn(name: str, channels: int) -> np.ndarray:
        first = name == "Conv3d_1a_7x7/conv_3d/w"
        shape = (1, 1, 1, channels if first else 1, 1) if name.endswith("/w") else (1,)
        return random.random(shape, np.float32)

    names = list(identity.crc_table()["rgb_scratch"])
    channels = {"rgb_scratch": 3, "rgb_imagenet": 3, "flow_imagenet": 2}
    return {checkpoint: {name: drawn(name, count) for name in names} for checkpoint, count in channels.items()}


@pytest.fixture
def files(tensors, tmp_path, monkeypatch) -> dict[str, bytes]:
    """{checkpoint: its file as pytorch-i3d has it}; the checksums that are looked for are those of `tensors`."""
    sums = {
        checkpoint: {name: f"{google_crc32c.value(array.tobytes()):08x}" for name, array in values.items()}
        for checkpoint, values in tensors.items()
    }
    monkeypatch.setattr(identity, "crc_table", lambda: sums)
    for checkpoint, values in tensors.items():
        torch.save(to_torch(values, "piergiaj"), tmp_path / f"{checkpoint}.pt")
    return {checkpoint: (tmp_path / f"{checkpoint}.pt").read_bytes() for checkpoint in tensors}


def addresses(monkeypatch, name: str, *urls: str) -> None:
    monkeypatch.setitem(known.KNOWN, name, replace(known.KNOWN[name], addresses=urls))


def test_downloaded_once_proved_and_kept(files, tensors, monkeypatch, empty_cache):
    said: list[str] = []
    with serving(files["rgb_imagenet"]) as server:
        addresses(monkeypatch, "rgb_imagenet", server.url("cut"))
        path = cache.get("rgb_imagenet", said.append)
        asked = len(server.asked)
        assert cache.get("rgb_imagenet", said.append) == path and len(server.asked) == asked
    assert asked > 1  # it was cut, and went on
    kept = load_file(path)
    assert all(np.array_equal(kept[name], array) for name, array in tensors["rgb_imagenet"].items()) and len(kept) == 230
    assert said[-1] == f"rgb_imagenet: checked (230/230 tensors by CRC32C); kept in {path}"
    assert sorted(each.name for each in empty_cache.iterdir()) == ["rgb_imagenet.lock", "rgb_imagenet.safetensors"]


def test_a_mirror_that_is_gone_and_one_with_another_file(files, monkeypatch):
    said: list[str] = []
    with serving(files["rgb_imagenet"]) as right, serving(files["flow_imagenet"]) as other:
        addresses(monkeypatch, "rgb_imagenet", right.url("404"), other.url("whole"), right.url("wrong"), right.url("moved"))
        assert cache.get("rgb_imagenet", said.append).is_file()
        assert [path for path, _ in right.asked] == ["404", "wrong", "moved", "moved-again", "whole"]


def test_no_address_gives_it(files, monkeypatch, empty_cache):
    with serving(files["flow_imagenet"]) as server:
        addresses(monkeypatch, "rgb_imagenet", server.url("404"), server.url("wrong"), server.url("whole"))
        with pytest.raises(UsageError) as error:
            cache.get("rgb_imagenet", print)
    message = str(error.value)
    assert "\n" not in message and "404: HTTP 404 Not Found" in message and "wrong: weights" in message
    assert "whole: is not rgb_imagenet (flow_imagenet 230/230)" in message
    assert "cia-extract weights get rgb_imagenet --from FILE" in message and "Apache-2.0" in message
    assert [each.name for each in empty_cache.iterdir()] == ["rgb_imagenet.lock"]


def test_from_a_file_and_from_an_address(files, tmp_path):
    path = cache.get("rgb_imagenet", print, source=str(tmp_path / "rgb_imagenet.pt"))
    assert path == cache.cached("rgb_imagenet") and path.is_file()
    with serving(files["flow_imagenet"]) as server:
        assert cache.get("flow_imagenet", print, source=server.url("whole")).is_file()
    with pytest.raises(DataError, match=r"flow_imagenet\.pt: is not rgb_imagenet \(flow_imagenet 230/230\)"):
        cache.get("rgb_imagenet", print, source=str(tmp_path / "flow_imagenet.pt"))
    with pytest.raises(UsageError, match="--from none: no such file"):
        cache.get("rgb_imagenet", print, source="none")


def test_a_sum_that_the_user_gives(files, tmp_path):
    right = hashlib.sha256(files["rgb_imagenet"]).hexdigest()
    source = str(tmp_path / "rgb_imagenet.pt")
    with pytest.raises(DataError, match=f"has the SHA-256 {right}, not {'0' * 64}"):
        cache.get("rgb_imagenet", print, source, sha256="0" * 64)
    assert cache.get("rgb_imagenet", print, source, sha256=right.upper()).is_file()


def test_two_at_once_download_once(files, monkeypatch):
    with serving(files["rgb_imagenet"]) as server:
        addresses(monkeypatch, "rgb_imagenet", server.url("whole"))
        threads = [threading.Thread(target=cache.get, args=("rgb_imagenet", print)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.asked) == 1


def test_weights_without_reference_sums(tmp_path):
    """Charades': what fits is stored with its SHA-256, what was changed since is not used, and the name goes into the file."""
    random = weights.load("i3d", "rgb", "random", print).tensors
    classes = {name: array[..., :157] for name, array in random.items() if name.startswith("Logits")}
    torch.save(to_torch(random | classes, "piergiaj"), tmp_path / "rgb_charades.pt")
    said: list[str] = []
    path = cache.get("rgb_charades", said.append, source=str(tmp_path / "rgb_charades.pt"))
    digest = hashlib.sha256((tmp_path / "rgb_charades.pt").read_bytes()).hexdigest()
    assert f"no reference checksums of it exist; its SHA-256 is {digest}" in said[-1]
    loaded = weights.load("i3d", "rgb", "rgb_charades", print)
    assert loaded.name == "rgb_charades" and "no reference checksums" in loaded.provenance
    assert weights.load("i3d", "flow", "rgb_charades", print).name == "rgb_charades-inflated"
    with pytest.raises(DataError, match=r"is not flow_charades \(no known checkpoint \(0/230 tensors\), of rgb, 0 misfits\)"):
        cache.get("flow_charades", print, source=str(tmp_path / "rgb_charades.pt"))

    changed = load_file(path)
    changed["Logits/Conv3d_0c_1x1/conv_3d/b"] += 1
    save_file(changed, path, metadata={cache.SUM: "0"})
    with pytest.raises(DataError, match="damaged, its tensors are not those that were stored"):
        weights.load("i3d", "rgb", "rgb_charades", print)


def test_tbn_has_no_public_address_that_is_known(tmp_path):
    with pytest.raises(UsageError, match=r"no public address of it is known.*CC BY-NC-SA.*--from FILE"):
        weights.load("tbn", "audio", "tbn-epic-55", print)
    with serving(save_tbn(tmp_path / "TBN-epic-kitchens-55.pth").read_bytes()) as mirror:
        cache.get("tbn-epic-55", print, source=mirror.url("cut-once"))
        assert [path for path, _ in mirror.asked] == ["cut-once"] * 2
    for modality in ("rgb", "flow", "audio"):
        assert weights.load("tbn", modality, "tbn-epic-55", print).name == "tbn-epic-55"
    with pytest.raises(DataError, match="add --backbone tbn"):
        weights.load("i3d", "rgb", "tbn-epic-55", print)


AUTO = {"rgb": "auto", "flow": "auto"}


def test_auto_takes_imagenets_where_they_can_be_had(files, monkeypatch):
    with serving(files["rgb_imagenet"]) as rgb, serving(files["flow_imagenet"]) as flow:
        addresses(monkeypatch, "rgb_imagenet", rgb.url("whole"))
        addresses(monkeypatch, "flow_imagenet", flow.url("whole"))
        assert weights.settle(AUTO, {}, print) == {"rgb": "rgb_imagenet", "flow": "flow_imagenet"}
    assert weights.settle(AUTO | {"flow": "f.pt"}, {}, print) == {"rgb": "rgb_imagenet", "flow": "f.pt"}  # from the cache


def test_auto_falls_back_and_says_what_is_worse(files, monkeypatch):
    said: list[str] = []
    with serving(files["rgb_imagenet"]) as server:
        addresses(monkeypatch, "rgb_imagenet", server.url("whole"))
        addresses(monkeypatch, "flow_imagenet", server.url("404"))
        assert weights.settle(AUTO, {}, said.append) == {"rgb": "kinetics", "flow": "kinetics"}
        assert said[-1].startswith("--weights auto: takes kinetics, which is worse: 68.4 % instead of 71.1 %")
        assert "never trained on flow" in said[-1] and "HTTP 404" in said[-1] and "\n" not in said[-1]
        with pytest.raises(UsageError, match="HTTP 404"):
            weights.settle(AUTO, {"rgb": "rgb_imagenet", "flow": "flow_imagenet"}, print)


def test_auto_goes_on_with_what_a_dataset_was_begun_with(monkeypatch):
    """Though better weights can be had by now: features of two networks must not meet in one dataset."""
    monkeypatch.setattr(cache, "get", lambda *_, **__: pytest.fail("nothing is downloaded"))
    begun = {"rgb": "rgb_scratch", "flow": "rgb_scratch-inflated"}
    assert weights.settle(AUTO, begun, print) == {"rgb": "kinetics", "flow": "kinetics"}


def test_auto_is_no_choice_for_tbn():
    with pytest.raises(UsageError, match="has no default weights"):
        weights.choose(("rgb", "audio"), ["auto"], "i3d")
