"""CDAN against loops written from the paper."""

import math

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.entropy import certainty_weights
from cia_adapt.parts.objectives import conditional_adversarial as cdan
from torch.nn import functional as F

from tests.adapt.objective_parts import CLIPS, Z, arrays, output, slow_cross_entropy, slow_entropy, slow_mlp, step
from tests.adapt.runs_of import trained_and_resumed
from tests.adapt.shake import shaken

WIDTH, HEADS = 8, (3, 4)


def objective(streams=("rgb", "flow"), **options) -> cdan.ConditionalAlignment:
    sizes = Sizes({}, {}, HEADS, 5, 0.0, videos=dict.fromkeys(streams, WIDTH))
    return shaken(cdan.build(sizes, cdan.Options(**{"hidden": 4} | options)))


def slow_weights(logits: np.ndarray) -> list[float]:
    certain = [1 + math.exp(-slow_entropy(row)) for row in logits]
    return [len(logits) * w / sum(certain) for w in certain]


def slow_loss(module: cdan.ConditionalAlignment, of, at) -> float:
    """Product by product, clip by clip, discriminator by discriminator."""
    losses = []
    for stream, features in of.videos.items():
        for label, columns in enumerate((slice(0, 3), slice(3, 7))):
            logits, total = arrays(of.logits[stream])[:, columns], 0.0
            weights = slow_weights(logits) if module.options.entropy else [1.0] * CLIPS
            for i in range(CLIPS):
                p = np.exp(logits[i]) / np.exp(logits[i]).sum()
                joint = np.array([p_k * f_d for p_k in p for f_d in arrays(features)[i]])
                domain = slow_mlp(module.discriminators[f"{stream}_{label}"], joint)
                total += weights[i] * slow_cross_entropy(domain, int(at.is_target[i]))
            losses.append(total / CLIPS)
    return float(np.mean(losses))


def test_values_known_from_the_formulas():
    joint = cdan.multilinear(torch.tensor([[1.0, 2]]), torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(joint, torch.tensor([[0.25, 0.5, 0.75, 1.5]]))
    torch.testing.assert_close(certainty_weights(Z), torch.tensor([1.058604, 1.003384, 0.938012]), atol=1e-6, rtol=0)
    assert slow_weights(arrays(Z)) == pytest.approx([1.058604, 1.003384, 0.938012], abs=1e-6)


@pytest.mark.parametrize("entropy", [False, True])
def test_the_loss_of_the_paper(entropy):
    of, at, module = output(heads=HEADS), step(), objective(entropy=entropy)
    term = module(of, at)
    expected = slow_loss(module, of, at)
    assert float(term.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(term.metrics["conditional_domain_loss"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("progress", "grown"), [(0.1, 0.462117), (0.5, 0.986614)])
def test_features_get_the_reversed_gradient_and_predictions_none(progress, grown):
    of, at, module = output(heads=HEADS), step(progress=progress), objective(strength=2.0)
    term = module(of, at)
    mine = torch.autograd.grad(term.loss, [*of.videos.values(), *of.logits.values()], allow_unused=True)
    plain = torch.zeros(())
    for stream, features in of.videos.items():
        for label, logits in enumerate(of.split(of.logits[stream].detach())):
            joint = torch.einsum("bk,bd->bkd", logits.softmax(1), features).flatten(1)
            plain = plain + F.cross_entropy(module.discriminators[f"{stream}_{label}"](joint), at.is_target.long()) / 4
    for gradient, theirs in zip(mine[:2], torch.autograd.grad(plain, list(of.videos.values())), strict=True):
        torch.testing.assert_close(gradient, -2 * grown * theirs, rtol=1e-4, atol=1e-7)
    assert mine[2:] == (None, None)
    assert float(term.metrics["conditional_reversal"]) == pytest.approx(2 * grown, abs=2e-6)


def test_many_products_are_replaced_by_a_fixed_random_map():
    """Its inner products are on average those of all products: ⟨f, f'⟩⟨p, p'⟩."""
    generator = torch.Generator().manual_seed(0)
    features, p = torch.randn(2, 4, generator=generator), torch.rand(2, 5, generator=generator)
    torch.manual_seed(0)
    joint = cdan.MultilinearMap(4, 5, 200_000)(features, p)
    torch.testing.assert_close(joint @ joint.T, (features @ features.T) * (p @ p.T), rtol=0.05, atol=0.05)
    module = objective(random_above=WIDTH * 3, random_width=16)
    assert [joint.width for joint in module.maps.values()] == [WIDTH * 3, 16] * 2
    assert {name.rpartition(".")[2] for name in module.state_dict() if name.startswith("maps.rgb_1")} == {
        "of_features",
        "of_probabilities",
    }
    assert torch.isfinite(module(output(heads=HEADS), step()).loss)


@pytest.mark.parametrize(
    ("method", "head", "sets"),
    [
        ("cdan", "concat", ()),
        ("cdan-e", "average", ()),
        ("cdan", "average", ("conditional_adversarial.random_above=0", "conditional_adversarial.random_width=32")),
    ],
)
def test_trains_and_goes_on(small_file, tmp_path, method, head, sets):
    history = trained_and_resumed(small_file, method, tmp_path, head=head, sets=sets)
    assert history[0]["conditional_reversal"] < history[1]["conditional_reversal"] < 0.1  # the set-up's reversal is 0.1
    assert all(0 <= epoch["conditional_domain_accuracy"] <= 100 for epoch in history)
