"""Inception-I3D up to `Mixed_5c`, and its Kinetics-400 head.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, https://arxiv.org/abs/1705.07750. Written from
its figure 3, with the channels, SAME padding (TensorFlow's: more behind than before where it is odd) and batch normalisation
without scale of https://github.com/google-deepmind/kinetics-i3d (i3d.py); the names are those of DeepMind's TensorFlow
checkpoints with "/" as ".".

Shapes: input [B, 3 or 2, L, 224, 224] in [−1, 1]; `Mixed_5c` [B, 1024, ⌈L/8⌉, 7, 7]; L = 16 frames gives 2 time slices.
"""

from collections import OrderedDict
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_NORM_EPS: Final = 1e-3  # TensorFlow's value; 1e-5, torch's default, is a known mistake of ports
FEATURE_CHANNELS: Final = 1024

# Output channels: branch 0 | branch 1 (1×1, 3×3) | branch 2 (1×1, 3×3) | branch 3 (1×1 after the pool)
INCEPTION: Final = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}

Triple = tuple[int, int, int]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one dimension, (front, back) in cells; the odd one goes to the back.

    >>> same_padding(224, 7, 2), same_padding(112, 3, 2), same_padding(79, 7, 2)
    ((2, 3), (0, 1), (3, 3))
    """
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


class Unit3d(nn.Module):
    """3D convolution without bias and with SAME padding, then batch normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=False)
        self.bn: nn.Module = nn.BatchNorm3d(out_channels, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, L, H, W] → [B, out, ⌈L/stride⌉, ⌈H/stride⌉, ⌈W/stride⌉]."""
        kernel, stride = self.conv.kernel_size, self.conv.stride
        pads = [same_padding(size, k, s) for size, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
        if all(front == back for front, back in pads):
            x = F.conv3d(x, self.conv.weight, self.conv.bias, self.conv.stride, tuple(front for front, _ in pads))
        else:
            x = F.pad(x, [cell for pad in reversed(pads) for cell in pad])
            x = F.conv3d(x, self.conv.weight, self.conv.bias, self.conv.stride)
        return F.relu_(self.bn(x))

    def fold(self) -> None:
        """Move the batch normalisation into the convolution: the same function, half the memory traffic. Not reversible.

        `nn.utils.fuse_conv_bn_eval` multiplies by rsqrt and so rounds 0.4 % of the weights otherwise; files of before must be
        continued with the same bytes.
        """
        if not isinstance(self.bn, nn.BatchNorm3d):
            return
        variance, mean = self.bn.running_var, self.bn.running_mean
        assert variance is not None and mean is not None
        scale = self.bn.weight / torch.sqrt(variance + self.bn.eps)
        with torch.no_grad():
            self.conv.weight.mul_(scale[:, None, None, None, None])
            self.conv.bias = nn.Parameter(self.bn.bias - mean * scale)
        self.bn = nn.Identity()


class MaxPool3dSame(nn.Module):
    """Max pooling with SAME padding. Padding with −∞ equals TensorFlow's zeros, since every input is behind a ReLU."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, L, H, W] → the maxima, each axis shortened to ⌈length/stride⌉."""
        pads = [same_padding(size, k, s) for size, k, s in zip(x.shape[2:], self.kernel, self.stride, strict=True)]
        if all(front == back for front, back in pads):
            return F.max_pool3d(x, self.kernel, self.stride, tuple(front for front, _ in pads))
        if all(front == 0 for front, _ in pads):  # (0, 1): what ceil_mode does, without a padded copy
            return F.max_pool3d(x, self.kernel, self.stride, ceil_mode=True)
        x = F.pad(x, [cell for pad in reversed(pads) for cell in pad], value=float("-inf"))
        return F.max_pool3d(x, self.kernel, self.stride)


def _branch(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


class Inception3d(nn.Module):
    """One Inception block: four branches, concatenated over channels."""

    def __init__(self, name: str, in_channels: int) -> None:
        super().__init__()
        b0, b1_reduce, b1, b2_reduce, b2, b3 = INCEPTION[name]
        # Mixed_5b's second 3×3 is called 0a in the checkpoint; a typo of its authors, kept so that names match.
        last = "Conv3d_0a_3x3" if name == "Mixed_5b" else "Conv3d_0b_3x3"
        self.Branch_0 = _branch(Conv3d_0a_1x1=Unit3d(in_channels, b0, 1))
        self.Branch_1 = _branch(Conv3d_0a_1x1=Unit3d(in_channels, b1_reduce, 1), Conv3d_0b_3x3=Unit3d(b1_reduce, b1, 3))
        self.Branch_2 = _branch(Conv3d_0a_1x1=Unit3d(in_channels, b2_reduce, 1), **{last: Unit3d(b2_reduce, b2, 3)})
        self.Branch_3 = _branch(MaxPool3d_0a_3x3=MaxPool3dSame((3, 3, 3), (1, 1, 1)), Conv3d_0b_1x1=Unit3d(in_channels, b3, 1))
        self.out_channels = b0 + b1 + b2 + b3

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, L, H, W] → [B, out_channels, L, H, W]."""
        return torch.cat([self.Branch_0(x), self.Branch_1(x), self.Branch_2(x), self.Branch_3(x)], dim=1)


class I3D(nn.Module):
    """The trunk up to `Mixed_5c`; `head` adds the 400-way Kinetics classifier, needed only to check weights."""

    def __init__(self, in_channels: int = 3, head: bool = False) -> None:
        super().__init__()
        trunk: OrderedDict[str, nn.Module] = OrderedDict()
        trunk["Conv3d_1a_7x7"] = Unit3d(in_channels, 64, 7, 2)
        trunk["MaxPool3d_2a_3x3"] = MaxPool3dSame((1, 3, 3), (1, 2, 2))
        trunk["Conv3d_2b_1x1"] = Unit3d(64, 64, 1)
        trunk["Conv3d_2c_3x3"] = Unit3d(64, 192, 3)
        trunk["MaxPool3d_3a_3x3"] = MaxPool3dSame((1, 3, 3), (1, 2, 2))
        channels = 192
        for name in INCEPTION:
            if name == "Mixed_4b":
                trunk["MaxPool3d_4a_3x3"] = MaxPool3dSame((3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                trunk["MaxPool3d_5a_2x2"] = MaxPool3dSame((2, 2, 2), (2, 2, 2))
            block = Inception3d(name, channels)
            trunk[name], channels = block, block.out_channels
        self.trunk = nn.Sequential(trunk)
        self.Logits = _branch(Conv3d_0c_1x1=nn.Conv3d(channels, 400, 1)) if head else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3 or 2, L, 224, 224] → `Mixed_5c` [B, 1024, ⌈L/8⌉, 7, 7], after the ReLU."""
        out: Tensor = self.trunk(x)
        return out

    def maps(self, x: Tensor) -> Tensor:
        """[B, 3 or 2, 16, 224, 224] → [B, 1024, 7, 7]: `Mixed_5c` averaged over its time slices."""
        return self(x).mean(dim=2)

    def logits(self, mixed_5c: Tensor) -> Tensor:
        """`Mixed_5c` [B, 1024, t ≥ 2, 7, 7] → Kinetics-400 logits [B, 400], the official head: averages of 2×7×7 cells."""
        if self.Logits is None:
            raise ValueError("this I3D was built without its Kinetics head; use I3D(head=True)")
        pooled = F.avg_pool3d(mixed_5c, (2, 7, 7), stride=1)
        out: Tensor = self.Logits(pooled)
        return out.flatten(2).mean(dim=2)

    def fold(self) -> "I3D":
        """Fold every batch normalisation into its convolution, for inference. Returns itself, in evaluation mode."""
        self.eval()
        for module in self.modules():
            if isinstance(module, Unit3d):
                module.fold()
        return self
