"""DAN and JAN against a loop written from the papers."""

import math

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import kernel_discrepancy as mmd

from tests.adapt.objective_parts import SOURCE, X, Y, arrays, output, step
from tests.adapt.runs_of import trained_and_resumed

SIZES = Sizes({}, {}, (3, 4), 5, 0.0)


def slow_kernel(clips: np.ndarray, kernels: int):
    """k(i, j), its bandwidth from all pairs of different clips."""
    pairs = [(i, j) for i in range(len(clips)) for j in range(len(clips)) if i != j]
    distance = lambda i, j: float(sum((a - b) ** 2 for a, b in zip(clips[i], clips[j], strict=True)))  # noqa: E731
    b = sum(distance(i, j) for i, j in pairs) / len(pairs) / 2 ** (kernels // 2)
    return lambda i, j: sum(math.exp(-distance(i, j) / (b * 2**n)) for n in range(kernels))


def slow_distance(layers: list[tuple[np.ndarray, int]], source: int) -> float:
    """By layer all clips' activations, the source's first, and the number of kernels."""
    kernels = [slow_kernel(clips, number) for clips, number in layers]
    k = lambda i, j: math.prod(kernel(i, j) for kernel in kernels)  # noqa: E731
    first, second = range(source), range(source, len(layers[0][0]))
    mean = lambda a, b: float(np.mean([k(i, j) for i in a for j in b]))  # noqa: E731
    return mean(first, first) + mean(second, second) - 2 * mean(first, second)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_values_known_from_the_formulas():
    clips, is_target = torch.cat([X, Y]), torch.arange(6) >= 3
    logits = torch.tensor([[2.0, 0], [1, 0], [0, 1], [0, 2], [1, 1], [0, 0]])
    dan = mmd.mean_embedding_distance(mmd.gaussian_kernels(clips, 5), is_target)
    jan = mmd.mean_embedding_distance(mmd.gaussian_kernels(clips, 2) * mmd.gaussian_kernels(logits.softmax(1), 5), is_target)
    assert float(dan) == pytest.approx(2.807993, abs=2e-6) and float(jan) == pytest.approx(6.584112, abs=2e-6)
    assert slow_distance([(arrays(clips), 5)], 3) == pytest.approx(2.807993, abs=1e-6)
    assert slow_distance([(arrays(clips), 2), (softmax(arrays(logits)), 5)], 3) == pytest.approx(6.584112, abs=1e-6)


def test_dan_is_the_mean_over_streams_of_domains_of_unlike_size():
    of, at = output(heads=(3, 4)), step()
    term = mmd.build(SIZES, mmd.Options(0.5))(of, at)
    expected = np.mean([slow_distance([(arrays(x), 5)], SOURCE) for x in of.videos.values()])
    assert float(term.loss.detach()) == pytest.approx(0.5 * expected, rel=1e-4)
    assert float(term.metrics["kernel_discrepancy"]) == pytest.approx(expected, rel=1e-4)
    assert all(x.any(1).all() for x in torch.autograd.grad(term.loss, list(of.videos.values())))


def test_jan_multiplies_kernels_and_is_the_mean_over_streams_and_labels():
    of, at = output(heads=(3, 4)), step()
    term = mmd.build(SIZES, mmd.Options(kernels=2, prediction_kernels=5))(of, at)
    expected = [
        slow_distance([(arrays(x), 2), (softmax(arrays(of.logits[stream])[:, columns]), 5)], SOURCE)
        for stream, x in of.videos.items()
        for columns in (slice(0, 3), slice(3, 7))
    ]
    assert float(term.loss.detach()) == pytest.approx(np.mean(expected), rel=1e-4)
    assert all(x.any() for x in torch.autograd.grad(term.loss, [*of.videos.values(), *of.logits.values()]))


def test_domains_with_the_same_clips_have_no_distance():
    kernel = mmd.gaussian_kernels(torch.cat([X, X.flip(0)]), 5)
    assert float(mmd.mean_embedding_distance(kernel, torch.arange(6) >= 3)) == pytest.approx(0, abs=1e-5)


def test_clips_that_are_all_alike_give_a_finite_gradient():
    clips = torch.ones(4, 3, requires_grad=True)
    loss = mmd.mean_embedding_distance(mmd.gaussian_kernels(clips, 5), torch.arange(4) >= 1)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(torch.autograd.grad(loss, clips)[0]).all()


@pytest.mark.parametrize(("method", "head"), [("dan", "concat"), ("jan", "concat"), ("jan", "average")])
def test_trains_and_goes_on(small_file, tmp_path, method, head):
    history = trained_and_resumed(small_file, method, tmp_path, head=head)
    assert all(epoch["kernel_discrepancy"] > 0 for epoch in history)
