"""What is measured before the first epoch."""

import numpy as np
import pytest
import torch
from cia_adapt.training import pilot
from cia_extract.common.errors import DataError

from tests.adapt.objective_parts import CLASSES, CLIPS, arrays, output, slow_cross_entropy
from tests.adapt.runs_of import trainer_of


def test_mean_losses_count_clips_and_not_batches():
    big, small = output(("rgb", "all"), head="blend"), output(("rgb", "all"), head="blend", seed=1)
    labels = torch.arange(CLIPS) % CLASSES
    with torch.no_grad():
        means = pilot.mean_losses([(big, labels[:, None]), (small, labels[:3, None])], CLIPS + 3)
    for stream in ("rgb", "all"):
        rows = [
            *zip(arrays(big.logits[stream]), labels, strict=True),
            *zip(arrays(small.logits[stream])[:3], labels[:3], strict=True),
        ]
        assert means[stream] == pytest.approx(np.mean([slow_cross_entropy(x, int(k)) for x, k in rows]), rel=1e-5)


def test_gradient_blend_needs_clips_to_hold_out(small_file):
    trainer, _ = trainer_of(small_file, "gblend-fl", sets=("gradient_blend.held_out=0.01",))
    with pytest.raises(DataError, match="holds out 1% of each class, and no class of 'here' has enough") as error:
        pilot.prepare(trainer)
    assert error.value.exit_code == 3
