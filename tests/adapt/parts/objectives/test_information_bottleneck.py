"""The closed form against pairs that are formed one by one."""

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import information_bottleneck as ib

from tests.adapt.objective_parts import CLIPS, SOURCE, arrays, output, step
from tests.adapt.runs_of import trained_and_resumed

FIRST = torch.tensor([[1.0, 2], [3, 1], [2, 5], [0, 0]])
SECOND = torch.tensor([[2.0, 1], [3, 2], [1, 4], [1, 1]])


def slow_loss(first: np.ndarray, second: np.ndarray, off_diagonal: float) -> float:
    """Of pairs, row by row: biased variance, and every entry of C."""
    pairs = len(first)
    u, v = ((x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).mean(0) + 1e-5) for x in (first, second))
    total = 0.0
    for i in range(u.shape[1]):
        for j in range(v.shape[1]):
            c = sum(u[n, i] * v[n, j] for n in range(pairs)) / pairs
            total += (1 - c) ** 2 if i == j else off_diagonal * c * c
    return total


def formed(source: np.ndarray, source_classes, target: np.ndarray, target_classes) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(i, j) for i, a in enumerate(source_classes) for j, b in enumerate(target_classes) if a == b >= 0]
    return source[[i for i, _ in pairs]], target[[j for _, j in pairs]]


def objective(streams=("rgb", "flow"), heads=(3,), **options) -> ib.InformationBottleneck:
    torch.manual_seed(0)
    sizes = Sizes({}, {}, heads, 5, 0.0, videos=dict.fromkeys(streams, 8))
    return ib.build(sizes, ib.Options(**{"width": 6, "queue": 5} | options))


def test_value_known_from_the_formula():
    loss, pairs = ib.redundancy(FIRST, torch.arange(4), SECOND, torch.arange(4), 4)
    assert float(loss) == pytest.approx(0.124333, abs=1e-6) and int(pairs) == 4
    assert slow_loss(arrays(FIRST), arrays(SECOND), 0.005) == pytest.approx(0.124333, abs=1e-6)


def test_the_closed_form_is_the_sum_over_all_pairs_and_so_is_its_gradient():
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(n, 4, generator=generator, dtype=torch.float64).requires_grad_() for n in (9, 7))
    classes = torch.tensor([0, 0, 1, 2, 2, 2, -1, -1, 3]), torch.tensor([2, 2, 0, 0, 0, 1, -1])
    loss, pairs = ib.redundancy(source, classes[0], target, classes[1], 5, 0.1)
    both = formed(arrays(source), classes[0].tolist(), arrays(target), classes[1].tolist())
    assert int(pairs) == len(both[0]) == 3 * 2 + 2 * 3 + 1
    assert float(loss.detach()) == pytest.approx(slow_loss(*both, 0.1), rel=1e-9)
    assert torch.autograd.gradcheck(lambda a, b: ib.redundancy(a, classes[0], b, classes[1], 5, 0.1)[0], (source, target))
    without_class = torch.autograd.grad(loss, [source, target])
    assert not without_class[0][6:].any() and not without_class[1][6].any() and without_class[0][:6].any(1).all()


def test_fewer_than_three_pairs_are_no_loss():
    first = FIRST.clone().requires_grad_()
    loss, pairs = ib.redundancy(first, torch.tensor([0, 0, 1, 1]), SECOND, torch.tensor([0, 2, 2, -1]), 3)
    assert float(loss.detach()) == 0 and int(pairs) == 2
    assert not torch.autograd.grad(loss, first)[0].any()
    assert not torch.isnan(ib.redundancy(FIRST, torch.full((4,), -1), SECOND, torch.arange(4), 4)[0])


def test_batch_and_queue_are_paired_and_the_queue_keeps_the_latest():
    """Three steps of four source clips, a queue of five: at each, those of the batch and the last five before it."""
    module, heads = objective(heads=(3, 4)), (3, 4)
    before: list[tuple[np.ndarray, np.ndarray]] = []  # projections of rgb, and labels
    for seed in range(3):
        of = output(seed=seed, heads=heads)
        at = step()
        at = type(at)(
            torch.stack([at.labels[:, 0], (at.labels[:, 0] + seed) % 4], 1), at.is_target, at.target_positions, at.progress
        )
        losses = []
        projected = {s: arrays(module.project[s](x)) for s, x in of.videos.items()}
        kept = before[-5:]
        for stream in of.videos:
            source = np.array([*projected[stream][:SOURCE], *(x[stream] for x, _ in kept)])
            for label, p in enumerate(of.probabilities()):
                classes = [*at.labels[:, label].tolist(), *(labels[label] for _, labels in kept)]
                guesses = arrays(p)[SOURCE:].argmax(1).tolist()
                losses.append(slow_loss(*formed(source, classes, projected[stream][SOURCE:], guesses), 0.005))
        term = module(of, at)
        assert float(term.metrics["bottleneck_loss"]) == pytest.approx(np.mean(losses), rel=1e-4)
        assert float(term.loss.detach()) == pytest.approx(0.01 * np.mean(losses), rel=1e-4)
        before += [({s: projected[s][i] for s in projected}, at.labels[i].tolist()) for i in range(SOURCE)]
    assert sorted(map(tuple, module.queue.classes.tolist())) == sorted(tuple(labels) for _, labels in before[-5:])


def test_the_gradient_reaches_the_batch_of_both_domains():
    of = output()
    term = objective()(of, step())
    gradient = torch.autograd.grad(term.loss, of.videos["rgb"])[0]
    assert gradient.any(1).sum() > SOURCE and len(gradient) == CLIPS


def test_a_batch_longer_than_the_queue_and_no_queue():
    short, none = objective(queue=3), objective(queue=0)
    for module in (short, none):
        for seed in range(2):
            assert torch.isfinite(module(output(seed=seed), step()).loss)
    assert short.queue.classes[:, 0].sort().values.tolist() == [1, 1, 2]  # labels 0, 1, 2, 1: the last three


@pytest.mark.parametrize("head", ["concat", "average"])
def test_trains_and_goes_on(small_file, tmp_path, head):
    sets = ("information_bottleneck.width=16", "information_bottleneck.queue=7")
    history = trained_and_resumed(small_file, "ib", tmp_path, head=head, sets=sets)
    assert all(epoch["bottleneck_pairs"] > 0 for epoch in history)
