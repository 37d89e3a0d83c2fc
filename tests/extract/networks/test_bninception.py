"""BN-Inception against counts of the literature, the released names, and blocks written out by hand."""

import pytest
import torch
from cia_extract.networks import weights
from cia_extract.networks.bninception import INCEPTION, BNInception
from cia_extract.networks.streams import GMACS, IN_CHANNELS
from torch import nn
from torch.nn import functional as F

SIZE = {"rgb": 224, "flow": 224, "audio": 256}


@pytest.fixture(scope="module")
def network() -> BNInception:
    """RGB, with batch normalisation that does something."""
    model = weights.build("tbn", "rgb", weights.load("tbn", "rgb", "random", print))
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_var, 0.5, 2), (module.weight, 0.5, 1.5), (module.running_mean, -1, 1)):
                tensor.data.uniform_(low, high, generator=generator)
            module.bias.data.uniform_(-0.5, 0.5, generator=generator)
        if isinstance(module, nn.Conv2d):
            module.bias.data.uniform_(-0.5, 0.5, generator=generator)
    return model


@pytest.mark.parametrize(("modality", "count"), [("rgb", 10_270_240), ("flow", 10_292_192), ("audio", 10_263_968)])
def test_parameters(modality, count):
    """The counts of `docs/facts.md`, without the classifier."""
    model = BNInception(IN_CHANNELS["tbn"][modality])
    assert sum(p.numel() for p in model.parameters()) == count
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 69
    assert {module.eps for module in model.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-5}


@pytest.mark.parametrize(("modality", "gmacs", "cells"), [("rgb", 2.03, 7), ("flow", 2.31, 7), ("audio", 2.55, 8)])
def test_multiply_accumulates_and_size_of_the_map(modality, gmacs, cells):
    model, total = BNInception(IN_CHANNELS["tbn"][modality]).to("meta").eval(), 0

    def add(module: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(add)
    size = SIZE[modality]
    out = model(torch.empty(1, IN_CHANNELS["tbn"][modality], size, size, device="meta"))
    assert out.shape == (1, 1024, cells, cells)
    assert round(total / 1e9, 2) == gmacs == GMACS["tbn"][modality]


def test_names_are_the_released_ones():
    """The naming rule of the Caffe model, written down here once more."""
    branches = ["1x1", "3x3_reduce", "3x3", "double_3x3_reduce", "double_3x3_1", "double_3x3_2", "pool_proj"]
    units = ["conv1_7x7_s2", "conv2_3x3_reduce", "conv2_3x3"]
    for block in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        halves = block in ("3c", "4e")  # these have neither 1×1 nor projection
        units += [f"inception_{block}_{b}" for b in branches if not (halves and b in ("1x1", "pool_proj"))]
    names = [f"{u}.{leaf}" for u in units for leaf in ("weight", "bias")]
    names += [f"{u}_bn.{leaf}" for u in units for leaf in ("weight", "bias", "running_mean", "running_var")]
    state = {name for name in BNInception().state_dict() if not name.endswith("num_batches_tracked")}
    assert len(units) == 69 and state == set(names)


@pytest.mark.parametrize(("block", "channels", "out"), [
    ("3a", 192, 256), ("3b", 256, 320), ("3c", 320, 576), ("4a", 576, 576), ("4b", 576, 576), ("4c", 576, 608), ("4d", 608, 608),
    ("4e", 608, 1056), ("5a", 1056, 1024), ("5b", 1024, 1024),
])  # fmt: skip
def test_channels_between_blocks(block, channels, out):
    """Figure 5 of Ioffe and Szegedy (2015); 4c and 4d are 608 in the released model, 576 and 576 in the figure."""
    state = BNInception().state_dict()
    assert state[f"inception_{block}_3x3_reduce.weight"].shape[1] == channels
    assert INCEPTION[block].out_channels(channels) == out


def by_hand(network: BNInception, block: str, x: torch.Tensor) -> torch.Tensor:
    """One block out of its state dict, with torch's functions only, batch normalisation by its formula."""
    state = network.state_dict()

    def unit(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        name = f"inception_{block}_{name}"
        kernel = state[f"{name}.weight"]
        x = F.conv2d(x, kernel, state[f"{name}.bias"], stride, padding=kernel.shape[-1] // 2)
        mean, var, scale, shift = (
            state[f"{name}_bn.{n}"][:, None, None] for n in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    stride = 2 if block in ("3c", "4e") else 1
    three = unit("3x3", unit("3x3_reduce", x), stride)
    double = unit("double_3x3_2", unit("double_3x3_1", unit("double_3x3_reduce", x)), stride)
    if stride == 2:  # windows 0–2, 2–4, …; the last one is cut at the edge, which is what rounding up means
        starts = range(0, x.shape[-1] - 1, 2)
        rows = torch.stack([x[:, :, i : i + 3].amax(2) for i in starts], 2)
        pooled = torch.stack([rows[..., i : i + 3].amax(3) for i in starts], 3)
        return torch.cat([three, double, pooled], 1)
    padded = F.pad(x, (1, 1, 1, 1))  # zeros neither change a maximum behind a ReLU, nor are they left out of an average
    nine = torch.stack([padded[:, :, i : i + x.shape[2], j : j + x.shape[3]] for i in range(3) for j in range(3)])
    pooled = nine.amax(0) if block == "5b" else nine.sum(0) / 9
    return torch.cat([unit("1x1", x), three, double, unit("pool_proj", pooled)], 1)


@pytest.mark.parametrize("block", ["3a", "3c", "4e", "5a", "5b"])
def test_a_block_against_the_same_by_hand(network, block):
    channels = network.state_dict()[f"inception_{block}_3x3_reduce.weight"].shape[1]
    x = torch.rand(2, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = network._inception(block, INCEPTION[block], x.clone())
    torch.testing.assert_close(ours, by_hand(network, block, x), atol=1e-5, rtol=1e-4)


def test_stem_against_scipy(network):
    """Padding 3 of the 7×7 stride-2 convolution and the rounded-up pool, by an independent correlation."""
    import numpy as np
    from scipy.ndimage import correlate

    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = network._unit("conv1_7x7_s2", x)[0, 5].numpy()
    conv, bn = network.get_submodule("conv1_7x7_s2"), network.get_submodule("conv1_7x7_s2_bn")
    kernel = conv.weight[5].detach().numpy()
    dense = sum(correlate(x[0, c].numpy(), kernel[c], mode="constant") for c in range(3))[::2, ::2]  # centres 0, 2, 4, …
    normal = (dense + conv.bias[5].item() - bn.running_mean[5].item()) / np.sqrt(bn.running_var[5].item() + 1e-5)
    np.testing.assert_allclose(ours, np.maximum(normal * bn.weight[5].item() + bn.bias[5].item(), 0), atol=1e-4)


def test_folding_is_the_same_function(network):
    import copy

    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    folded = copy.deepcopy(network).fold()
    assert not folded.training and not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        before, after = network.maps(x), folded.maps(x)
    assert before.shape == (2, 1024, 7, 7) and before.min() == 0 and before.std() > 0.1
    assert (after - before).abs().max() < 1e-4 * before.abs().max()
    torch.testing.assert_close(after, before, atol=1e-4 * before.abs().max().item(), rtol=0)


@pytest.mark.parametrize(("backbone", "modality"), [(b, m) for b, channels in IN_CHANNELS.items() for m in channels])
def test_random_weights_neither_die_nor_explode(backbone, modality):
    """69 (57) layers under He's initialisation: about half of the last one's cells are alive, of about the input's size."""
    model = weights.build(backbone, modality, weights.load(backbone, modality, "random", print))
    frames = (16,) if backbone == "i3d" else ()
    x = torch.randn(1, IN_CHANNELS[backbone][modality], *frames, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out = model.maps(x)
    assert 0.3 < (out > 0).float().mean() < 0.8 or backbone == "i3d"  # I3D's is averaged over two slices
    assert 0.3 < out.square().mean().sqrt() < 10
