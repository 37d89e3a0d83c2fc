"""MCC against a loop written from the paper."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import class_confusion

from tests.adapt.objective_parts import CLIPS, SOURCE, Z, arrays, output, slow_entropy, step
from tests.adapt.runs_of import trained_and_resumed, trainer_of


def slow_confusion(logits: np.ndarray, temperature: float) -> float:
    """Section 3, clip by clip and pair of classes by pair of classes."""
    clips, classes = logits.shape
    exponents = np.exp(logits / temperature)
    p = exponents / exponents.sum(1, keepdims=True)
    certain = [1 + math.exp(-slow_entropy(row / temperature)) for row in logits]
    weights = [clips * w / sum(certain) for w in certain]
    total = 0.0
    for j in range(classes):
        row = [sum(weights[i] * p[i, j] * p[i, k] for i in range(clips)) for k in range(classes)]
        total += sum(row[k] for k in range(classes) if k != j) / sum(row)
    return total / classes


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.572343), (2.5, 0.649486)])
def test_value_known_from_the_formula(temperature, expected):
    assert float(class_confusion.class_confusion(Z, temperature)) == pytest.approx(expected, abs=1e-6)
    assert slow_confusion(arrays(Z), temperature) == pytest.approx(expected, abs=1e-6)


def test_the_mean_over_streams_and_labels_of_the_target_alone():
    of, at = output(heads=(3, 4)), step()
    term = class_confusion.build(Sizes({}, {}, (3, 4), 5, 0.0), class_confusion.Options(0.5, 2.0))(of, at)
    parts = [arrays(x)[SOURCE:, columns] for x in of.logits.values() for columns in (slice(0, 3), slice(3, 7))]
    expected = np.mean([slow_confusion(part, 2.0) for part in parts])
    assert float(term.loss.detach()) == pytest.approx(0.5 * expected, rel=1e-5)
    assert float(term.metrics["class_confusion"]) == pytest.approx(expected, rel=1e-5)
    gradient = torch.autograd.grad(term.loss, of.logits["rgb"])[0]
    assert not gradient[:SOURCE].any() and gradient[SOURCE:].any(1).all() and len(gradient) == CLIPS


def test_16_bits_do_not_reach_the_product_of_the_probabilities():
    """The toy value to 1e-6 under autocast; a batch's logits in 16 bits give what the same numbers give in 32."""
    rounded = output()
    logits = {stream: x.detach().bfloat16() for stream, x in rounded.logits.items()}
    module = class_confusion.build(Sizes({}, {}, (3,), 5, 0.0), class_confusion.Options())
    exact = module(replace(rounded, logits={stream: x.float() for stream, x in logits.items()}), step()).loss
    with torch.autocast("cpu", torch.bfloat16):
        assert float(class_confusion.class_confusion(Z, 2.5)) == pytest.approx(0.649486, abs=1e-6)
        assert torch.equal(module(replace(rounded, logits=logits), step()).loss, exact)


def test_the_weights_pass_no_gradient():
    """The gradient is that of the slow loop with its weights held fixed."""
    logits = Z.double().requires_grad_()
    mine = torch.autograd.grad(class_confusion.class_confusion(logits, 2.5), logits)[0]
    weights = torch.tensor([1 + math.exp(-slow_entropy(row / 2.5)) for row in arrays(Z)])
    p = (logits / 2.5).softmax(1)
    confusion = torch.einsum("i,ij,ik->jk", weights.double(), p, p)
    shares = confusion / confusion.sum(1, keepdim=True)
    theirs = torch.autograd.grad(1 - shares.diagonal().mean(), logits)[0]
    torch.testing.assert_close(mine, theirs)


def test_certain_and_varied_predictions_are_not_confused():
    assert float(class_confusion.class_confusion(100 * torch.eye(3), 2.5)) == pytest.approx(0, abs=1e-6)
    assert float(class_confusion.class_confusion(torch.zeros(5, 4), 2.5)) == pytest.approx(0.75, abs=1e-6)


def test_its_gradient_can_keep_out_of_mc_and_sc(small_file):
    """With `reaches` shared the gradients of both modules are the same bits whatever MCC weighs."""
    gradients = {}
    for reaches in ("shared", "everything"):
        for weight in (0.5, 50.0):
            sets = (f"class_confusion.reaches={reaches}", f"class_confusion.weight={weight}")
            trainer, _ = trainer_of(small_file, "cia-mcc", sets=sets, dropout=0.0, clip_norm=0.0)
            trainer.model.train()
            trainer.train_step(draw := trainer.draws()[0], trainer.read(draw))
            named = trainer.model.named_parameters()
            gradients[reaches, weight] = {n: p.grad for n, p in named if n.startswith(("pooling", "refinement"))}
    for reaches, same in (("shared", True), ("everything", False)):
        weak, strong = gradients[reaches, 0.5], gradients[reaches, 50.0]
        assert all(torch.equal(weak[name], strong[name]) for name in weak) == same


@pytest.mark.parametrize(("method", "head"), [("mcc", "concat"), ("mcc", "average"), ("cia-mcc", "concat")])
def test_trains_and_goes_on(small_file, tmp_path, method, head):
    history = trained_and_resumed(small_file, method, tmp_path, head=head)
    assert all(0 < epoch["class_confusion"] < 1 for epoch in history)
