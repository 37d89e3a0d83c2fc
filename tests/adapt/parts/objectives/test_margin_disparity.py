import math

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import margin_disparity as mdd

from tests.adapt.objective_parts import CLIPS, SOURCE, arrays, output, slow_cross_entropy, slow_mlp, step
from tests.adapt.runs_of import trained_and_resumed
from tests.adapt.shake import shaken

SIZES = Sizes({}, {}, (3, 4), 5, 0.0, videos={"rgb": 8, "flow": 8})


def slow_loss(classifier: np.ndarray, adversary: np.ndarray, source: int, margin: float) -> float:
    agree = [slow_cross_entropy(adversary[i], classifier[i].argmax()) for i in range(source)]
    differ = []
    for z, adv in zip(classifier[source:], adversary[source:], strict=True):
        differ.append(-math.log(1 - math.exp(-slow_cross_entropy(adv, z.argmax())) + 1e-6))
    return margin * float(np.mean(agree)) + float(np.mean(differ))


def test_value_known_from_the_formula():
    source, adversary_source = torch.tensor([[2.0, 0, 0], [0, 1, -1]]), torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    target, adversary_target = torch.tensor([[0.5, 0.4, 0], [0, 0, 1]]), torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    loss = mdd.margin_disparity(source, adversary_source, target, adversary_target, 4.0)
    assert float(loss) == pytest.approx(4.682876, abs=2e-6)
    both = [arrays(torch.cat(pair)) for pair in ((source, target), (adversary_source, adversary_target))]
    assert slow_loss(*both, 2, 4.0) == pytest.approx(4.682876, abs=1e-6)


def test_the_mean_over_streams_and_labels_of_heads_of_its_own():
    of, at = output(heads=(3, 4)), step()
    module = shaken(mdd.build(SIZES, mdd.Options(margin=2.0, hidden=4)))
    term = module(of, at)
    losses = []
    for stream, features in of.videos.items():
        adversary = np.stack([slow_mlp(module.adversaries[stream], x) for x in arrays(features)])
        for columns in (slice(0, 3), slice(3, 7)):
            losses.append(slow_loss(arrays(of.logits[stream])[:, columns], adversary[:, columns], SOURCE, 2.0))
    assert float(term.loss.detach()) == pytest.approx(np.mean(losses), rel=1e-5)
    assert 0 <= float(term.metrics["adversary_agrees"]) <= 100


@pytest.mark.parametrize(("progress", "grown"), [(0.1, 0.462117), (0.5, 0.986614)])
def test_features_get_the_reversed_gradient_and_the_classifier_none(progress, grown):
    of, at = output(heads=(3, 4)), step(progress=progress)
    module = shaken(mdd.build(SIZES, mdd.Options(strength=0.5, hidden=4)))
    gradients = torch.autograd.grad(module(of, at).loss, [*of.videos.values(), *of.logits.values()], allow_unused=True)
    plain = torch.zeros(())
    for stream, features in of.videos.items():
        for z, adv in zip(of.split(of.logits[stream]), of.split(module.adversaries[stream](features)), strict=True):
            plain = plain + mdd.margin_disparity(z[:SOURCE], adv[:SOURCE], z[SOURCE:], adv[SOURCE:], 4.0) / 4
    for mine, theirs in zip(gradients[:2], torch.autograd.grad(plain, list(of.videos.values())), strict=True):
        assert theirs.any() and len(theirs) == CLIPS
        torch.testing.assert_close(mine, -0.5 * grown * theirs, rtol=1e-4, atol=1e-7)
    assert gradients[2:] == (None, None)


def test_a_head_that_agrees_for_certain_has_a_finite_loss_and_gradient():
    sure = (100 * torch.eye(3)).requires_grad_()
    loss = mdd.margin_disparity(sure, sure, sure, sure, 4.0)
    assert float(loss.detach()) == pytest.approx(-math.log(1e-6), rel=0.02)
    assert torch.isfinite(torch.autograd.grad(loss, sure)[0]).all()


@pytest.mark.parametrize("head", ["concat", "average"])
def test_trains_and_goes_on(small_file, tmp_path, head):
    history = trained_and_resumed(small_file, "mdd", tmp_path, head=head)
    assert history[0]["adversary_reversal"] < history[1]["adversary_reversal"] < 0.01  # the set-up's reversal is 0.1
