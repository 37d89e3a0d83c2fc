import pytest
from cia_adapt.training.optimisers import lr_factor, optimiser_of, rate, set_rate
from torch import nn

from tests.adapt.runs_of import chosen, trainer_of


def test_the_rate_warms_up_evenly_and_decays_meanwhile():
    setup = chosen("concat", warm_up=0.1).setup
    assert [rate(setup, step, 100) for step in (0, 4, 9, 10, 99)] == pytest.approx(
        [0.1, 0.5 * lr_factor(0.04), lr_factor(0.09), lr_factor(0.1), lr_factor(0.99)]
    )
    constant = chosen("concat", warm_up=0.1, lr_decay=False).setup
    assert [rate(constant, step, 100) for step in (0, 9, 10)] == pytest.approx([0.1, 1.0, 1.0])


def test_without_a_warm_up_the_rate_is_that_of_the_versions_before():
    setup = chosen("concat").setup
    assert setup.warm_up == 0
    assert [rate(setup, step, 7) for step in range(7)] == [lr_factor(step / 7) for step in range(7)]
    assert rate(chosen("concat", lr_decay=False).setup, 3, 7) == 1.0


def test_the_first_step_is_a_small_one(small_file):
    trainer, _ = trainer_of(small_file, "concat", warm_up=0.5, batch=3, epochs=5)
    trainer.train_step(draw := trainer.draws()[0], trainer.read(draw))
    assert trainer.steps_total == 20
    assert [group["lr"] for group in trainer.optimiser.param_groups] == pytest.approx([0.1 * trainer.setup.lr] * 2)


@pytest.mark.parametrize(("backbone_lr", "expected"), [(0.0, 3e-3), (1e-4, 1e-4)])
def test_the_backbone_has_a_rate_of_its_own_that_decays_as_the_others(backbone_lr, expected):
    class WithTrunk(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.heads = nn.Linear(2, 2), nn.Linear(2, 2)

    model = WithTrunk()
    model.trunk.bias.requires_grad_(False)  # what --freeze-until leaves alone is in no group
    setup = chosen("concat", lr=3e-3, backbone_lr=backbone_lr).setup
    optimiser = optimiser_of(model, [], setup)
    heads, trunk = optimiser.param_groups
    assert (heads["lr"], trunk["lr"]) == (3e-3, expected)
    assert trunk["params"] == [model.trunk.weight] and len(heads["params"]) == 2
    set_rate(optimiser, setup, 1, 2)
    assert (heads["lr"], trunk["lr"]) == pytest.approx((3e-3 * lr_factor(0.5), expected * lr_factor(0.5)))
