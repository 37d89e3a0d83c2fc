"""What is tried next: inside the space, the same again, and better than chance."""

import numpy as np
import pytest
from cia_adapt.config import Choice, Range
from cia_adapt.experiments.proposals import STARTUP, _distributions, proposed

SPACE = {
    "setup.lr": Range(1e-4, 1e-2, log=True),
    "setup.dropout": Range(0.0, 0.8),
    "sc.scales": Range(1, 3),
    "setup.optimiser": Choice(("adam", "sgd")),
    "setup.epochs": Range(2, 60, log=True),
}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_values_lie_in_the_space_and_follow_from_the_seed(sampler):
    drawn = proposed(SPACE, sampler, 3, [], 40, 1)
    assert all(SPACE[key].holds(value) for values in drawn for key, value in values.items())
    assert {values["sc.scales"] for values in drawn} == {1, 2, 3} and len({values["setup.lr"] for values in drawn}) == 40
    assert drawn == proposed(SPACE, sampler, 3, [], 40, 1) != proposed(SPACE, sampler, 4, [], 40, 1)


def test_random_trials_do_not_depend_on_how_many_are_drawn_at_once():
    all_at_once = proposed(SPACE, "random", 0, [], 12, 1)
    past = [(values, None) for values in all_at_once[:5]]
    assert proposed(SPACE, "random", 0, past, 7, 1) == all_at_once[5:]


def test_random_trials_are_those_of_optuna_with_which_searches_were_begun():
    import optuna

    distributions, drawn = _distributions(SPACE), proposed(SPACE, "random", 5, [], 200, 1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for number, values in enumerate(drawn, 1):
        study.sampler = optuna.samplers.RandomSampler(int(np.random.SeedSequence([5, number]).generate_state(1)[0]))
        theirs = study.ask(distributions).params
        assert values.keys() == theirs.keys()
        assert {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in theirs.items()} == values


def test_rates_are_drawn_evenly_over_magnitudes():
    rates = [values["setup.lr"] for values in proposed(SPACE, "random", 0, [], 200, 1)]
    assert 0.4 < np.mean(np.array(rates) < 1e-3) < 0.6


@pytest.mark.parametrize("scores", [1, 2])
def test_tpe_comes_nearer_to_the_best_than_chance(scores):
    def distance(values):
        return abs(np.log10(values["setup.lr"] / 3e-3)) + abs(values["setup.dropout"] - 0.2)

    def far(sampler):
        past = []
        while len(past) < 40:
            (values,) = proposed(SPACE, sampler, 0, past, 1, scores)
            past.append((values, None if len(past) == 5 else [-distance(values)] * scores))
        return np.mean([distance(values) for values, _ in past[STARTUP + 10 :]])

    assert far("tpe") < 0.7 * far("random")
