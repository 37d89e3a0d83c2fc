"""Fully connected parts: classifier, discriminator and the shared layer before them."""

from torch import Tensor, nn

INITIAL_SD = 0.001  # TA3N's and TSN's initialisation of new layers


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer drawn from N(0, 0.001²) with zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0, INITIAL_SD)
    nn.init.zeros_(layer.bias)
    return layer


class SharedLayer(nn.Module):
    """FC, ReLU, dropout on frame features [B, S, D_in] → [B, S, D_out]; source and target share it (TA3N's first layer)."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, frames: Tensor) -> Tensor:
        out: Tensor = self.layers(frames)
        return out


def discriminator(inputs: int, hidden: int) -> nn.Sequential:
    """FC, ReLU, FC to two domain logits (0 source, 1 target)."""
    return nn.Sequential(linear(inputs, hidden), nn.ReLU(), linear(hidden, 2))
