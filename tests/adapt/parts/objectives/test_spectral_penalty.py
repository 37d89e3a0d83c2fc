import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import spectral_penalty as bsp
from cia_extract.common.errors import DivergedError

from tests.adapt.objective_parts import SOURCE, X, Y, arrays, output, step
from tests.adapt.runs_of import trained_and_resumed, trainer_of

SIZES = Sizes({}, {}, (3,), 5, 0.0)


def slow_penalty(features: np.ndarray, count: int = 1) -> float:
    """By the eigenvalues of FᵀF."""
    return float(sorted(np.linalg.eigvalsh(features.T @ features), reverse=True)[:count] @ np.ones(count))


def test_value_known_from_the_formula():
    assert float(bsp.spectral_penalty(X) + bsp.spectral_penalty(Y)) == pytest.approx(16, rel=1e-5)
    assert slow_penalty(arrays(X)) + slow_penalty(arrays(Y)) == pytest.approx(16)


@pytest.mark.parametrize("count", [1, 2])
def test_domains_are_summed_and_streams_averaged(count):
    of, at = output(), step()
    term = bsp.build(SIZES, bsp.Options(0.5, count))(of, at)
    expected = np.mean(
        [slow_penalty(arrays(x)[:SOURCE], count) + slow_penalty(arrays(x)[SOURCE:], count) for x in of.videos.values()]
    )
    assert float(term.loss.detach()) == pytest.approx(0.5 * expected, rel=1e-5)
    assert all(torch.isfinite(x).all() and x.any() for x in torch.autograd.grad(term.loss, list(of.videos.values())))


def test_equal_singular_values_have_a_finite_gradient():
    features = torch.eye(3, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(bsp.spectral_penalty(features), features)[0]).all()


def test_features_that_are_not_finite_stop_the_run_with_one_line(small_file):
    trainer, _ = trainer_of(small_file, "bsp")
    trainer.task.source_train.clips.readers["rgb"].blocks[:, 3] = torch.nan
    with pytest.raises(DivergedError, match="the loss is nan at step 1"):
        trainer.epoch()


@pytest.mark.parametrize("head", ["concat", "average"])
def test_trains_and_goes_on(small_file, tmp_path, head):
    history = trained_and_resumed(small_file, "bsp", tmp_path, head=head)
    assert all(epoch["spectral_penalty"] > 0 and "video_domain_loss" in epoch for epoch in history)
