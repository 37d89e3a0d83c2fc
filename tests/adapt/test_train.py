import copy

import numpy as np
import pytest
import torch
from cia_adapt import config, data
from cia_adapt.evaluate import Evaluator
from cia_adapt.model import VideoModel
from cia_adapt.train import Trainer, endless_batches, lr_factor, train
from cia_extract.errors import DivergedError

CPU = torch.device("cpu")
METHODS = config.names("methods")


def run(feature_file, method: str, seed: int = 0, garbage: bool = False, epochs: int = 2, **overrides):
    domains = data.find_domains(feature_file)
    if garbage:  # in the very column that everything reads, before anything has read it
        labels = domains["there"].dataset.columns["label"]
        labels[:] = [{"jump": "run", "run": "", "wave": "nonsense"}[label] for label in labels]
    setup = config.load(config.Setup, "demo", {"epochs": epochs, "batch": 6})
    chosen = config.load(config.Method, method, {"sc_embedding": 16} | overrides)
    task, labels = data.make_task(domains["here"], domains["there"], ("rgb", "flow"), chosen.needs_maps)
    trainer = Trainer(task, setup, chosen, seed, CPU)
    return trainer, train(trainer, Evaluator(task, labels, setup.segments, CPU), lambda metrics: None)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_learns(feature_file, method):
    """Classes that differ in their channels: loss falls, source validation is solved, the three numbers are there."""
    trainer, outcome = run(feature_file, method, epochs=8)
    assert outcome.history[-1]["class_loss"] < 0.85 * outcome.history[0]["class_loss"]
    assert max(m["source_val_accuracy"] for m in outcome.history) > 60
    assert outcome.last.epoch == 8 and outcome.selected.epoch <= 8
    assert outcome.last.target.probabilities.sum(1).numpy() == pytest.approx(np.ones(6), abs=1e-5)
    assert ("video_domain_loss" in outcome.history[0]) == trainer.method.needs_target


@pytest.mark.parametrize("method", METHODS)
def test_garbage_target_labels_change_nothing_in_training(feature_file, method):
    """Bitwise: the weights and predictions of `last` and `selected`."""
    _, honest = run(feature_file, method)
    _, garbage = run(feature_file, method, garbage=True)
    for name in ("last", "selected"):
        a, b = getattr(honest, name), getattr(garbage, name)
        assert a.epoch == b.epoch and equal(a.state, b.state)
        assert torch.equal(a.target.probabilities, b.target.probabilities)


def test_the_garbage_of_the_test_above_does_change_the_scores(feature_file):
    _, honest = run(feature_file, "source-only", epochs=8)
    _, garbage = run(feature_file, "source-only", epochs=8, garbage=True)
    assert [m["target_val_accuracy"] for m in honest.history] != [m["target_val_accuracy"] for m in garbage.history]


def test_a_seed_gives_the_same_run_and_another_seed_another(feature_file):
    first, again, other = (run(feature_file, "cia", seed)[1] for seed in (0, 0, 1))
    assert equal(first.last.state, again.last.state) and first.history == again.history
    assert not equal(first.last.state, other.last.state)


def test_alignment_reaches_what_stands_before_the_discriminators(feature_file):
    """The reversed gradient moves the shared layer, and without one (frozen features) it could move nothing."""
    _, aligned = run(feature_file, "concat")
    _, plain = run(feature_file, "source-only")
    assert not equal(aligned.last.state, plain.last.state)
    trainer, bare = run(feature_file, "concat", shared_features=0)
    assert set(bare.last.state) == {"classifiers.all.weight", "classifiers.all.bias"}
    inputs, is_target = trainer._inputs(np.arange(6))
    trainer.model.zero_grad()
    trainer._align(trainer.model(inputs), is_target, {}).backward()
    assert all(p.grad is None for p in trainer.model.parameters())


def test_reversal_weights_scale_the_reversed_gradient_only(feature_file):
    """λ = 0 at both levels: the discriminators learn as before, the model as if there were none."""
    trainer, _ = run(feature_file, "concat", lambda_video=0.0, lambda_frame=0.0)
    assert trainer.alignment is not None
    before = [p.detach().clone() for p in trainer.alignment.parameters()]
    shared = next(trainer.model.shared.parameters())
    trainer.model.train()
    trainer.optimiser.zero_grad()
    inputs, is_target = trainer._inputs(np.arange(6))
    output = trainer.model(inputs)
    trainer._align(output, is_target, {}).backward()
    assert shared.grad is None or not shared.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in trainer.alignment.parameters())
    assert len(before) == 8


def test_selected_is_the_latest_epoch_of_best_source_validation(feature_file):
    _, outcome = run(feature_file, "source-only", epochs=8)
    accuracies = [m["source_val_accuracy"] for m in outcome.history]
    assert outcome.selected.epoch == max(i for i, a in enumerate(accuracies, 1) if a == max(accuracies))


def test_frame_order_does_not_change_the_prediction(feature_file):
    torch.manual_seed(0)
    method = config.load(config.Method, "cia", {})
    model = VideoModel(method, ("rgb", "flow"), 1024, 3, dropout=0.5).eval()
    inputs = {m: torch.rand(2, 5, 1024, 7, 7) for m in ("rgb", "flow")}
    order = torch.tensor([4, 2, 0, 3, 1])
    with torch.inference_mode():
        plain, permuted = model(inputs), model({m: x[:, order] for m, x in inputs.items()})
    torch.testing.assert_close(permuted.probabilities(), plain.probabilities())
    torch.testing.assert_close(permuted.consensus, plain.consensus[:, order])


def test_average_head_is_the_mean_of_the_softmaxes():
    torch.manual_seed(0)
    model = VideoModel(config.load(config.Method, "cia-average", {}), ("rgb", "flow"), 1024, 3, dropout=0.0).eval()
    with torch.inference_mode():
        output = model({m: torch.rand(2, 5, 1024, 7, 7) for m in ("rgb", "flow")})
    expected = (output.logits["rgb"].softmax(1) + output.logits["flow"].softmax(1)) / 2
    torch.testing.assert_close(output.probabilities(), expected)


def test_features_that_are_not_finite_stop_the_run(feature_file):
    domains = data.find_domains(feature_file)
    setup, method = config.load(config.Setup, "demo", {"batch": 6}), config.load(config.Method, "source-only", {})
    task, _ = data.make_task(domains["here"], domains["there"], ("rgb",), maps=False)
    array = np.array(task.source_train.clips._arrays["rgb"])
    array[:, :, 3] = np.nan
    task.source_train.clips._arrays["rgb"] = array
    with pytest.raises(DivergedError, match="the loss is nan at step 1") as error:
        Trainer(task, setup, method, 0, CPU).epoch()
    assert error.value.exit_code == 6


def test_ragged_last_batch_sees_every_clip_once(feature_file, monkeypatch):
    domains = data.find_domains(feature_file)
    setup, method = config.load(config.Setup, "demo", {"batch": 5}), config.load(config.Method, "source-only", {})
    task, _ = data.make_task(domains["here"], domains["there"], ("rgb",), maps=False)
    trainer = Trainer(task, setup, method, 0, CPU)
    seen: list[int] = []
    real = trainer.train_step
    monkeypatch.setattr(trainer, "train_step", lambda positions: seen.extend(positions.tolist()) or real(positions))
    trainer.epoch()
    assert sorted(seen) == list(range(12)) and trainer.step == trainer.steps_per_epoch == 3


def test_target_batches_are_proportional_full_and_fair():
    batches = endless_batches(10, 4, np.random.default_rng(0))
    drawn = [next(batches) for _ in range(5)]
    assert all(len(batch) == 4 for batch in drawn)
    assert sorted(np.concatenate(drawn).tolist()) == sorted([*range(10), *range(10)])


def test_learning_rate_schedule():
    """The values of `method.md` §5."""
    assert [round(lr_factor(p), 6) for p in (0.1, 0.5, 1.0)] == [0.594604, 0.260847, 0.165560]


def test_dropout_is_off_in_evaluation(feature_file):
    trainer, outcome = run(feature_file, "cia")
    evaluator = Evaluator(trainer.task, data.SealedLabels(np.zeros(6, np.int64)), 5, CPU)
    model = copy.deepcopy(trainer.model).train()
    assert torch.equal(evaluator.target(model)[0].probabilities, outcome.last.target.probabilities)
