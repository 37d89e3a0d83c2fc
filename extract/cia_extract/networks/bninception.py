"""BN-Inception up to `inception_5b_output`: one stream of the Temporal Binding Network.

Ioffe and Szegedy, "Batch Normalization", ICML 2015, https://arxiv.org/abs/1502.03167 (the network: its appendix, figure 5);
Kazakos et al., "EPIC-Fusion", ICCV 2019, https://arxiv.org/abs/1908.08498 (three of them: RGB, flow, spectrogram). Written
from the layer table in https://github.com/ekazakos/temporal-binding-network (tf_model_zoo/bninception: convolutions with bias,
pools that round up); parameters have the names of the released checkpoints without the stream's prefix.

Shapes: input [B, 3 | 10 | 1, H, W]: RGB and flow 224², spectrogram 256²; output [B, 1024, ⌈H/32⌉, ⌈W/32⌉], so 7×7 and 8×8.
RGB is expected as B, G, R in 0 … 255 minus (104, 117, 128), flow in 0 … 255 minus 128 as x, y, x, y, …
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_NORM_EPS: Final = 1e-5


class Block(NamedTuple):
    """Output channels of one Inception block's convolutions; 0: the block lacks this one.

    A block without 1×1 convolution and projection halves height and width.
    """

    single: int  # 1×1
    three_reduce: int
    three: int
    double_reduce: int
    double: int
    projection: int

    @property
    def stride(self) -> int:
        """Stride of the last 3×3 convolutions and of the pool: 1, or 2 in a block that halves the map."""
        return 1 if self.single else 2

    def out_channels(self, in_channels: int) -> int:
        """Channels of the concatenated branches; a block without projection passes its pooled input on."""
        return self.single + self.three + self.double + (self.projection or in_channels)


INCEPTION: Final = {
    "3a": Block(64, 64, 64, 64, 96, 32),
    "3b": Block(64, 64, 96, 64, 96, 64),
    "3c": Block(0, 128, 160, 64, 96, 0),
    "4a": Block(224, 64, 96, 96, 128, 128),
    "4b": Block(192, 96, 128, 96, 128, 128),
    "4c": Block(160, 128, 160, 128, 160, 128),
    "4d": Block(96, 128, 192, 160, 192, 128),
    "4e": Block(0, 128, 192, 192, 256, 0),
    "5a": Block(352, 192, 320, 160, 224, 128),
    "5b": Block(352, 192, 320, 192, 224, 128),
}


class Unit(NamedTuple):
    """One convolution, padded to keep the size at stride 1; batch normalisation `<name>_bn` and ReLU follow."""

    name: str
    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1


def units(in_channels: int) -> Iterator[Unit]:
    """The 69 convolutions of a stream with `in_channels` input channels, in the order in which the network computes them."""
    yield Unit("conv1_7x7_s2", in_channels, 64, 7, 2)
    yield Unit("conv2_3x3_reduce", 64, 64, 1)
    yield Unit("conv2_3x3", 64, 192, 3)
    channels = 192
    for name, block in INCEPTION.items():
        prefix = f"inception_{name}"
        if block.single:
            yield Unit(f"{prefix}_1x1", channels, block.single, 1)
        yield Unit(f"{prefix}_3x3_reduce", channels, block.three_reduce, 1)
        yield Unit(f"{prefix}_3x3", block.three_reduce, block.three, 3, block.stride)
        yield Unit(f"{prefix}_double_3x3_reduce", channels, block.double_reduce, 1)
        yield Unit(f"{prefix}_double_3x3_1", block.double_reduce, block.double, 3)
        yield Unit(f"{prefix}_double_3x3_2", block.double, block.double, 3, block.stride)
        if block.projection:
            yield Unit(f"{prefix}_pool_proj", channels, block.projection, 1)
        channels = block.out_channels(channels)


class BNInception(nn.Module):
    """The trunk of one stream. Its modules are flat, like the names in the released checkpoints."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        for unit in units(in_channels):
            convolution = nn.Conv2d(unit.in_channels, unit.out_channels, unit.kernel, unit.stride, unit.kernel // 2)
            self.add_module(unit.name, convolution)
            self.add_module(f"{unit.name}_bn", nn.BatchNorm2d(unit.out_channels, eps=BATCH_NORM_EPS))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → `inception_5b_output` [B, 1024, ⌈H/32⌉, ⌈W/32⌉], after the ReLU."""
        x = _halve(self._unit("conv1_7x7_s2", x))
        x = _halve(self._unit("conv2_3x3", self._unit("conv2_3x3_reduce", x)))
        for name, block in INCEPTION.items():
            x = self._inception(name, block, x)
        return x

    def maps(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → maps [B, 1024, ⌈H/32⌉, ⌈W/32⌉], as `forward`: a frame has no time to average over."""
        out: Tensor = self(x)
        return out

    def fold(self) -> "BNInception":
        """Fold every batch normalisation into its convolution, the same function. Returns itself, in evaluation mode."""
        self.eval()
        for name, module in list(self.named_children()):
            if isinstance(module, nn.BatchNorm2d):
                convolution = getattr(self, name.removesuffix("_bn"))
                setattr(self, name.removesuffix("_bn"), nn.utils.fuse_conv_bn_eval(convolution, module))
                setattr(self, name, nn.Identity())
        return self

    def _unit(self, name: str, x: Tensor) -> Tensor:
        return F.relu_(getattr(self, f"{name}_bn")(getattr(self, name)(x)))

    def _inception(self, name: str, block: Block, x: Tensor) -> Tensor:
        prefix = f"inception_{name}"
        three = self._unit(f"{prefix}_3x3", self._unit(f"{prefix}_3x3_reduce", x))
        double = self._unit(f"{prefix}_double_3x3_1", self._unit(f"{prefix}_double_3x3_reduce", x))
        double = self._unit(f"{prefix}_double_3x3_2", double)
        if block.stride == 2:
            return torch.cat([three, double, _halve(x)], dim=1)
        # The last block pools by maximum, all others by average; padded zeros count, as in Caffe.
        pooled = F.max_pool2d(x, 3, 1, padding=1) if name == "5b" else F.avg_pool2d(x, 3, 1, padding=1)
        projected = self._unit(f"{prefix}_pool_proj", pooled)
        return torch.cat([self._unit(f"{prefix}_1x1", x), three, double, projected], dim=1)


def _halve(x: Tensor) -> Tensor:
    """[B, C, H, W] → [B, C, ⌈(H−1)/2⌉, ⌈(W−1)/2⌉]: Caffe's 3×3 maximum at stride 2, no padding, sizes rounded up."""
    return F.max_pool2d(x, 3, 2, ceil_mode=True)
