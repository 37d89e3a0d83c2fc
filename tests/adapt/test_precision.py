"""`--precision bf16`: 16 bits on the way, the same training."""

import pytest
import torch
from cia_adapt import config
from cia_adapt.evaluate import Evaluator
from cia_adapt.train import Trainer

from tests.adapt.runs_of import CPU, trainer_of


def test_bf16_is_close_to_fp32(small_file):
    trainer, evaluator = trainer_of(small_file, "cia")
    exact = evaluator.predict(trainer.model, trainer.task.target_val)
    rough = Evaluator(trainer.task, evaluator.target_labels, 5, CPU, "bf16").predict(trainer.model, trainer.task.target_val)
    assert not torch.equal(exact.features, rough.features)
    assert float((exact.features - rough.features).abs().max()) < 0.02 * float(exact.features.abs().max())


@pytest.mark.parametrize("method", config.names("methods"))
def test_every_method_trains_in_bf16_as_in_fp32(small_file, method):
    exact, _ = trainer_of(small_file, method, dropout=0.0, lr=1e-4)
    rough = Trainer(exact.task, exact.setup, exact.method, 0, CPU, "bf16")
    losses = [trainer.epoch()["class_loss"] for trainer in (exact, rough)]
    assert losses[1] == pytest.approx(losses[0], rel=0.03) and losses[1] != losses[0]
