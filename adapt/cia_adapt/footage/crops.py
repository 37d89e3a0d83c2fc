"""From cached frames to what a backbone sees: jittered crops and mirroring in training, the centre crop in evaluation.

Training crops are those of TSN (Wang et al. 2016, https://github.com/yjxiong/tsn-pytorch, transforms.py, GroupMultiScaleCrop):
height and width are shares 1, ⅞, ¾, 0.66 of the shorter side, at most one step apart, resized to the network's size. They lie
anywhere in the frame (TSN takes one of 13 places), the same in all frames and modalities of a clip. Mirroring turns the sign of
flow's x (as TSN, and MM-SADA: https://github.com/jonmun/MM-SADA-code, crops.py).
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

SCALES: Final = (1.0, 0.875, 0.75, 0.66)
PAIRS: Final = np.array([(h, w) for i, h in enumerate(SCALES) for j, w in enumerate(SCALES) if abs(i - j) <= 1], np.float32)

Crops = npt.NDArray[np.float32]
"""[B, 5]: height and width in shares of the shorter side (0: the centre crop), place from top and left (0 … 1), 1: mirrored."""


def draw(clips: int, jitter: bool, flip: bool, random: np.random.Generator) -> Crops:
    """How each of so many clips is cropped."""
    crops = np.zeros((clips, 5), np.float32)
    if jitter:
        crops[:, :2] = PAIRS[random.integers(len(PAIRS), size=clips)]
        crops[:, 2:4] = random.random((clips, 2))
    if flip:
        crops[:, 4] = random.integers(2, size=clips)
    return crops


def cropped(frames: Tensor, crops: Tensor | None, size: int, is_flow: bool) -> Tensor:
    """Frames [B, S, C, H, W] uint8 → [B, S, C, size, size] float32 in 0 … 255; without `crops` the centre crop."""
    if crops is None:
        return _centre(frames, size).float()
    return torch.stack([_one(clip, crop, size, is_flow) for clip, crop in zip(frames, crops.tolist(), strict=True)])


def _one(clip: Tensor, crop: list[float], size: int, is_flow: bool) -> Tensor:
    """[S, C, H, W] → [S, C, size, size]."""
    height_share, width_share, down, right, mirrored = crop
    if height_share:
        shorter = min(clip.shape[-2:])
        height, width = round(height_share * shorter), round(width_share * shorter)
        top, left = (
            int(place * (side - part + 1))
            for place, side, part in zip((down, right), clip.shape[-2:], (height, width), strict=True)
        )
        part = clip[..., top : top + height, left : left + width].float()
        # Antialiased, as Pillow resizes: 256 px become 224.
        out = part if part.shape[-2:] == (size, size) else F.interpolate(part, (size, size), mode="bilinear", antialias=True)
    else:
        out = _centre(clip, size).float()
    if mirrored:
        out = out.flip(-1)
        if is_flow:
            out[:, ::2] = 255 - out[:, ::2]
    return out


def _centre(frames: Tensor, size: int) -> Tensor:
    """The same pixels as `cia_extract`'s centre crop."""
    top, left = (frames.shape[-2] - size) // 2, (frames.shape[-1] - size) // 2
    return frames[..., top : top + size, left : left + size]
