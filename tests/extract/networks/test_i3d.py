import numpy as np
import pytest
import torch
from cia_extract.networks import weights
from cia_extract.networks.i3d import I3D, MaxPool3dSame, Unit3d, same_padding
from cia_extract.networks.streams import GMACS
from PIL import Image
from torch import nn
from torch.nn import functional as F


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameters():
    """The counts of `docs/facts.md`: 57 convolutions with scale and offset of the batch normalisation."""
    assert count(I3D(3)) == 12_287_264
    assert count(I3D(2)) == 12_265_312
    assert count(I3D(3, head=True)) == 12_697_264
    assert count(I3D(2, head=True)) == 12_675_312
    assert sum(isinstance(module, Unit3d) for module in I3D().modules()) == 57


def macs(model: nn.Module, frames: int) -> int:
    """Multiply-accumulates of all convolutions, from the shapes that meet on the meta device."""
    total = 0

    def add(unit: Unit3d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * unit.conv.weight[0].numel()

    hooks = [module.register_forward_hook(add) for module in model.modules() if isinstance(module, Unit3d)]
    channels = next(model.parameters()).shape[1]
    model(torch.empty(1, channels, frames, 224, 224, device="meta"))
    for hook in hooks:
        hook.remove()
    return total


def test_multiply_accumulates():
    rgb, flow = (macs(I3D(channels).to("meta").eval(), 16) for channels in (3, 2))
    assert {"rgb": round(rgb / 1e9, 3), "flow": round(flow / 1e9, 3)} == GMACS["i3d"]
    head = 1024 * 400  # one product of the Kinetics head; the sums that are usually printed have it
    assert (round((rgb + head) / 1e9, 2), round((flow + head) / 1e9, 2)) == (27.79, 25.59)
    assert round((rgb + flow) / 1e9, 3) == 53.372
    batch_norm = 2 * 2 * 22_264_032  # the supplement's 53.46 GMac count two per element that is normalised, in two streams
    assert round((rgb + flow + batch_norm) / 1e9, 3) == 53.461
    assert round(macs(I3D(3).to("meta").eval(), 64) / 1e9, 2) == 111.15


@pytest.mark.parametrize("length", [10, 16, 64, 79])
def test_time_steps_of_mixed_5c(length):
    out = I3D(3).to("meta").eval()(torch.empty(1, 3, length, 224, 224, device="meta"))
    assert out.shape == (1, 1024, -(-length // 8), 7, 7)


@pytest.mark.parametrize(("size", "kernel", "stride", "expected"), [
    (224, 7, 2, (2, 3)), (16, 7, 2, (2, 3)), (112, 3, 2, (0, 1)), (79, 7, 2, (3, 3)), (8, 3, 1, (1, 1)), (4, 2, 2, (0, 0)),
    (5, 2, 2, (0, 1)),
])  # fmt: skip
def test_same_padding(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


@pytest.mark.parametrize("shape", [(4, 8, 8), (5, 9, 9), (7, 8, 9)])
def test_pooling_equals_tensorflows_zero_padding(shape):
    """On inputs behind a ReLU, explicit zero padding and our ways round it agree."""
    x = torch.rand(2, 3, *shape)
    for kernel, stride in (((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((2, 2, 2), (2, 2, 2))):
        pads = [same_padding(n, k, s) for n, k, s in zip(shape, kernel, stride, strict=True)]
        padded = F.pad(x, [cell for pad in reversed(pads) for cell in pad])
        torch.testing.assert_close(MaxPool3dSame(kernel, stride)(x), F.max_pool3d(padded, kernel, stride), rtol=0, atol=0)


def test_first_convolution_against_scipy():
    """The asymmetric padding (2, 3) of the 7×7×7 stride-2 convolution, by an independent correlation."""
    from scipy.ndimage import correlate

    torch.manual_seed(0)
    unit = Unit3d(1, 1, 7, 2).eval()
    x = torch.rand(1, 1, 8, 12, 12)
    with torch.no_grad():
        ours = unit(x)[0, 0].numpy()
    kernel = unit.conv.weight[0, 0].detach().numpy()
    dense = correlate(x[0, 0].numpy(), kernel, mode="constant")  # centred: output i sees i−3 … i+3
    expected = np.maximum(dense[1::2, 1::2, 1::2] / np.sqrt(1 + 1e-3), 0)  # front padding 2 puts the first centre at 1
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.fixture(scope="module")
def cricket(shared):
    folder = shared / "references/kinetics_i3d"
    with Image.open(folder / "v_CricketShot_g04_c01_rgb.gif") as gif:
        frames = []
        for index in range(gif.n_frames):
            gif.seek(index)
            frames.append(np.asarray(gif.convert("RGB")))
    video = torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)[None].float() / 255 * 2 - 1
    return video, np.load(folder / "cricketshot_rgb_scratch_reference.npz")


@pytest.mark.parametrize("folded", [False, True])
def test_golden_activations(kinetics, cricket, folded):
    """DeepMind's CricketShot clip, against two independent implementations' numbers (`docs/facts.md`)."""
    video, reference = cricket
    model = weights.build("i3d", "rgb", kinetics, head=True)
    if folded:
        model.fold()
    with torch.inference_mode():
        mixed_5c = model(video)
        logits = model.logits(mixed_5c)[0].numpy()
    pooled = F.avg_pool3d(mixed_5c, (2, 7, 7), stride=1)[0, :, :, 0, 0].T.numpy()
    assert np.abs(logits - reference["logits"]).max() < 1e-4
    assert np.abs(pooled - reference["avgpool_1024"]).max() < 1e-5
    assert logits.argmax() == 227
    assert abs(np.linalg.norm(logits) - 83.2416) < 1e-3


def test_mean_of_a_windows_map_is_the_official_pooled_feature(kinetics, cricket):
    video, _ = cricket
    model = weights.build("i3d", "rgb", kinetics).fold()
    with torch.inference_mode():
        official = F.avg_pool3d(model(video[:, :, :16]), (2, 7, 7), stride=1).flatten(1)
        ours = model.maps(video[:, :, :16]).mean((2, 3))
    torch.testing.assert_close(ours, official, atol=1e-6, rtol=1e-5)


def test_folding_uses_the_right_eps(kinetics, cricket):
    """With torch's default eps of 1e-5 the activations move by far more than the golden tolerance."""
    video, reference = cricket
    right, model = weights.build("i3d", "rgb", kinetics), weights.build("i3d", "rgb", kinetics, eps=1e-5)
    for network, eps in ((right, 1e-3), (model, 1e-5)):
        assert {module.eps for module in network.modules() if isinstance(module, nn.BatchNorm3d)} == {eps}
    with torch.inference_mode():
        pooled = F.avg_pool3d(model.fold()(video), (2, 7, 7), stride=1)[0, :, :, 0, 0].T.numpy()
    assert np.abs(pooled - reference["avgpool_1024"]).max() > 1e-3
