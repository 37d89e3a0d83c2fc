"""Fully connected parts: classifier, discriminator and the shared layer before them.

Output layers start from N(0, 0.001²) as in TSN and TA3N, so that every class starts as likely. Hidden layers start from torch's
own initialisation: two layers of standard deviation 0.001 in a row pass hardly any gradient, and a run of few steps ends
before it has begun.
"""

from torch import Tensor, nn

OUTPUT_SD = 0.001


def output_layer(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer drawn from N(0, 0.001²) with zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0, OUTPUT_SD)
    nn.init.zeros_(layer.bias)
    return layer


class SharedLayer(nn.Module):
    """FC, ReLU, dropout on frame features [B, S, D_in] → [B, S, D_out]; source and target share it (TA3N's first layer).

    With `normalise` a layer normalisation without parameters stands before the ReLU: features are positive, so that Adam's first
    steps at 3e-3 move all of a unit's weights, and with them its answer to every clip, one way. Without, more than eight of ten
    units never answer again; with it, the paper's λ = 1 is too much for CIA (both in benchmarks/STUDY.md).
    """

    def __init__(self, inputs: int, outputs: int, dropout: float, normalise: bool = False) -> None:
        super().__init__()
        norm = [nn.LayerNorm(outputs, elementwise_affine=False)] if normalise else []
        self.layers = nn.Sequential(nn.Linear(inputs, outputs), *norm, nn.ReLU(), nn.Dropout(dropout))

    def forward(self, frames: Tensor) -> Tensor:
        out: Tensor = self.layers(frames)
        return out


def discriminator(inputs: int, hidden: int) -> nn.Sequential:
    """FC, ReLU, FC to two domain logits (0 source, 1 target); `hidden` 0: as wide as the input (TA3N's)."""
    return nn.Sequential(nn.Linear(inputs, hidden or inputs), nn.ReLU(), output_layer(hidden or inputs, 2))
