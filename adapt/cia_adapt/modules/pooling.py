"""Maps and their spatial pooling. Fastest on channels_last tensors, where a cell's channels lie side by side."""

from torch import Tensor


def cells(maps: Tensor) -> Tensor:
    """[B, C, H, W] → [B, HW, C]; a view of a channels_last tensor."""
    return maps.flatten(2).transpose(1, 2)


def weighted_pool(maps: Tensor, weights: Tensor) -> Tensor:
    """Σ_i S(i) F(·, i): [B, C, H, W] and [B, H, W] → [B, C]."""
    return (weights.flatten(1).unsqueeze(1) @ cells(maps)).squeeze(1)


def average_pool(maps: Tensor) -> Tensor:
    """[B, C, H, W] → [B, C]. A product, since torch's mean over the cells of channels_last maps is several times slower."""
    count = maps.shape[2] * maps.shape[3]
    return weighted_pool(maps, maps.new_full((len(maps), count), 1 / count))


def to_float(features: Tensor) -> Tensor:
    """float32; maps [B, C, H, W] get the channels of a cell side by side in memory, as the modules' products want them."""
    if features.ndim < 4:
        return features.float()
    return features.permute(0, 2, 3, 1).float().contiguous().permute(0, 3, 1, 2)
