"""Which weights a stream gets: by name, from a file of its own, from another stream, or an answer why not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cia_extract.common.errors import DataError, UsageError
from cia_extract.networks import weights
from cia_extract.networks.weights import checkpoint, fit, identity, layouts
from safetensors.numpy import save_file

from tests.extract.weight_files import random_tbn, save_tbn, to_torch


@pytest.fixture(scope="module")
def tbn() -> dict[str, layouts.Tensors]:
    return random_tbn()


@pytest.fixture(scope="module")
def tbn_file(tmp_path_factory) -> Path:
    return save_tbn(tmp_path_factory.mktemp("tbn") / "TBN-epic-kitchens-55.pth")


def test_a_users_flow_file_is_not_inflated(tmp_path):
    tensors = weights.load("i3d", "flow", "random", print).tensors
    path = tmp_path / "flow.pt"
    torch.save(to_torch(tensors, "piergiaj"), path)
    loaded = weights.load("i3d", "flow", str(path), print)
    assert loaded.name == "file:flow.pt" and loaded.provenance == "no known checkpoint"
    np.testing.assert_array_equal(loaded.tensors["Conv3d_1a_7x7/conv_3d/w"], tensors["Conv3d_1a_7x7/conv_3d/w"])


def test_cross_modality_initialisation(kinetics):
    flow = weights.load("i3d", "flow", "kinetics", print)
    kernel = flow.tensors["Conv3d_1a_7x7/conv_3d/w"]
    assert kernel.shape == (7, 7, 7, 2, 64)
    for channel in (0, 1):
        np.testing.assert_array_equal(kernel[..., channel, :], kinetics.tensors["Conv3d_1a_7x7/conv_3d/w"].mean(3))
    assert flow.name == "rgb_scratch-inflated" and "never trained on flow" in flow.provenance


def test_one_tbn_file_serves_three_streams(tbn, tbn_file):
    read = checkpoint.read(tbn_file)
    assert (read.network, read.layout, read.extra, list(read.streams)) == ("tbn", "tbn", (), ["rgb", "flow", "audio"])
    for modality, tensors in tbn.items():
        loaded = weights.load("tbn", modality, str(tbn_file), print)
        assert loaded.sha256 == identity.sha256(tensors) and loaded.name == "file:TBN-epic-kitchens-55.pth"
        assert loaded.provenance == f"{modality} stream of a tbn file; no reference checksums of TBN exist"
        state = weights.build("tbn", modality, loaded).state_dict()
        assert all(np.array_equal(state[name].numpy(), array) for name, array in tensors.items())


def test_one_stream_of_pretrainedmodels_or_tsn(tbn, tmp_path):
    """Plain names with a classifier; TSN's with `base_model.`, and batch normalisation [1, C] as torch 0.3 kept it."""
    plain = {name: torch.from_numpy(array) for name, array in tbn["rgb"].items()}
    torch.save(plain | {"last_linear.weight": torch.zeros(1000, 1024)}, tmp_path / "bn_inception.pth")
    old = {f"module.base_model.{n}": torch.from_numpy(a[None] if "_bn." in n else a) for n, a in tbn["flow"].items()}
    torch.save(old | {"module.new_fc.weight": torch.zeros(400, 1024)}, tmp_path / "tsn_flow.pth")
    rgb = weights.load("tbn", "rgb", str(tmp_path / "bn_inception.pth"), print)
    flow = weights.load("tbn", "flow", str(tmp_path / "tsn_flow.pth"), print)
    assert (rgb.sha256, flow.sha256) == tuple(identity.sha256(tbn[modality]) for modality in ("rgb", "flow"))
    assert "bninception file" in rgb.provenance and not flow.name.endswith("inflated")

    inflated = weights.load("tbn", "flow", str(tmp_path / "bn_inception.pth"), print)
    kernel, source = inflated.tensors["conv1_7x7_s2.weight"], tbn["rgb"]["conv1_7x7_s2.weight"]
    assert kernel.shape == (64, 10, 7, 7) and inflated.name == "file:bn_inception.pth-inflated"
    assert all(np.array_equal(kernel[:, channel], source.mean(1)) for channel in range(10))
    weights.build("tbn", "flow", inflated)
    with pytest.raises(DataError, match="of rgb only; audio is never made from another stream; pass --weights audio=FILE"):
        weights.load("tbn", "audio", str(tmp_path / "bn_inception.pth"), print)
    with pytest.raises(DataError, match=r"do not fit the rgb TBN: it is a bninception file.*flow only; pass --weights rgb=FILE"):
        weights.load("tbn", "rgb", str(tmp_path / "tsn_flow.pth"), print)


def test_weights_of_the_other_network_are_refused(kinetics, tbn_file, tmp_path):
    torch.save(to_torch(kinetics.tensors, "hassony2"), tmp_path / "i3d.pth")
    with pytest.raises(DataError, match="it is a tbn file with 1242 tensors of TBN; add --backbone tbn"):
        weights.load("i3d", "rgb", str(tbn_file), print)
    with pytest.raises(DataError, match="it is a hassony2 file with 230 tensors of I3D; add --backbone i3d"):
        weights.load("tbn", "flow", str(tmp_path / "i3d.pth"), print)
    with pytest.raises(DataError, match="pass --weights audio=FILE with a TBN"):
        weights.load("tbn", "audio", str(tmp_path / "i3d.pth"), print)


@pytest.mark.parametrize("backbone", ["i3d", "tbn"])
def test_another_architecture_is_refused_with_its_whole_table(tmp_path, backbone):
    """The names of torchvision's ResNet-18."""
    units = [f"layer{stage}.{block}.conv{i}.weight" for stage in (1, 2, 3, 4) for block in (0, 1) for i in (1, 2)]
    names = ["conv1.weight", "bn1.weight", "bn1.bias", *units, "fc.weight", "fc.bias"]
    torch.save({name: torch.ones(2, 2) for name in names}, tmp_path / "resnet.pth")
    with pytest.raises(fit.MisfitError) as error:
        weights.load(backbone, "rgb", str(tmp_path / "resnet.pth"), print)
    message = str(error.value)
    title = {"i3d": "I3D", "tbn": "TBN"}[backbone]
    assert f"resnet.pth do not fit the rgb {title}, 21 tensors: conv1.weight does not belong; bn1.weight" in message
    assert "and 18 more (all of them: cia-extract weights identify" in message and "\n" not in message
    assert [misfit.tensor for misfit in error.value.table] == names


def test_missing_extra_misshaped_and_broken_tensors(tbn, tmp_path):
    def table(tensors: layouts.Tensors) -> list[str]:
        save_file(tensors, tmp_path / "w.safetensors")
        with pytest.raises(fit.MisfitError) as error:
            weights.load("tbn", "rgb", str(tmp_path / "w.safetensors"), print)
        return [str(misfit) for misfit in error.value.table]

    whole, name = tbn["rgb"], "inception_4c_pool_proj_bn.running_var"
    assert table({k: v for k, v in whole.items() if k != name}) == [f"{name} is missing"]
    assert table(whole | {name: whole[name][:-1]}) == [f"{name} is (127,), not (128,)"]
    assert table(whole | {name: np.full(128, np.nan, np.float32)}) == [f"{name} holds values that are not finite"]
    assert table(whole | {"inception_3c_1x1.weight": np.ones(3, np.float32)}) == ["inception_3c_1x1.weight does not belong"]
    assert table(whole | {"gate.weight": np.ones(3, np.float32)}) == ["gate.weight does not belong"]
    four = np.ones((64, 4, 7, 7), np.float32)
    assert table(whole | {"conv1_7x7_s2.weight": four}) == ["conv1_7x7_s2.weight is (64, 4, 7, 7), not (64, 3, 7, 7)"]


def test_wrong_weights_are_named_not_built(kinetics):
    flow = weights.load("i3d", "flow", "kinetics", print)
    with pytest.raises(DataError, match=r"do not fit the rgb I3D.*Conv3d_1a_7x7"):
        weights.build("i3d", "rgb", flow)
    partial = weights.Weights("part", "", "", {k: v for k, v in kinetics.tensors.items() if "Mixed_4c" not in k})
    with pytest.raises(DataError, match=r"24 tensors: Mixed_4c.* is missing; .*; and 21 more") as error:
        weights.build("i3d", "rgb", partial)
    assert len(error.value.table) == 24
    headless = weights.Weights("trunk", "", "", {k: v for k, v in kinetics.tensors.items() if "Logits" not in k})
    weights.build("i3d", "rgb", headless)
    with pytest.raises(DataError, match=r"Logits/Conv3d_0c_1x1/conv_3d/w is missing"):
        weights.build("i3d", "rgb", headless, head=True)


def test_a_damaged_cache_is_not_used(kinetics, tmp_path, monkeypatch):
    changed = dict(kinetics.tensors)
    changed["Conv3d_2b_1x1/batch_norm/beta"] = changed["Conv3d_2b_1x1/batch_norm/beta"] * 2
    save_file(changed, tmp_path / "i3d_rgb_scratch.safetensors")
    monkeypatch.setenv("CIA_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"damaged, 229 of 230 tensors are right; delete it"):
        weights.load("i3d", "rgb", "kinetics", print)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CIA_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set CIA_CACHE"):
        weights.load("i3d", "rgb", "kinetics", print)


@pytest.mark.parametrize(("backbone", "modality"), [("i3d", "rgb"), ("tbn", "audio")])
def test_random_weights_are_the_same_every_time_and_say_so(backbone, modality):
    first, second = (weights.load(backbone, modality, "random", print) for _ in range(2))
    assert first.sha256 == second.sha256
    assert first.name == "random" and "not a trained network" in first.provenance


@pytest.mark.parametrize(
    ("modalities", "requests", "expected"),
    [
        (("rgb", "flow"), [], {"rgb": "kinetics", "flow": "kinetics"}),
        (("rgb", "flow"), ["random"], {"rgb": "random", "flow": "random"}),
        (("rgb", "flow"), ["a.pt"], {"rgb": "a.pt", "flow": "a.pt"}),
        (("rgb", "flow"), ["flow=b.pt", "random"], {"rgb": "random", "flow": "b.pt"}),
        (("flow",), ["a.pt"], {"flow": "a.pt"}),
        (("rgb", "flow"), ["a.pt", "flow=b.pt"], {"rgb": "a.pt", "flow": "b.pt"}),
        (("rgb", "audio"), ["audio=tbn.pth"], {"rgb": "kinetics", "audio": "tbn.pth"}),
        (("rgb",), ["runs=3/a.pt"], {"rgb": "runs=3/a.pt"}),
    ],
)
def test_choice_of_weights(modalities, requests, expected):
    assert weights.choose(modalities, requests, "i3d") == expected


def test_tbn_has_no_default():
    assert weights.choose(("rgb", "audio"), ["tbn.pth"], "tbn") == {"rgb": "tbn.pth", "audio": "tbn.pth"}
    for backbone, modalities, requests in (("tbn", ("rgb",), []), ("tbn", ("rgb",), ["kinetics"]), ("i3d", ("rgb", "audio"), [])):
        with pytest.raises(UsageError, match=r"TBN-epic-kitchens-55\.pth .*or random"):
            weights.choose(modalities, requests, backbone)
    with pytest.raises(UsageError, match=r"TBN-epic-kitchens-55\.pth"):
        weights.load("tbn", "rgb", "kinetics", print)


def test_a_mistyped_name_gets_a_suggestion():
    with pytest.raises(DataError, match=r"weights rgb_imagnet: no such file;.*; did you mean rgb_imagenet\?"):
        weights.load("i3d", "rgb", "rgb_imagnet", print)


def test_requests_for_weights_that_cannot_be_met():
    with pytest.raises(UsageError, match="add --modality flow"):
        weights.choose(("rgb",), ["flow=b.pt"], "i3d")
    with pytest.raises(UsageError, match="--weights flow=: names no file"):
        weights.choose(("rgb", "flow"), ["flow="], "i3d")
