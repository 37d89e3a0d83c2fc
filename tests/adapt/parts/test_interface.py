import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Output

from tests.adapt.objective_parts import Z, arrays, slow_cross_entropy


def test_label_smoothing_s_value_known_from_the_formula():
    """A value from the formula, and the loop: 1 − ε of the label's cross-entropy, ε of the mean over all classes."""
    labels = torch.tensor([0, 1, 0])
    loss = Output("concat", (3,), {}, {}, {"all": Z}).class_loss(labels[:, None], smoothing=0.1)
    by_clip = [
        0.9 * slow_cross_entropy(z, int(label)) + 0.1 * np.mean([slow_cross_entropy(z, k) for k in range(3)])
        for z, label in zip(arrays(Z), labels, strict=True)
    ]
    assert float(loss) == pytest.approx(0.618390, abs=1e-6)
    assert np.mean(by_clip) == pytest.approx(0.618390, abs=1e-6)
