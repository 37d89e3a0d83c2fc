"""What a loss reaches, the average of the weights, label smoothing, and discriminators with a rate of their own."""

import json

import pytest
import torch
from cia_adapt.runs import key
from cia_adapt.training.loop import train
from cia_extract.common.errors import UsageError
from torch.nn import functional as F

from tests.adapt.runs_of import chosen, equal, run, trainer_of

THREE = ("rgb", "flow", "audio")


def game(reach: str, part: str = "adversarial") -> tuple[str, ...]:
    return f"{part}.reaches={reach}", f"{part}.ramp=0"  # with a ramp λ would be 0 at the first step


def gradients(file, method: str, sets: tuple[str, ...], **overrides) -> dict[str, torch.Tensor]:
    """Of one step, by the parameter's name."""
    trainer, _ = trainer_of(file, method, sets=sets, dropout=0.0, **overrides)
    draw = trainer.draws()[0]
    trainer.model.train()
    trainer.setup = trainer.setup.__class__(**vars(trainer.setup) | {"clip_norm": 0.0})
    trainer.train_step(draw, trainer.read(draw))
    modules = (("model", trainer.model), ("objectives", trainer.objectives))
    return {f"{kind}.{n}": p.grad for kind, module in modules for n, p in module.named_parameters()}


@pytest.mark.parametrize(
    ("reach", "shut"),
    [("everything", ()), ("all_but_pooling", ("model.pooling",)), ("shared", ("model.pooling", "model.refinement"))],
)
def test_parameters_that_the_reversed_gradient_does_not_reach_have_the_task_s_gradient_alone(small_file, reach, shut):
    """λ = 0 shows the task's gradient: what is shut has it to the last bits, all others have the discriminators' as well."""
    task = gradients(small_file, "cia", game(reach), reversal=1e-6)
    both = gradients(small_file, "cia", game(reach), reversal=1e3)
    for name, gradient in both.items():
        if not gradient.any() and not task[name].any():
            continue  # of a unit that is dead from the start
        same = torch.equal(gradient, task[name])
        aligned = name.startswith("model.") and "classifiers" not in name
        assert same == (not aligned or name.startswith(shut or "-")), name


@pytest.mark.parametrize(
    ("method", "part"),
    [
        ("cia-cdan", "conditional_adversarial"),
        ("cia-cdan-e", "conditional_adversarial"),
        ("cia-mdd", "margin_disparity"),
        ("cia-mcd", "classifier_discrepancy"),
    ],
)
def test_other_games_keep_out_of_mc_and_sc_as_well(small_file, method, part):
    def of(reach: str, reversal: float) -> dict[str, torch.Tensor]:
        return gradients(small_file, method, game(reach, part), reversal=reversal)

    (weak, strong), everything = (of("shared", 1e-6), of("shared", 1e3)), of("everything", 1e3)
    shut = [name for name in weak if name.startswith(("model.pooling", "model.refinement")) and everything[name].any()]
    assert shut and all(torch.equal(weak[name], strong[name]) for name in shut)
    assert not all(torch.equal(weak[name], everything[name]) for name in shut)
    assert any(not torch.equal(weak[name], strong[name]) for name in weak if name.startswith("model.shared"))


@pytest.mark.parametrize(
    ("method", "part"),
    [
        ("cia-mcc", "class_confusion"),
        ("cia-im", "information_maximisation"),
        ("cia-mec", "consensus_entropy"),
        ("cia-ib", "information_bottleneck"),
        ("cia-afn", "feature_norm"),
        ("cia-dan", "kernel_discrepancy"),
        ("cia-jan", "kernel_discrepancy"),
        ("cia-coral", "coral"),
        ("cia-bsp", "spectral_penalty"),
        ("cia-rna", "relative_norm"),
    ],
)
@pytest.mark.parametrize("reach", ["shared", "everything"])
def test_losses_without_a_game_keep_out_of_mc_and_sc_where_they_are_told_to(small_file, method, part, reach):
    """Kept out, the loss's weight changes no bit of what MC and SC get; else it does. The shared layer gets it in any case."""
    weak, strong = (
        gradients(small_file, method, (f"{part}.reaches={reach}", f"{part}.weight={weight}")) for weight in (0.5, 50.0)
    )
    changed = {name for name in weak if not torch.equal(weak[name], strong[name])}
    shut = {name for name in weak if name.startswith(("model.pooling", "model.refinement"))}
    assert bool(changed & shut) == (reach == "everything")
    assert any(name.startswith("model.shared") for name in changed)


@pytest.mark.parametrize(
    ("method", "beside"),
    [
        ("cia", None),
        ("cia-im", "information_maximisation"),
        ("cia-rna", "relative_norm"),
        ("ta3n-cia", "attentive_entropy"),
        ("tada", None),
    ],
)
def test_no_aligning_loss_reaches_mc_and_sc_with_three_modalities(small_file, method, beside):
    """Twice the task loss is twice the gradient, to the last bit, in SC and MC (here before TADA's pooling too), with the third
    modality's gates: no other loss adds to it. Where the losses reach everything one does, as in the shared layer in any case.
    """

    def of(reach: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        sets = game(reach) if beside is None else (*game(reach), f"{beside}.reaches={reach}", f"{beside}.weight=1")
        once, twice = (gradients(small_file, method, sets, refinement="mc", modalities=THREE, lambda_class=x) for x in (1.0, 2.0))
        return once, twice

    def by_the_task_alone(once: dict[str, torch.Tensor], twice: dict[str, torch.Tensor], names: list[str]) -> list[bool]:
        return [torch.equal(2 * once[name], twice[name]) for name in names]

    shared, everything = of("shared"), of("everything")
    shut = [n for n in shared[0] if n.startswith(("model.pooling", "model.refinement")) and "discriminators" not in n]
    assert all(by_the_task_alone(*shared, shut))
    gates = [n for n in shut if "audio" in n and everything[0][n].any()]
    assert {n.split(".")[3] for n in gates} == {"audio_from_rgb", "audio_from_flow", "rgb_from_audio", "flow_from_audio"}
    assert not any(by_the_task_alone(*everything, gates))
    assert not all(by_the_task_alone(*shared, [n for n in shared[0] if n.startswith("model.shared")]))


@pytest.mark.parametrize(("method", "place"), [("tada", "model.pooling"), ("ta3n-cia", "model.temporal.all")])
@pytest.mark.parametrize("modalities", [THREE[:2], THREE], ids=["two", "three"])
def test_discriminators_inside_a_part_learn_whatever_the_gradient_reaches(small_file, method, place, modalities):
    for reach in ("everything", "all_but_pooling", "shared"):
        named = gradients(small_file, method, game(reach), modalities=modalities)
        own = [g for name, g in named.items() if name.startswith(f"{place}.discriminators")]
        assert own and all(g is not None and g.abs().sum() > 0 for g in own)


def test_a_gradient_that_reaches_everything_is_one_backward_pass_with_the_same_numbers(small_file):
    """The default's numbers are those of the versions before there was a choice."""
    plain, told = (run(small_file, "mc", sets=sets)[1] for sets in ((), ("adversarial.reaches=everything",)))
    assert equal(plain.last.state, told.last.state) and plain.history == told.history


def test_discriminators_have_a_rate_and_a_momentum_of_their_own(small_file):
    trainer, _ = trainer_of(small_file, "concat", sets=("adversarial.lr=0.25", "adversarial.beta1=0.5"))
    model, discriminators = trainer.optimiser.param_groups
    assert discriminators["initial_lr"] == 0.25 * model["initial_lr"] and discriminators["betas"] == (0.5, 0.999)
    assert model["betas"] == (0.9, 0.999)
    assert {id(p) for p in discriminators["params"]} == {id(p) for p in trainer.objectives.parameters()}
    trainer.epoch()
    assert discriminators["lr"] == pytest.approx(0.25 * model["lr"])


@pytest.mark.parametrize(("method", "place"), [("ta3n", "temporal"), ("tada", "pooling"), ("transvae", "temporal")])
@pytest.mark.parametrize("setting", ["lr=0.25", "beta1=0.5"])
def test_discriminators_inside_the_model_go_with_those_of_the_objective(small_file, method, place, setting):
    """Each parameter stands in one group; at the defaults the model is one group, as in the versions before."""
    trainer, _ = trainer_of(small_file, method, sets=(f"adversarial.{setting}",), optimiser="adam")
    named = dict(trainer.model.named_parameters())
    inside = {id(p) for name, p in named.items() if name.startswith(place) and "discriminators" in name}
    own = {id(p) for p in trainer.objectives["adversarial"].parameters()}
    model, discriminators, *others = trainer.optimiser.param_groups
    assert inside and {id(p) for p in discriminators["params"]} == inside | own
    assert {id(p) for p in model["params"]} == {id(p) for p in named.values()} - inside
    assert (discriminators["lr"] / model["lr"], *discriminators["betas"]) == (
        (0.25, 0.9, 0.999) if setting == "lr=0.25" else (1.0, 0.5, 0.999)
    )
    assert sum(len(group["params"]) for group in trainer.optimiser.param_groups) == len(inside | own) + len(model["params"])
    assert not others
    plain, _ = trainer_of(small_file, method, optimiser="adam")
    assert [id(p) for p in plain.optimiser.param_groups[0]["params"]] == [id(p) for p in plain.model.parameters()]


def test_a_momentum_of_adam_s_is_refused_with_sgd(small_file):
    with pytest.raises(
        UsageError,
        match=r"^--set adversarial\.beta1=0\.5: is Adam's, and sgd has none; take --optimiser adam, or leave it at 0\.9$",
    ):
        trainer_of(small_file, "concat", sets=("adversarial.beta1=0.5",), optimiser="sgd")
    trainer_of(small_file, "concat", sets=("adversarial.beta1=0.9", "adversarial.lr=0.5"), optimiser="sgd")


def test_a_loss_without_a_gradient_is_passed_over(small_file):
    """RNA over frozen features, told to reach the shared layer that is not there: the task alone trains, as with any reach."""
    told, plain = (
        run(small_file, "rna", sets=(f"relative_norm.reaches={reach}",), shared_features=0)[1]
        for reach in ("shared", "everything")
    )
    assert told.history == plain.history and equal(told.last.state, plain.last.state)
    assert told.history[0]["relative_norm_loss"] > 0 and "domain_gradient" not in told.history[0]


def test_the_average_is_what_is_evaluated_and_kept(small_file):
    """Against the recursion a ← 0.9 a + 0.1 w over the weights after each step."""
    trainer, evaluator = trainer_of(small_file, "concat", average=0.9, epochs=2)
    weights, step = [], trainer.train_step

    def recorded(*arguments, **options):
        result = step(*arguments, **options)
        weights.append({n: p.detach().clone() for n, p in trainer.model.named_parameters()})
        return result

    trainer.train_step = recorded
    outcome = train(trainer, evaluator, lambda metrics: None)
    average = weights[0]
    for later in weights[1:]:
        average = {n: 0.9 * a + 0.1 * later[n] for n, a in average.items()}
    for name, expected in average.items():
        torch.testing.assert_close(outcome.last.state[name], expected)
        if "classifiers" in name:
            assert not torch.equal(trainer.model.state_dict()[name], outcome.last.state[name])


@pytest.mark.parametrize("method", ["source-only", "gblend-fl"])
def test_label_smoothing_is_torch_s(small_file, method):
    """Also where an objective has the task's loss: gblend-fl's streams weigh alike before its pilot run."""
    trainer, _ = trainer_of(small_file, method, smoothing=0.1)
    draw = trainer.draws()[0]
    trainer.model.eval()
    metrics, _ = trainer.train_step(draw, trainer.read(draw))
    again, _ = trainer_of(small_file, method, smoothing=0.1)
    again.model.eval()
    labels = torch.from_numpy(again.task.source_train.labels[draw.source, 0])
    logits = [x[: len(labels)] for x in again.model(again.read(draw)[0]).logits.values()]
    expected = torch.stack([F.cross_entropy(x, labels, label_smoothing=0.1) for x in logits]).mean()
    assert len(logits) == (1 if method == "source-only" else 3)
    assert float(metrics["class_loss"]) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_run_of_a_version_without_a_setting_is_the_same_run_at_its_default():
    config = {
        "setup": vars(chosen("cia").setup),
        "method": json.loads(json.dumps(vars(chosen("cia").for_pair("a", "b")), default=dict)),
    }
    old = json.loads(json.dumps(config))
    for setting in ("reaches", "smoothing", "penalty", "lr", "beta1"):
        if setting != "reaches":
            del old["method"]["options"]["adversarial"][setting]
    del old["method"]["options"]["sc"]["blend"], old["setup"]["average"], old["setup"]["smoothing"]
    assert key.compare(old, config) == []
    old["method"]["options"]["sc"]["blend"] = 0.5
    assert [d.field for d in key.compare(old, config)] == ["method.options.sc.blend"]
