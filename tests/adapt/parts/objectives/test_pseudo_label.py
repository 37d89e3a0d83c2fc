import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import pseudo_label
from cia_extract.common.errors import UsageError

from tests.adapt.objective_parts import SOURCE, Z, arrays, output, slow_cross_entropy, step
from tests.adapt.runs_of import trained_and_resumed, trainer_of

SIZES = Sizes({}, {}, (3, 4), 5, 0.0)
OVER = ["all", "labelled"]


def slow_loss(logits: np.ndarray, probabilities: np.ndarray, threshold: float, over: str) -> float:
    losses = [slow_cross_entropy(z, p.argmax()) for z, p in zip(logits, probabilities, strict=True) if p.max() > threshold]
    return sum(losses) / (len(logits) if over == "all" else max(1, len(losses)))


@pytest.mark.parametrize(("over", "expected"), [("all", 0.079848), ("labelled", 0.239545)])
def test_values_known_from_the_formula(over, expected):
    loss, share = pseudo_label.pseudo_label_loss(Z, Z.softmax(1), 0.7, over)
    assert float(loss) == pytest.approx(expected, abs=1e-6) and float(share) == pytest.approx(1 / 3)
    assert slow_loss(arrays(Z), arrays(Z.softmax(1)), 0.7, over) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("head", ["average", "sum", "blend"])
def test_one_view_labels_and_each_stream_of_the_other_learns(head, over):
    """The label is the method's prediction, whatever its head; no gradient goes into the view that labels, nor to the source."""
    streams = ("rgb", "flow", "all") if head == "blend" else ("rgb", "flow")
    of, second = (output(streams, seed, head=head, heads=(3, 4)) for seed in (0, 1))
    term = pseudo_label.build(SIZES, pseudo_label.Options(0.5, 0.4, over=over))(of, step(second))
    by_label = [arrays(p)[SOURCE:] for p in of.probabilities()]
    expected = np.mean(
        [
            slow_loss(arrays(x)[SOURCE:, columns], p, 0.4, over)
            for x in second.logits.values()
            for columns, p in zip((slice(0, 3), slice(3, 7)), by_label, strict=True)
        ]
    )
    assert expected > 0
    assert float(term.loss.detach()) == pytest.approx(0.5 * expected, rel=1e-5)
    assert float(term.metrics["pseudo_labelled"]) == pytest.approx(100 * np.mean([p.max(1) > 0.4 for p in by_label]))
    gradients = torch.autograd.grad(term.loss, [second.logits["rgb"], of.logits["rgb"]], allow_unused=True)
    assert gradients[0][SOURCE:].any() and not gradients[0][:SOURCE].any() and gradients[1] is None


@pytest.mark.parametrize("over", OVER)
def test_no_confident_clip_is_no_loss(over):
    of, second = output(seed=0), output(seed=1)
    term = pseudo_label.build(SIZES, pseudo_label.Options(threshold=1.0, over=over))(of, step(second))
    assert float(term.loss.detach()) == float(term.metrics["pseudo_labelled"]) == 0
    assert not torch.autograd.grad(term.loss, second.logits["rgb"])[0].any()


@pytest.mark.parametrize(("progress", "labels"), [(0.29, False), (0.31, True)])
def test_labels_start_after_a_share_of_the_training(progress, labels):
    at = step(output(seed=1), progress=progress)
    term = pseudo_label.build(SIZES, pseudo_label.Options(threshold=0.0, start=0.3))(output(), at)
    assert (float(term.loss.detach()) > 0) == (float(term.metrics["pseudo_labelled"]) > 0) == labels


@pytest.mark.parametrize(("method", "head"), [("pseudo-label", "concat"), ("pseudo-label", "average"), ("cia-pseudo", "concat")])
def test_trains_and_goes_on(small_file, tmp_path, method, head):
    history = trained_and_resumed(small_file, method, tmp_path, head=head, sets=("pseudo_label.threshold=0.4",))
    assert all(0 < epoch["pseudo_labelled"] <= 100 for epoch in history)


def test_a_teacher_labels_in_place_of_the_model():
    of, second, teacher = (output(seed=seed, heads=(3, 4)) for seed in (0, 1, 2))
    options = pseudo_label.Options(0.5, 0.4, teacher="average")
    objective = pseudo_label.build(SIZES, options)
    assert objective.teacher and not pseudo_label.build(SIZES, pseudo_label.Options()).teacher
    taught = objective(of, replace(step(second), teacher=teacher))
    by_itself = pseudo_label.build(SIZES, pseudo_label.Options(0.5, 0.4))(teacher, step(second))
    assert float(taught.loss.detach()) == float(by_itself.loss.detach()) != float(objective(of, step(second)).loss.detach())


def test_the_teacher_is_the_average_of_the_weights_without_dropout(small_file, tmp_path):
    options = {"sets": ("pseudo_label.teacher=average", "pseudo_label.threshold=0.4"), "average": 0.5}
    history = trained_and_resumed(small_file, "pseudo-label", tmp_path, **options)
    assert all(epoch["pseudo_labelled"] > 0 for epoch in history)
    trainer, _ = trainer_of(small_file, "pseudo-label", **options)
    trainer.epoch()
    draw = trainer.draws()[0]
    inputs = trainer.read(draw)[0]
    taught = trainer._taught(inputs).probabilities()[0]
    average = copy.deepcopy(trainer.model)
    average.load_state_dict(trainer.averaged.module.state_dict())
    torch.testing.assert_close(taught, average.eval()(inputs).probabilities()[0])
    assert not taught.requires_grad and not torch.allclose(taught, trainer.model.eval()(inputs).probabilities()[0])


def test_a_teacher_needs_an_average(small_file):
    with pytest.raises(UsageError, match=r"--average 0: .*teacher.*take --average 0.99"):
        trainer_of(small_file, "pseudo-label", sets=("pseudo_label.teacher=average",))
