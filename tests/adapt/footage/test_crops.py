"""Training crops lie in the frame, are alike in a clip, and mirror flow's x; evaluation sees the centre."""

import numpy as np
import torch
from cia_adapt.footage.crops import PAIRS, SCALES, cropped, draw
from cia_extract.clips.picture import centre_crop


def frames(channels: int = 3, height: int = 40, width: int = 60) -> torch.Tensor:
    """[2, 3, C, H, W] uint8."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, channels, height, width)).astype(np.uint8))


def test_without_crops_it_is_the_centre_that_extraction_sees():
    for size in (32, 33):
        seen = cropped(frames(), None, size, False)
        expected = centre_crop(frames()[1, 2].permute(1, 2, 0).numpy(), size)
        assert (seen[1, 2].permute(1, 2, 0).numpy() == expected).all() and seen.dtype == torch.float32


def test_without_jitter_a_drawn_crop_is_the_centre():
    crops = torch.from_numpy(draw(2, False, False, np.random.default_rng(0)))
    assert torch.equal(cropped(frames(), crops, 32, False), cropped(frames(), None, 32, False))


def test_crops_have_tsns_sizes_and_reach_every_edge():
    crops = draw(5000, True, True, np.random.default_rng(0))
    assert {tuple(pair) for pair in crops[:, :2].tolist()} == {tuple(pair) for pair in PAIRS.tolist()}
    assert len(PAIRS) == 10 and PAIRS.min() == np.float32(min(SCALES))
    assert crops[:, 2:4].min() < 0.01 and crops[:, 2:4].max() > 0.99 and 0.45 < crops[:, 4].mean() < 0.55
    # A ramp over the width: its ends are seen by some crop, and nothing beyond.
    ramp = torch.arange(60).repeat(1, 1, 40, 1).to(torch.uint8)[None]
    ends = [cropped(ramp, torch.tensor([[0.66, 0.66, 0.5, right, 0]]), 26, False)[..., [0, -1]] for right in (0, 0.999)]
    assert ends[0].min() == 0 and ends[1].max() == 59


def test_all_frames_of_a_clip_are_cropped_alike_and_scaled_to_one_size():
    still = frames()[:, :1].repeat(1, 3, 1, 1, 1)
    crops = torch.from_numpy(draw(2, True, True, np.random.default_rng(3)))
    seen = cropped(still, crops, 32, False)
    assert seen.shape == (2, 3, 3, 32, 32)
    assert torch.equal(seen[:, 0], seen[:, 2]) and not torch.equal(seen[0], seen[1])


def test_a_mirrored_flow_has_the_other_sign_of_x_and_the_same_y():
    flow = frames(channels=4)  # x, y, x, y
    straight, mirrored = (cropped(flow, torch.tensor([[0, 0, 0, 0, flip]] * 2), 32, True) for flip in (0, 1))
    assert torch.equal(mirrored[:, :, 0::2], 255 - straight[:, :, 0::2].flip(-1))
    assert torch.equal(mirrored[:, :, 1::2], straight[:, :, 1::2].flip(-1))
    rgb = frames()
    straight, mirrored = (cropped(rgb, torch.tensor([[0, 0, 0, 0, flip]] * 2), 32, False) for flip in (0, 1))
    assert torch.equal(mirrored, straight.flip(-1))
