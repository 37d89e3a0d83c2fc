"""The trainable backbone: its maps are the frozen network's, its gradient is right, and what shall not train does not."""

from dataclasses import replace

import pytest
import torch
from cia_adapt import config
from cia_adapt.footage import Pictures, built, grid, maps_of_a_clip
from cia_extract.common.errors import UsageError
from cia_extract.networks import weights
from torch import nn

from tests.adapt.clips_of import TINY


def setup(**changes) -> config.Setup:
    return replace(config.load("demo-i3d", "source-only", {}).setup, **(TINY | changes))


def trunk(modalities=("rgb", "flow"), checkpointing=False, **changes):
    made = setup(**changes)
    loaded = {m: weights.load(made.backbone, m, "random", print) for m in modalities}
    recipe = Pictures(made.backbone, modalities, 4, 32, 40, "dis").recipe
    return built(loaded, recipe, made, checkpointing)


def inputs(clips=2, modalities=("rgb", "flow"), channels=None) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels = channels or {"rgb": 3, "flow": 2}
    return {m: torch.randint(0, 256, (clips, 4, channels[m], 32, 40), generator=generator, dtype=torch.uint8) for m in modalities}


def test_in_evaluation_it_gives_the_maps_of_the_frozen_network():
    made = trunk().eval()
    maps = made(inputs())
    for modality, channels in (("rgb", 3), ("flow", 2)):
        network = weights.build("i3d", modality, weights.load("i3d", modality, "random", print))
        centre = inputs()[modality][..., 4:36].float().transpose(1, 2)  # [B, C, S, 32, 32]
        assert centre.shape == (2, channels, 4, 32, 32)
        assert torch.allclose(maps[modality][:, 0], network.maps((centre - 127.5) / 127.5), atol=1e-5)
        assert maps[modality].shape == (2, maps_of_a_clip(setup()), 1024, *grid(setup()))


def test_tbn_gives_a_map_of_each_frame():
    made = trunk(backbone="tbn").eval()
    maps = made(inputs(channels={"rgb": 3, "flow": 10}))
    assert maps["rgb"].shape == maps["flow"].shape == (2, maps_of_a_clip(setup(backbone="tbn")), 1024, 1, 1)
    network = weights.build("tbn", "rgb", weights.load("tbn", "rgb", "random", print))
    frame = inputs()["rgb"][1, 2, :, :, 4:36].float()[None] - torch.tensor([104.0, 117.0, 128.0])[:, None, None]
    assert torch.allclose(maps["rgb"][1, 2], network.maps(frame)[0], rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_first_convolution_of_both_streams_and_equal_a_finite_difference():
    """In float64, with batch statistics, for three weights of each stream's first kernel and the last offset."""
    torch.manual_seed(0)
    made = trunk().double().train()
    frames = inputs()
    mix = {m: torch.randn(2, 1, 1024, 1, 1, dtype=torch.float64) for m in frames}

    def loss() -> torch.Tensor:
        maps = made(frames)
        return torch.stack([(maps[m] * mix[m]).sum() for m in maps]).sum()

    loss().backward()
    for modality in frames:
        network = made.streams[modality].trunk
        for parameter, at in (
            *((network.Conv3d_1a_7x7.conv.weight, (c, 0, 3, 3, 2)) for c in (0, 17, 63)),
            (network.Mixed_5c.Branch_0.Conv3d_0a_1x1.bn.bias, (5,)),
        ):
            analytic = float(parameter.grad[at])
            values = []
            for step in (1e-9, -1e-9):  # smaller than the way to the next kink of a ReLU
                with torch.no_grad():
                    parameter[at] += step
                    values.append(float(loss()))
                    parameter[at] -= step
            assert analytic != 0 and (values[0] - values[1]) / 2e-9 == pytest.approx(analytic, rel=1e-4)


def test_checkpointing_changes_neither_gradients_nor_statistics():
    plain, saving = trunk(("rgb",)).train(), trunk(("rgb",), checkpointing=True).train()
    for made in (plain, saving):
        made(inputs(modalities=("rgb",)))["rgb"].square().mean().backward()
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), saving.buffers(), strict=True))
    fresh = trunk(("rgb",))
    assert not all(torch.equal(a, b) for a, b in zip(plain.buffers(), fresh.buffers(), strict=True))


@pytest.mark.parametrize(("mode", "moves"), [("train", True), ("frozen", False)])
def test_frozen_statistics_stay_and_scales_and_offsets_train(mode, moves):
    made = trunk(("rgb",), batch_norm=mode).train()
    before = [buffer.clone() for buffer in made.buffers()]
    made(inputs(modalities=("rgb",)))["rgb"].square().mean().backward()
    assert any(not torch.equal(a, b) for a, b in zip(before, made.buffers(), strict=True)) == moves
    norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm3d)]
    assert norms and all(norm.training == moves and norm.weight.grad is not None for norm in norms)


def test_layers_up_to_the_named_one_are_frozen_with_their_statistics():
    made = trunk(("rgb",), freeze_until="Mixed_4b").train()
    network = made.streams["rgb"].trunk
    assert not any(p.requires_grad for name in ("Conv3d_1a_7x7", "Mixed_4b") for p in network.get_submodule(name).parameters())
    assert all(p.requires_grad for p in network.Mixed_4c.parameters())
    assert not network.Mixed_4b.Branch_0.Conv3d_0a_1x1.bn.training and network.Mixed_4c.Branch_0.Conv3d_0a_1x1.bn.training
    half = trunk(("rgb",), backbone="tbn", freeze_until="inception_3a").streams["rgb"]
    assert not half.inception_3a_pool_proj.weight.requires_grad and half.inception_3b_1x1.weight.requires_grad
    with pytest.raises(UsageError, match=r"--freeze-until Mixed_6z: no such layer, choose from Conv3d_1a_7x7, .*Mixed_5c"):
        trunk(("rgb",), freeze_until="Mixed_6z")
