"""Fully connected parts: classifier, discriminator and the shared layer before them.

Output layers start from N(0, 0.001²) as in TSN and TA3N, so that all classes start equally likely. Hidden layers start from
torch's own initialisation: two layers of standard deviation 0.001 in a row pass hardly any gradient, and a run of few steps would
end before it has learnt anything.
"""

from torch import Tensor, nn

OUTPUT_SD = 0.001


def output_layer(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer from `inputs` to `outputs` features; weights drawn from N(0, 0.001²), bias zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0, OUTPUT_SD)
    nn.init.zeros_(layer.bias)
    return layer


class SharedLayer(nn.Module):
    """FC, ReLU, dropout on frame features [B, S, D_in] → [B, S, D_out]; source and target share it (TA3N's first layer).

    Features are positive: Adam's first steps at 3e-3 therefore move all weights of a unit the same way, and with them its output
    for every clip, and more than eight of ten units die. A start by the source's features with a warm-up of the rate keeps them
    alive (`--initialise data --warm-up 0.1`). So does `normalise`, a layer normalisation without parameters before the ReLU, but
    then the paper's λ = 1 is too strong for CIA (all in benchmarks/STUDY-DEFAULTS.md).
    """

    def __init__(self, inputs: int, outputs: int, dropout: float, normalise: bool = False) -> None:
        super().__init__()
        norm = [nn.LayerNorm(outputs, elementwise_affine=False)] if normalise else []
        self.layers = nn.Sequential(nn.Linear(inputs, outputs), *norm, nn.ReLU(), nn.Dropout(dropout))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, D_in] → [B, S, D_out], each frame by itself; and the same as it is before normalisation, ReLU and dropout."""
        linear, *others = self.layers
        raw: Tensor = linear(frames)  # [B, S, D_out]
        out = raw
        for layer in others:
            out = layer(out)
        return out, raw


def discriminator(inputs: int, hidden: int) -> nn.Sequential:
    """A domain classifier from `inputs` features to two logits (0 source, 1 target), as `two_layers`."""
    return two_layers(inputs, hidden, 2)


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A classifier of its own for an objective: FC, ReLU, FC from `inputs` features to `outputs` logits.

    `hidden` is the width of the layer between; 0 makes it as wide as the input (TA3N's).
    """
    return nn.Sequential(nn.Linear(inputs, hidden or inputs), nn.ReLU(), output_layer(hidden or inputs, outputs))
