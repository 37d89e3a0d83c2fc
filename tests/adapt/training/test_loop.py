import copy

import numpy as np
import pytest
import torch
from cia_adapt import config
from cia_adapt.data import clips as data_clips
from cia_adapt.data import domains as data_domains
from cia_adapt.data import task as data_task
from cia_adapt.data.prefetch import announced, prefetched
from cia_adapt.data.readers import Stores
from cia_adapt.data.sampling import Endless, source_order
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Sizes
from cia_adapt.training.evaluate import Evaluator, Prediction
from cia_adapt.training.loop import best_epoch
from cia_adapt.training.optimisers import lr_factor
from cia_extract.common.errors import DivergedError, UsageError

from tests.adapt.runs_of import CPU, chosen, equal, quick_first, run, trainer_of

METHODS = config.names("methods")
ADAPTING = [name for name in METHODS if config.load("uh", name, {}).method.supervision == "source"]
BOTH, THREE = ("rgb", "flow"), ("rgb", "flow", "audio")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_learns(small_file, method):
    check_that_it_learns(small_file, method, BOTH, ("here", "there"))


@pytest.mark.parametrize("method", quick_first(METHODS))
def test_every_method_trains_and_learns_with_three_modalities_the_other_way(small_file, method):
    check_that_it_learns(small_file, method, THREE, ("there", "here"))


@pytest.mark.slow
@pytest.mark.parametrize(("modalities", "pair"), [(BOTH, ("there", "here")), (THREE, ("here", "there"))], ids=["two", "three"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_learns_the_remaining_ways(small_file, method, modalities, pair):
    check_that_it_learns(small_file, method, modalities, pair)


def check_that_it_learns(small_file, method, modalities, pair):
    """Classes that differ in their channels: loss falls, source validation is solved, the three numbers are there."""
    epochs = (
        16 if method in ("cia-jan", "jan", "transvae") else 8
    )  # JAN's loss holds the task's back; TranSVAE's own rate is 1e-3
    trainer, outcome = run(small_file, method, epochs=epochs, modalities=modalities, pair=pair)
    losses = [m["class_loss"] for m in outcome.history if "class_loss" in m]
    assert losses[-1] < 0.85 * losses[0]
    assert max(m["source_val_accuracy"] for m in outcome.history) > 60
    assert outcome.last.epoch == epochs and outcome.selected.epoch <= epochs
    assert outcome.last.target.probabilities[0].sum(1).numpy() == pytest.approx(np.ones(6), abs=1e-5)
    assert ("video_domain_loss" in outcome.history[0]) == ("adversarial" in trainer.method.objectives)
    assert all(p.grad is not None for p in trainer.model.parameters() if p.requires_grad)


ON_CIA = {"alignment", "self-training", "video", "source-free"}


@pytest.mark.parametrize("method", [name for name in METHODS if config.read("methods", name).get("group") in ON_CIA])
def test_every_later_objective_stands_on_the_modules_of_cia(small_file, method):
    """As `cia-NAME`, with the same settings of its own; or by `--refinement mc --pooling sc`."""
    short = method.removesuffix("-fl").removesuffix("-label")
    if f"cia-{short}" in METHODS:
        alone, on_cia = (config.load("uh", name, {}).method for name in (method, f"cia-{short}"))
        own = [name for name in alone.objectives if name != "adversarial"]
        assert (on_cia.refinement, on_cia.pooling) == ("mc", "sc") and set(own) <= set(on_cia.objectives)
        for name in own:
            differing = {key for key, value in on_cia.option(name).items() if alone.option(name).get(key) != value}
            assert differing <= {"reaches"} and alone.option(name).keys() <= on_cia.option(name).keys()
    else:
        _, outcome = run(small_file, method, epochs=2, modalities=THREE, refinement="mc", pooling="sc")
        assert outcome.history[0]["source_effective_cells"] > 1


@pytest.mark.parametrize("method", quick_first(ADAPTING))
def test_garbage_target_labels_change_nothing_in_training(small_file, method):
    """Bitwise: the weights and predictions of `last` and `selected`, and all that is recorded but the target's accuracy."""
    _, honest = run(small_file, method)
    _, garbage = run(small_file, method, garbage=True)
    for name in ("last", "selected"):
        a, b = getattr(honest, name), getattr(garbage, name)
        assert a.epoch == b.epoch and equal(a.state, b.state)
        assert torch.equal(a.target.probabilities[0], b.target.probabilities[0])
    for a, b in zip(honest.history, garbage.history, strict=True):
        assert {k: v for k, v in a.items() if k != "target_val_accuracy"} == {
            k: v for k, v in b.items() if k != "target_val_accuracy"
        }


@pytest.mark.parametrize("rule", ["entropy", "im", "snd", "bnm", "ami", "dev"])
def test_no_validator_sees_a_target_label(small_file, rule):
    _, honest = run(small_file, "concat", select=rule, epochs=4)
    _, garbage = run(small_file, "concat", select=rule, epochs=4, garbage=True)
    assert honest.selected.epoch == garbage.selected.epoch == best_epoch(honest.history, rule)
    assert equal(honest.selected.state, garbage.selected.state)


def test_the_garbage_of_the_tests_above_does_change_the_scores(small_file):
    _, honest = run(small_file, "source-only", epochs=8)
    _, garbage = run(small_file, "source-only", epochs=8, garbage=True)
    assert [m["target_val_accuracy"] for m in honest.history] != [m["target_val_accuracy"] for m in garbage.history]


def test_target_only_is_the_exception_and_says_so(small_file):
    _, evaluator = trainer_of(small_file, "target-only")
    assert [key for key in evaluator.target_labels.openings if key.startswith("TRAINING")]
    assert not trainer_of(small_file, "cia")[1].target_labels.openings
    _, honest = run(small_file, "target-only")
    assert honest.selected.epoch == honest.last.epoch


def test_a_seed_gives_the_same_run_and_another_seed_another(small_file):
    first, again, other = (run(small_file, "cia", seed=seed)[1] for seed in (0, 0, 1))
    assert equal(first.last.state, again.last.state) and first.history == again.history
    assert not equal(first.last.state, other.last.state)


def test_a_method_that_ignores_the_target_draws_the_same_source_batches(small_file):
    plain, aligned = (trainer_of(small_file, method)[0].draws() for method in ("source-only", "concat"))
    for a, b in zip(plain, aligned, strict=True):
        assert (a.source == b.source).all() and (a.views[0][0] == b.views[0][0]).all()
        assert len(a.target) == 0 and len(b.target) == 6


@pytest.mark.parametrize("batch", [6, 4])
def test_accumulated_batches_make_the_step_of_one_large_batch(small_file, batch):
    """Of 12 clips, without dropout: two batches of 6 or three of 4, against one of 12; other rates and momenta would show."""
    plain = {"dropout": 0.0, "epochs": 3, "average": 0.5, "optimiser": "sgd", "lr": 0.03}
    large, _ = run(small_file, "source-only", batch=12, **plain)
    small, outcome = run(small_file, "source-only", batch=batch, accumulate=12 // batch, **plain)
    for (name, a), b in zip(large.model.named_parameters(), small.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
    alone, _ = run(small_file, "source-only", batch=batch, **plain)
    assert not all(
        torch.allclose(a, b, atol=1e-4) for a, b in zip(large.model.parameters(), alone.model.parameters(), strict=True)
    )
    assert large.step == 3 and small.step == 3 * 12 // batch and len(outcome.history) == 3


@pytest.mark.parametrize("normalise", [True, False])
def test_scale_and_offset_of_a_modality_count_only_without_normalisation(small_file, normalise):
    trainer, _ = trainer_of(small_file, "source-only", normalise=normalise)
    model = trainer.model.eval()
    (view,) = trainer.read(trainer.draws()[0])
    with torch.no_grad():
        plain = model(view).frames["all"]
        moved = model({m: x.float() * 3 + 2 if m == "flow" else x for m, x in view.items()}).frames["all"]
    assert torch.allclose(plain, moved, atol=1e-3) == normalise
    assert (plain.std(0) > 0).any()


def test_more_of_the_shared_layer_stays_alive_at_the_papers_rate(feature_file):
    """Adam at 3e-3 on positive features: the share of units that answer to no training clip any more."""

    def dead(normalise: bool) -> float:
        trainer, _ = run(feature_file, "source-only", normalise=normalise, epochs=5, dropout=0.0)
        trainer.model.eval()
        with torch.no_grad():
            frames = [trainer.model(trainer.read(draw)[0]).frames["all"].flatten(0, 1) for draw in trainer.draws()]
        return float((torch.cat(frames) <= 0).all(0).float().mean())

    assert dead(True) < 0.5 < dead(False)


def test_alignment_reaches_what_stands_before_the_discriminators(small_file):
    """The reversed gradient moves the shared layer, and without one (frozen features) it could move nothing."""
    _, aligned = run(small_file, "concat")
    _, plain = run(small_file, "source-only")
    assert not equal(aligned.last.state, plain.last.state)
    trainer, bare = run(small_file, "concat", shared_features=0)
    assert set(bare.last.state) == {"classifiers.all.weight", "classifiers.all.bias"}
    draw = trainer.draws()[0]
    outputs = [trainer.model(view) for view in trainer.read(draw)]
    _, domain, _ = trainer._losses(outputs, trainer._step(draw, outputs))
    trainer.model.zero_grad()
    domain["everything"].backward()
    assert all(p.grad is None for p in trainer.model.parameters())


@pytest.mark.parametrize("method", ["cia", "concat", "ta3n", "ta3n-cia"])
def test_the_setups_reversal_weakens_all_that_is_reversed_and_nothing_else(small_file, method):
    def gradients(reversal: float) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Of the domain losses, to the shared layer and to the discriminators."""
        trainer, _ = trainer_of(small_file, method, reversal=reversal, dropout=0.0)
        draw = trainer.draws()[0]
        outputs = [trainer.model(view) for view in trainer.read(draw)]
        trainer.objectives["adversarial"](outputs[0], trainer._step(draw, outputs)).loss.backward()
        own = [*trainer.objectives["adversarial"].parameters(), *outputs[0].domain_logits.values()]
        return [p.grad for p in trainer.model.shared.parameters()], [p.grad for p in own if p.is_leaf]

    (shared, own), (weak, same) = gradients(1.0), gradients(0.25)
    assert any((g != 0).any() for g in shared)
    for full, quarter in zip(shared, weak, strict=True):
        torch.testing.assert_close(quarter, full / 4, rtol=1e-4, atol=1e-4 * float(full.abs().max()))
    for a, b in zip(own, same, strict=True):
        torch.testing.assert_close(a, b)


def test_selected_is_the_latest_epoch_of_best_source_validation(small_file):
    _, outcome = run(small_file, "source-only", epochs=8)
    accuracies = [m["source_val_accuracy"] for m in outcome.history]
    assert outcome.selected.epoch == max(i for i, a in enumerate(accuracies, 1) if a == max(accuracies))


def sizes(**changes) -> Sizes:
    return Sizes({"rgb": 64, "flow": 64}, {"rgb": (7, 7), "flow": (7, 7)}, (3,), 5, 0.0, **changes)


def test_frame_order_does_not_change_tsn_and_changes_trn():
    order = torch.tensor([4, 2, 0, 3, 1])
    inputs = {m: torch.rand(2, 5, 64, 7, 7) for m in ("rgb", "flow")}
    for method, same in (("cia", True), ("cia-trn", False)):
        torch.manual_seed(0)
        model = VideoModel(chosen(method).for_pair("", ""), sizes()).eval()
        with torch.inference_mode():
            plain, permuted = model(inputs), model({m: x[:, order] for m, x in inputs.items()})
        torch.testing.assert_close(permuted.consensus, plain.consensus[:, order])
        assert torch.allclose(permuted.videos["all"], plain.videos["all"], atol=1e-5) == same


def test_heads_combine_their_streams_as_they_say():
    torch.manual_seed(0)
    inputs = {m: torch.rand(2, 5, 64) for m in ("rgb", "flow")}
    for head in ("average", "sum", "blend"):
        method = config.load("uh", "source-only", {"head": head}).for_pair("", "")
        model = VideoModel(method, Sizes({"rgb": 64, "flow": 64}, {}, (3,), 5, 0.0)).eval()
        for classifier in model.classifiers.values():
            torch.nn.init.normal_(classifier.weight)
        with torch.inference_mode():
            output = model(inputs)
        rgb, flow = output.logits["rgb"], output.logits["flow"]
        expected = {
            "average": (rgb.softmax(1) + flow.softmax(1)) / 2,
            "sum": (rgb + flow).softmax(1),
            "blend": output.logits.get("all", rgb).softmax(1),
        }[head]
        torch.testing.assert_close(output.probabilities()[0], expected)
        assert (
            set(output.class_losses(torch.zeros(1, 1, dtype=torch.long)))
            == {
                "average": {"rgb", "flow"},
                "sum": {"sum"},
                "blend": {"rgb", "flow", "all"},
            }[head]
        )


def test_verbs_and_nouns_share_features_and_have_classifiers_each():
    torch.manual_seed(0)
    many = Sizes({"rgb": 16}, {}, (4, 6), 5, 0.0)
    model = VideoModel(config.load("e100", "source-only", {}).for_pair("", ""), many).eval()
    output = model({"rgb": torch.rand(3, 5, 16)})
    verbs, nouns = output.probabilities()
    assert verbs.shape == (3, 4) and nouns.shape == (3, 6)
    labels = torch.tensor([[0, 5], [3, 1]])
    logits = output.logits["all"][:2]
    cross = torch.nn.functional.cross_entropy
    expected = (cross(logits[:, :4], labels[:, 0]) + cross(logits[:, 4:], labels[:, 1])) / 2
    torch.testing.assert_close(output.class_loss(labels), expected)


def test_action_accuracy_ranks_products():
    """Against all products, clip by clip; "both in their top five" would count more."""
    random = torch.Generator().manual_seed(0)
    verbs, nouns = torch.rand(40, 9, generator=random).softmax(1), torch.rand(40, 11, generator=random).softmax(1)
    labels = np.random.default_rng(0).integers([0, 0], [9, 11], size=(40, 2))
    scores = Prediction((verbs, nouns), torch.zeros(40, 1)).by_label(labels, ("verb", "noun"))
    for k in (1, 5):
        right = 0
        for v, n, (verb, noun) in zip(verbs, nouns, labels, strict=True):
            products = (v[:, None] * n[None, :]).flatten()
            right += int(verb * 11 + noun in products.argsort(descending=True)[:k].tolist())
        assert scores[f"action@{k}"] == pytest.approx(100 * right / 40)
    assert scores["verb@1"] == pytest.approx(100 * float((verbs.argmax(1).numpy() == labels[:, 0]).mean()))
    assert Prediction((verbs, nouns), torch.zeros(40, 1)).accuracy(labels) == pytest.approx(scores["action@1"])


@pytest.mark.parametrize(
    ("method", "modalities", "message"),
    [
        ("cia", ("rgb",), "MC exchanges between modalities and needs two"),
        ("sc-3", ("flow",), "SC is a consensus of modalities with maps and needs two"),
        ("sc-3", ("flow", "audio"), "SC is a consensus of modalities with maps and needs two"),
        ("mmtm-fl", ("rgb",), "MMTM exchanges between modalities"),
        ("gblend-fl", ("rgb",), "--head blend"),
        ("mmsada-fl", ("rgb",), "correspondence: compares modalities"),
        ("kim-fl", ("rgb",), "cross_modal: contrasts modalities"),
        ("att-flow", ("rgb", "audio"), "flow guides another modality"),
        ("max", ("audio",), "--pooling max: needs maps, and of audio there are vectors only"),
    ],
)
def test_modalities_that_a_method_cannot_do_with(small_file, method, modalities, message):
    with pytest.raises(UsageError, match=message):
        trainer_of(small_file, method, modalities=modalities)


@pytest.mark.parametrize("modalities", [("rgb",), ("audio",), ("rgb", "audio"), THREE])
def test_any_subset_of_modalities(small_file, modalities):
    for method in ("concat", "ta3n", *(["mc"] if len(modalities) > 1 else [])):
        _, outcome = run(small_file, method, modalities=modalities)
        assert outcome.last.target.probabilities[0].shape == (6, 3)


def test_features_that_are_not_finite_stop_the_run(small_file):
    trainer, _ = trainer_of(small_file, "source-only")
    clips = trainer.task.source_train.clips
    clips.readers["rgb"].blocks[:, 3] = torch.nan
    with pytest.raises(DivergedError, match="the loss is nan at step 1") as error:
        trainer.epoch()
    assert error.value.exit_code == 6


def test_ragged_last_batch_sees_every_clip_once(small_file):
    trainer, _ = trainer_of(small_file, "concat", batch=5)
    draws = trainer.draws()
    assert sorted(np.concatenate([draw.source for draw in draws]).tolist()) == list(range(12))
    assert [len(draw.source) for draw in draws] == [5, 5, 2] and [len(draw.target) for draw in draws] == [5, 5, 2]
    trainer.epoch()
    assert trainer.step == trainer.steps_per_epoch == 3


def test_balanced_sampling_draws_classes_alike():
    labels = np.array([0] * 90 + [1] * 10)
    order = source_order(labels, True, np.random.default_rng(0))
    assert len(order) == 100 and 35 < (labels[order] == 1).sum() < 65
    assert sorted(source_order(labels, False, np.random.default_rng(0)).tolist()) == list(range(100))


def test_target_batches_are_full_and_fair():
    endless = Endless(10, np.random.default_rng(0))
    drawn = [endless.take(4) for _ in range(5)]
    assert all(len(batch) == 4 for batch in drawn)
    assert sorted(np.concatenate(drawn).tolist()) == sorted([*range(10), *range(10)])


def test_prefetching_keeps_the_order_and_raises_at_its_turn():
    assert list(prefetched(range(5), lambda i: i * i)) == [(i, i * i) for i in range(5)]
    assert list(prefetched([], lambda i: i)) == []
    seen = []
    with pytest.raises(ZeroDivisionError):
        for request, _ in prefetched([2, 1, 0, 5], lambda i: 1 / i):
            seen.append(request)
    assert seen == [2, 1]


def test_learning_rate_schedule(small_file):
    """The values of `docs/facts.md`, and what the optimiser gets."""
    assert [round(lr_factor(p), 6) for p in (0.1, 0.5, 1.0)] == [0.594604, 0.260847, 0.165560]
    trainer, _ = trainer_of(small_file, "source-only", epochs=5)
    trainer.epoch()
    assert trainer.optimiser.param_groups[0]["lr"] == pytest.approx(3e-3 * lr_factor(1 / 10))


def test_announcing_comes_one_request_before_reading():
    said: list[str] = []
    found = list(announced(range(3), lambda i: said.append(f"announce {i}"), lambda i: said.append(f"read {i}") or i * i))
    assert found == [(0, 0), (1, 1), (2, 4)]
    assert said == ["read 0", "announce 1", "read 1", "announce 2", "read 2"]
    assert list(announced([], said.append, lambda i: i)) == []


@pytest.mark.parametrize("method", ["cia", "stcda-fl"])
def test_how_batches_are_read_changes_no_bit(small_file, method):
    """By a thread, at their turn, from a memory map or from memory; STCDA alone reads two views."""
    found = []
    for tier, in_thread in (("map", False), ("map", True), ("ram", False)):
        trainer, _ = trainer_of(small_file, method, tier=tier)
        trainer.reads_in_thread = in_thread
        found.append((trainer.epoch(), copy.deepcopy(trainer.model.state_dict())))
    for metrics, state in found[1:]:
        assert metrics == found[0][0]
        assert all(torch.equal(state[name], found[0][1][name]) for name in state)


def test_dropout_is_off_in_evaluation(small_file):
    trainer, outcome = run(small_file, "cia")
    evaluator = Evaluator(trainer.task, data_clips.SealedLabels(np.zeros((6, 1), np.int64)), 5, CPU)
    model = copy.deepcopy(trainer.model).train()
    found = evaluator.predict(model, trainer.task.target_val).probabilities[0]
    assert torch.equal(found, outcome.last.target.probabilities[0])


def test_maps_and_vectors_give_the_same_where_gates_commute_with_pooling(small_file):
    """MC under average pooling reads vectors; over the maps themselves it predicts the same, but for float16's rounding."""
    trainer, _ = run(small_file, "mc")
    domains = data_domains.find_domains(small_file)
    task, _ = data_task.make_task(domains["here"], domains["there"], BOTH, True, trainer.setup, Stores(CPU))
    over_maps = VideoModel(trainer.method, task.sizes)
    over_maps.load_state_dict(trainer.model.state_dict())
    evaluator = Evaluator(task, data_clips.SealedLabels(np.zeros((6, 1), np.int64)), 5, CPU)
    a = evaluator.predict(trainer.model, trainer.task.target_val).probabilities[0]
    b = evaluator.predict(over_maps, task.target_val).probabilities[0]
    assert task.target_val.readers["rgb"].blocks.ndim == 4
    torch.testing.assert_close(a, b, atol=2e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["concat", "cia"])  # cia cuts the reversed gradient before the shared layer
def test_the_compiled_model_is_the_model(small_file, method):
    from cia_adapt.training.trainer import Trainer
    from torch._inductor import config as inductor

    plain, _ = trainer_of(small_file, method, batch=5)
    compiled = Trainer(plain.task, plain.setup, plain.method, 0, CPU, compiled=True)
    for trainer in (plain, compiled):
        torch.manual_seed(0)  # the same masks of dropout for both; by default compiled code draws its own
        with inductor.patch(fallback_random=True):
            trainer.metrics = trainer.epoch()
    assert compiled.metrics["class_loss"] == pytest.approx(plain.metrics["class_loss"], rel=1e-4)


@pytest.mark.parametrize("method", ["kim-fl", "kim-fl-source-only", "stcda-fl", "stcda-fl-source-only", "mmsada-fl"])
def test_a_last_batch_of_one_clip_is_no_obstacle(small_file, method):
    trainer, _ = trainer_of(small_file, method, batch=11)
    assert len(trainer.draws()[-1].source) == 1
    assert np.isfinite(trainer.epoch()["class_loss"])
