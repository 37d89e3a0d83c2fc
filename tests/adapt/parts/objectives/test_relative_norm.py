from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import relative_norm as rna
from cia_extract.common.errors import UsageError

from tests.adapt.objective_parts import CLIPS, SOURCE, arrays, output, step
from tests.adapt.runs_of import trained_and_resumed, trainer_of

FIRST, SECOND = torch.tensor([[3.0, 4], [0, 5]]), torch.tensor([[1.0, 0], [0, 3]])  # norms {5, 5} and {1, 3}
THREE = Sizes({}, {}, (3,), 5, 0.0, videos={"rgb": 8, "flow": 8, "audio": 8})


def test_values_and_gradient_known_from_the_formula():
    first = FIRST.clone().requires_grad_()
    loss = rna.relative_norm(first, SECOND)
    assert float(loss.detach()) == pytest.approx(2.25) and float(rna.relative_norm(SECOND, FIRST)) == pytest.approx(0.36)
    torch.testing.assert_close(torch.autograd.grad(loss, first)[0][0], torch.tensor([0.45, 0.60]))


def test_the_sum_over_domains_and_pairs_of_modalities():
    generator = torch.Generator().manual_seed(3)
    raw = {m: torch.randn(CLIPS, 5, 8, generator=generator).requires_grad_() for m in ("rgb", "flow", "audio")}
    of, at = replace(output(("rgb", "flow", "audio")), raw=raw), step()
    term = rna.build(THREE, rna.Options(0.5))(of, at)
    expected = 0.0
    for rows in (range(SOURCE), range(SOURCE, CLIPS)):
        norms = {m: np.mean([np.linalg.norm(np.maximum(arrays(x)[i], 0).mean(0)) for i in rows]) for m, x in raw.items()}
        expected += sum((norms[a] / norms[b] - 1) ** 2 for a, b in combinations(raw, 2))
    assert float(term.loss.detach()) == pytest.approx(0.5 * expected, rel=1e-5)
    assert all(x.any() for x in torch.autograd.grad(term.loss, list(raw.values())))


def test_features_that_are_all_zero_give_a_finite_loss_and_gradient():
    raw = {m: (-torch.ones(CLIPS, 5, 8)).requires_grad_() for m in ("rgb", "flow", "audio")}
    term = rna.build(THREE, rna.Options())(replace(output(("rgb", "flow", "audio")), raw=raw), step())
    assert torch.isfinite(term.loss)
    assert all(torch.isfinite(x).all() for x in torch.autograd.grad(term.loss, list(raw.values())))


@pytest.mark.parametrize("normalise", [True, False])
def test_it_sees_norms_before_any_normalisation(small_file, normalise):
    """Twice the weights of a shared layer are twice the norm, also where the layer normalises afterwards."""
    trainer, _ = trainer_of(small_file, "rna", normalise=normalise, dropout=0.0)
    draw = trainer.draws()[0]
    (view,) = trainer.read(draw)
    norms = []
    for _ in range(2):
        term = trainer.objectives["relative_norm"](trainer.model(view), trainer._step(draw, []))
        norms.append(float(term.metrics["norm_rgb"]))
        with torch.no_grad():
            for parameter in trainer.model.shared["rgb"].parameters():
                parameter *= 2
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-5)


def test_training_brings_the_norms_together(small_file):
    trainer, _ = trainer_of(small_file, "rna", epochs=8)
    with torch.no_grad():
        for parameter in trainer.model.shared["rgb"].parameters():
            parameter *= 3
    history = [trainer.epoch() for _ in range(8)]
    assert history[-1]["relative_norm_loss"] < 0.2 * history[0]["relative_norm_loss"]


def test_a_joint_head_alone_is_refused(small_file):
    with pytest.raises(UsageError, match="relative_norm: compares modalities; it needs two of them"):
        trainer_of(small_file, "rna", head="concat")


@pytest.mark.parametrize("options", [{}, {"head": "blend"}, {"shared_features": 0}])
def test_trains_and_goes_on(small_file, tmp_path, options):
    history = trained_and_resumed(small_file, "rna", tmp_path, **options)
    assert all(epoch["norm_rgb"] > 0 for epoch in history)
