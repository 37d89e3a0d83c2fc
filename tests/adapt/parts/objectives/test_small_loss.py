import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Described, Sizes
from cia_adapt.parts.objectives import small_loss

from tests.adapt.objective_parts import SOURCE, TARGET, arrays, output, slow_cross_entropy, step
from tests.adapt.runs_of import run

CLIPS = 30
HEADS = (3, 4)


def described(seed: int, clips: int = CLIPS, heads=HEADS) -> Described:
    generator = torch.Generator().manual_seed(seed)
    logits = {stream: torch.randn(clips, sum(heads), generator=generator) for stream in ("rgb", "flow")}
    return Described(torch.zeros(clips, 2), (), logits)


def built(clips: int = CLIPS, heads=HEADS, **options):
    sizes = Sizes({}, {}, heads, 5, 0.0, target_train_clips=clips)
    return small_loss.build(sizes, small_loss.Options(**options))


def slow_labels(target: Described) -> list[list[int]]:
    rgb, flow = (arrays(z) for z in target.logits.values())
    return [[int((z[:3]).argmax()), int(z[3:].argmax())] for z in (rgb + flow) / 2]


def slow_kept(target: Described, labels: list[list[int]], classes: list[int], share: float) -> list[bool]:
    losses = [
        np.mean([sum(slow_cross_entropy(arrays(z)[n][part], k) for z in target.logits.values()) for part, k in parts])
        for n, (verb, noun) in enumerate(labels)
        for parts in [[(slice(0, 3), verb), (slice(3, 7), noun)]]
    ]
    limits = {k: np.percentile([x for x, c in zip(losses, classes, strict=True) if c == k], 100 * share) for k in set(classes)}
    return [bool(x <= limits[k]) for x, k in zip(losses, classes, strict=True)]


def test_the_toy_keeps_three():
    """The value of `docs/facts.md`."""
    losses = torch.tensor([0.1, 0.4, 0.2, 0.9, 0.3])
    assert small_loss.small_losses(losses, torch.zeros(5), 0.5).tolist() == [True, False, True, False, True]
    two = small_loss.small_losses(torch.cat([losses, 10 * losses]), torch.arange(10) // 5, 0.5)
    assert two.tolist() == [True, False, True, False, True] * 2


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_without_a_teacher_the_first_labels_stay_and_the_kept_clips_change(share):
    objective, first, second = built(kept=share), described(0), described(1)
    labels = slow_labels(first)
    for target in (first, second):
        objective.relabel(target)
        assert objective.pseudo.tolist() == labels
        assert objective.kept.tolist() == slow_kept(target, labels, [verb for verb, _ in labels], share)


def test_a_teacher_gives_losses_with_the_labels_before_and_then_new_labels():
    objective, first, second = built(relabels=True), described(0), described(1)
    objective.relabel(first)
    assert objective.pseudo.tolist() == slow_labels(first)
    objective.relabel(second)
    renewed = slow_labels(second)
    assert objective.pseudo.tolist() == renewed != slow_labels(first)
    assert objective.kept.tolist() == slow_kept(second, slow_labels(first), [verb for verb, _ in renewed], 0.5)


@pytest.mark.parametrize("kept", [[True, False, True, True, False, False], [False] * TARGET])
def test_the_loss_is_that_of_the_kept_clips(kept):
    objective, of, positions = built(TARGET), output(heads=HEADS), [3, 4, 5, 0, 1, 2]
    objective.relabel(described(2, TARGET))
    objective.kept.copy_(torch.tensor(kept))
    labels = objective.pseudo.tolist()
    term = objective(of, step(positions=positions))
    losses = [
        np.mean(
            [
                sum(slow_cross_entropy(arrays(z)[SOURCE + n][part], k) for z in of.logits.values())
                for part, k in ((slice(0, 3), labels[p][0]), (slice(3, 7), labels[p][1]))
            ]
        )
        for n, p in enumerate(positions)
        if kept[p]
    ]
    assert float(term.loss.detach()) == pytest.approx(np.mean(losses) if losses else 0, rel=1e-5)
    assert float(term.metrics["pseudo_labelled"]) == pytest.approx(100 * np.mean(kept))
    gradient = torch.autograd.grad(term.loss, of.logits["flow"])[0]
    for n, p in enumerate(positions):
        assert bool(gradient[SOURCE + n].any()) == kept[p]
    assert not gradient[:SOURCE].any()


@pytest.mark.parametrize("method", ["cleanadapt-fl", "cleanadapt-fl-ts"])
def test_trains_in_both_phases(small_file, method):
    trainer, outcome = run(small_file, method, epochs=3, batch=6)
    first, *second = outcome.history
    assert np.isfinite(first["class_loss"]) and "pseudo_label_loss" not in first
    assert all(m["pseudo_label_loss"] > 0 and 50 <= m["pseudo_labelled"] <= 75 for m in second)
    assert trainer.setup.average == (0.99 if method.endswith("-ts") else 0) and outcome.selected.epoch == 3
