"""Source-free methods: a phase on the source, then one that reads no training clip of the source."""

import copy
from dataclasses import dataclass, replace

import pytest
import torch
from cia_adapt.data import LabelledClips
from cia_adapt.experiments import checks, directions, dry_run, runner
from cia_adapt.parts.interface import Objective, Reaching, Term
from cia_adapt.parts.layers.entropy import entropy
from cia_adapt.parts.objectives import source_hypothesis
from cia_adapt.results.report import page
from cia_adapt.runs import files, resume
from cia_adapt.training import phases
from cia_adapt.training.loop import best_epoch, train
from cia_extract.common.errors import DataError, UsageError

from tests.adapt.runs.test_resume import folder_of, request
from tests.adapt.runs_of import SOURCE_FREE, equal, run, trainer_of


class Left:
    """The reader of a domain that has been left."""

    tier = "map"

    def __getattr__(self, name: str):
        raise AssertionError(f"the source is read: {name}")


def leave(trainer) -> None:
    """From now on the source's training clips cannot be read."""
    clips = copy.copy(trainer.task.source_train.clips)
    clips.readers = {m: Left() for m in clips.readers}
    trainer.task = replace(trainer.task, source_train=LabelledClips(clips, trainer.task.source_train.labels))


@pytest.mark.parametrize("in_thread", [False, True], ids=["announced", "prefetched"])
@pytest.mark.parametrize("method", SOURCE_FREE)
def test_no_training_clip_of_the_source_is_read_in_the_second_phase(small_file, method, in_thread):
    """Its readers raise once the last epoch with the source is over; an epoch earlier they do break off training."""
    for left_after in (2, 1):
        trainer, evaluator = trainer_of(small_file, method, epochs=4, tier="ram")
        trainer.reads_in_thread = in_thread

        def after(outcome, left_after=left_after, trainer=trainer):
            if len(outcome.history) == left_after:
                leave(trainer)

        if left_after == 1:
            with pytest.raises(AssertionError, match="the source is read"):
                train(trainer, evaluator, print, after_epoch=after)
        else:
            history = train(trainer, evaluator, print, after_epoch=after).history
            assert ["class_loss" in metrics for metrics in history] == [True, True, False, False]


def test_the_first_phase_is_a_run_on_the_source_alone(small_file):
    """Bit for bit: the same weights as those of source-only, trained for as many epochs with the same label smoothing."""
    _, plain = run(small_file, "source-only", epochs=2, smoothing=0.1)
    states = []
    trainer, evaluator = trainer_of(small_file, "shot-fl", epochs=5)
    train(trainer, evaluator, print, after_epoch=lambda outcome: states.append(outcome.last.state))
    assert equal(states[1], plain.last.state)
    for name in states[1]:
        moved = not torch.equal(states[1][name], states[4][name])
        assert moved == ("classifiers" not in name), name


def test_the_second_phase_passes_over_each_target_clip_once_an_epoch(small_file):
    trainer, _ = trainer_of(small_file, "cleanadapt-fl", epochs=4, batch=5)
    before = trainer.draws()
    assert sum(len(draw.source) for draw in before) == 12 and not any(len(draw.target) for draw in before)
    trainer.leave_source(2)
    for _ in range(2):
        draws = trainer.draws()
        assert sorted(i for draw in draws for i in draw.target.tolist()) == list(range(12))
        assert [len(draw.target) for draw in draws] == [5, 5, 2] and not any(len(draw.source) for draw in draws)
    assert (trainer.steps_per_epoch, trainer.steps_total, trainer.step) == (3, 6, 0)


def test_a_source_free_objective_of_ones_own_may_reach_the_shared_layer_alone(small_file, monkeypatch):
    """Without the source there is no task loss to go back from. What stands before the shared layer stays as it was."""

    @dataclass(frozen=True)
    class Options(Reaching):
        weight: float = 1.0

    monkeypatch.setattr(source_hypothesis, "Options", Options)
    monkeypatch.setattr(source_hypothesis, "build", lambda sizes, options: _Own())
    trainer, evaluator = trainer_of(
        small_file, "cia-shot", epochs=4, sets=("source_hypothesis.reaches=shared", "source_hypothesis.weight=1")
    )
    states = []
    outcome = train(trainer, evaluator, print, after_epoch=lambda outcome: states.append(outcome.last.state))
    assert ["own_loss" in metrics for metrics in outcome.history] == [False, False, True, True]
    for name, before in states[1].items():
        moved = not torch.equal(before, states[3][name])
        assert moved == name.startswith("shared"), name


class _Own(Objective):
    """A user's: entropy of the target's predictions, after the source is left."""

    source_free = True
    freezes = ("classifiers",)

    def forward(self, output, step) -> Term:
        loss = torch.stack([entropy(logits).mean() for logits in output.logits.values()]).mean()
        return Term(loss, {"own_loss": loss.detach()})


def test_other_objectives_train_in_the_first_phase(small_file):
    trainer, outcome = run(small_file, "concat", objectives="adversarial,source_hypothesis", epochs=4, source_epochs=3)
    assert ["video_domain_loss" in m for m in outcome.history] == [True, True, True, False]
    assert ["information_maximisation_loss" in m for m in outcome.history] == [False, False, False, True]
    assert trainer.left_source_after == 3


def test_the_teacher_is_the_average_of_the_second_phase_s_steps(small_file):
    """a ← 0.99 a + 0.01 w from the first step without the source on."""
    trainer, evaluator = trainer_of(small_file, "cleanadapt-fl-ts", epochs=4)
    weights, step = [], trainer.train_step

    def recorded(*arguments, **options):
        result = step(*arguments, **options)
        if trainer.left_source_after:
            weights.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})
        return result

    trainer.train_step = recorded
    outcome = train(trainer, evaluator, print)
    average = weights[0]
    for later in weights[1:]:
        average = {name: 0.99 * a + 0.01 * later[name] for name, a in average.items()}
    for name, expected in average.items():
        torch.testing.assert_close(outcome.last.state[name], expected)


def test_only_epochs_without_the_source_are_selected():
    history = [{"epoch": 1, "source_val_accuracy": 90.0}, {"epoch": 2, "source_val_accuracy": 95.0}]
    assert best_epoch(history, "source_val") == 2
    history += [
        {"epoch": 3, "source_val_accuracy": 80.0, "source_free": True},
        {"epoch": 4, "source_val_accuracy": 70.0, "source_free": True},
    ]
    assert best_epoch(history, "source_val") == 3 and best_epoch(history, "last") == 4


def test_a_run_s_folder_is_of_the_second_phase(small_file, tmp_path):
    """The last epoch is selected, the oracle is one without the source, and the folder can be read and drawn."""
    (result,) = runner.run(request(small_file, tmp_path, "shot-fl", epochs=4), print)
    assert result["selected_epoch"] == 4 and result["oracle_epoch"] > 2 and result["selected_by"] == "the last epoch"
    history = files.read_metrics(folder_of(tmp_path, "shot-fl"))
    assert [bool(metrics.get("source_free")) for metrics in history] == [False, False, True, True]
    page.write(files.find([tmp_path]), tmp_path / "report.html", page.Wanted(clips=0), print)
    assert "Class loss on the source" in (tmp_path / "report.html").read_text()


def test_a_finished_run_that_gets_more_epochs_stays_without_the_source(small_file, tmp_path):
    for epochs in (4, 10):
        runner.run(request(small_file, tmp_path, "shot-fl", epochs=epochs, resume=True), print)
    history = files.read_metrics(folder_of(tmp_path, "shot-fl"))
    assert [bool(metrics.get("source_free")) for metrics in history] == [False] * 2 + [True] * 8


@pytest.mark.parametrize(("method", "left"), [("shot-fl", 4), ("shot-fl", -1), ("shot-fl", 1), ("concat", 1), ("shot-fl", "x")])
def test_a_state_that_left_the_source_elsewhere_cannot_be_resumed(small_file, method, left):
    trainer, evaluator = trainer_of(small_file, method, epochs=4, batch=5)
    packed = []
    train(
        trainer,
        evaluator,
        print,
        after_epoch=lambda outcome: packed.append(resume.pack(trainer, outcome, evaluator.target_labels, {})),
    )
    state = resume.Packed(packed[-1].tensors, dict(packed[-1].rest) | {"left_source_after": left})
    again, evaluator = trainer_of(small_file, method, epochs=4, batch=5)
    with pytest.raises(DataError, match="not a state that can be resumed"):
        resume.unpack(state, again, evaluator.target_labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 1}, "--epochs 1 --source-epochs 0: a source-free method needs an epoch with the source and one without"),
        ({"epochs": 3, "source_epochs": 3}, "--epochs 3 --source-epochs 3: a source-free method needs an epoch with the source"),
        ({"epochs": 4, "select": "dev"}, "--select dev: reads the source's training clips"),
    ],
)
def test_a_set_up_without_two_phases_is_told_before_features_are_read(small_file, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        list(directions.prepared(request(small_file, tmp_path, "shot-fl", **changes), print))
    assert list(directions.prepared(request(small_file, tmp_path, "concat", **changes), print))


def test_a_rule_that_looks_at_the_source_is_noted(small_file, tmp_path):
    for method, select, noted in (("shot-fl", "source_val", 1), ("shot-fl", "im", 0), ("concat", "source_val", 0)):
        asked = request(small_file, tmp_path, method, epochs=4, select=select)
        (direction,) = directions.prepared(asked, print)
        notes = checks.check(asked, direction)
        assert sum("favours the epochs that adapted least" in note for note in notes) == noted


def test_a_dry_run_counts_both_phases(small_file, tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "timed", lambda action, device: 1.0)  # the count is tested, not this machine
    (plan,) = dry_run.plan(request(small_file, tmp_path, "shot-fl", epochs=10, source_epochs=2, batch=5))
    assert plan["steps"] == 3 * 2 + 3 * 8 and plan["batch"] == "5 source + 0 target"
    (shorter,) = dry_run.plan(request(small_file, tmp_path, "shot-fl", epochs=4, source_epochs=2, batch=5))
    assert plan["seconds_estimated"] > shorter["seconds_estimated"] > 0


def test_how_many_epochs_train_on_the_source(small_file):
    for method, changes, expected in (
        ("shot-fl", {"epochs": 9}, 4),
        ("shot-fl", {"epochs": 9, "source_epochs": 7}, 7),
        ("concat", {"epochs": 9, "source_epochs": 7}, 9),
    ):
        trainer, _ = trainer_of(small_file, method, **changes)
        assert phases.source_epochs(trainer.setup, trainer.every) == trainer.source_epochs == expected
