import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import feature_norm as afn

from tests.adapt.objective_parts import CLIPS, SOURCE, arrays, output, step
from tests.adapt.runs_of import trained_and_resumed

SIZES = Sizes({}, {}, (3,), 5, 0.0)


def test_gradient_known_from_the_formula():
    features = torch.tensor([[3.0, 4.0]], requires_grad=True)
    loss = afn.feature_norm(features)
    assert float(loss.detach()) == 1
    torch.testing.assert_close(torch.autograd.grad(loss, features)[0], torch.tensor([[-1.2, -1.6]]))


def test_each_domain_counts_alike_and_every_clip_is_pushed_outwards():
    """The gradient of a clip is −2Δr along its feature, over the clips of its domain and the streams."""
    of, at = output(), step()
    term = afn.build(SIZES, afn.Options(0.5, 2.0))(of, at)
    for features, gradient in zip(of.videos.values(), torch.autograd.grad(term.loss, list(of.videos.values())), strict=True):
        for i, (f, g) in enumerate(zip(arrays(features), arrays(gradient), strict=True)):
            clips = SOURCE if i < SOURCE else CLIPS - SOURCE
            np.testing.assert_allclose(g, -0.5 * 2 * 2.0 * f / np.linalg.norm(f) / clips / 2, rtol=1e-5)
    norms = [np.mean([np.linalg.norm(f) for x in of.videos.values() for f in arrays(x)[SOURCE:]])]
    assert float(term.metrics["target_feature_norm"]) == pytest.approx(norms[0], rel=1e-5)


def test_a_feature_of_zero_has_a_finite_gradient():
    features = torch.zeros(2, 3, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(afn.feature_norm(features), features)[0]).all()


@pytest.mark.parametrize(("head", "sets"), [("concat", ()), ("average", ())])
def test_trains_and_goes_on(small_file, tmp_path, head, sets):
    history = trained_and_resumed(small_file, "afn", tmp_path, head=head, sets=sets)
    assert all(epoch["source_feature_norm"] > 0 and epoch["target_feature_norm"] > 0 for epoch in history)


def test_training_makes_the_norms_grow(small_file, tmp_path):
    strong, weak = (
        trained_and_resumed(small_file, "afn", tmp_path, sets=[f"feature_norm.weight={weight}"], normalise=False)
        for weight in (10.0, 0.0)
    )
    assert strong[-1]["target_feature_norm"] > 1.2 * weak[-1]["target_feature_norm"]
