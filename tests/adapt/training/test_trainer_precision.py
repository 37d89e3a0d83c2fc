"""`--precision bf16`: 16 bits on the way, the same training."""

import pytest
import torch
from cia_adapt import config
from cia_adapt.training.evaluate import Evaluator
from cia_adapt.training.trainer import Trainer

from tests.adapt.runs_of import CPU, quick_first, trainer_of


def test_bf16_is_close_to_fp32(small_file):
    trainer, evaluator = trainer_of(small_file, "cia")
    exact = evaluator.predict(trainer.model, trainer.task.target_val)
    rough = Evaluator(trainer.task, evaluator.target_labels, 5, CPU, "bf16").predict(trainer.model, trainer.task.target_val)
    assert not torch.equal(exact.features, rough.features)
    assert float((exact.features - rough.features).abs().max()) < 0.02 * float(exact.features.abs().max())


@pytest.mark.parametrize("method", ["cia", "cia-inject", "cia-average", "sc-identity"])
def test_gradients_of_mc_and_sc_in_bf16_point_where_fp32s_do(small_file, method):
    trainer, _ = trainer_of(small_file, method, dropout=0.0)
    trainer.epoch()
    draw = trainer.draws()[0]
    (view,) = trainer.read(draw)
    found = []
    for rounded in (False, True):
        trainer.model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            output = trainer.model(view)
            task, domain, _ = trainer._losses([output], trainer._step(draw, [output]))
        (task + sum(domain.values())).backward()
        found.append({name: p.grad.clone() for name, p in trainer.model.named_parameters()})
    for name, exact in found[0].items():
        assert float(torch.cosine_similarity(exact.flatten(), found[1][name].flatten(), dim=0)) > 0.99, name


@pytest.mark.parametrize("method", quick_first(config.names("methods")))
def test_every_method_trains_in_bf16_as_in_fp32(small_file, method):
    exact, _ = trainer_of(small_file, method, dropout=0.0, lr=1e-4)
    rough = Trainer(exact.task, exact.setup, exact.method, 0, CPU, "bf16")
    losses = [trainer.epoch()["class_loss"] for trainer in (exact, rough)]
    assert losses[1] == pytest.approx(losses[0], rel=0.03) and losses[1] != losses[0]
