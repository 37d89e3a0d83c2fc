import math

import numpy as np
import pytest
import torch
from cia_adapt.results import statistics
from cia_adapt.runs import correlations
from cia_adapt.training.evaluate import Prediction
from scipy import stats


def right(seeds: int, clips: int, share: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, clips)) < share


@pytest.mark.parametrize("count", [4, 8, 20])
def test_interquartile_mean_is_scipys_trimmed_mean(count):
    values = np.random.default_rng(0).random(count)
    assert statistics.interquartile_mean(values.tolist()) == pytest.approx(stats.trim_mean(values, 0.25))
    assert statistics.interquartile_mean([3.0]) == 3 and statistics.interquartile_mean([1.0, 3.0]) == 2


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 11])
def test_interquartile_mean_is_the_mean_of_the_middle_half_of_repeated_values(count):
    """Four of each value make the middle half whole: SciPy's trimmed mean of them."""
    values = np.random.default_rng(count).random(count)
    assert statistics.interquartile_mean(values.tolist()) == pytest.approx(stats.trim_mean(np.repeat(values, 4), 0.25))


def test_interquartile_mean_ignores_outliers():
    values = [50.0, 51, 52, 53, 54, 55, 56, 57]
    assert statistics.interquartile_mean(values) == statistics.interquartile_mean([-1000, 51, 52, 53, 54, 55, 56, 1000])


def slow_bootstrap(strata: list[np.ndarray], rounds: int = 4000) -> tuple[float, float]:
    random, means = np.random.default_rng(9), []
    for _ in range(rounds):
        drawn = []
        for values in strata:
            rows, columns = random.integers(len(values), size=len(values)), random.integers(values.shape[1], size=values.shape[1])
            drawn.append(values[rows][:, columns].mean())
        means.append(np.mean(drawn))
    return tuple(100 * np.quantile(means, [0.025, 0.975]))


def test_interval_equals_a_slow_bootstrap():
    strata = [right(10, 60, 0.6), right(10, 40, 0.8, 1)]
    assert statistics.interval(strata) == pytest.approx(slow_bootstrap([s.astype(float) for s in strata]), abs=0.7)


def test_strata_count_equally_whatever_their_sizes():
    """A pair of 10 clips with all right and one of 1000 with none: 50, where pooling the clips would give 1."""
    strata = [np.ones((5, 10), dtype=bool), np.zeros((5, 1000), dtype=bool)]
    assert statistics.interval(strata) == pytest.approx((50, 50))
    assert statistics.paired(strata, [~s for s in strata]) == pytest.approx((0, 0, 0), abs=1e-9)


def test_an_interval_is_the_same_each_time_and_for_another_seed_nearly():
    strata = [right(5, 100, 0.7)]
    assert statistics.interval(strata, 3) == statistics.interval(strata, 3) != statistics.interval(strata, 4)
    assert statistics.interval(strata, 3) == pytest.approx(statistics.interval(strata, 4), abs=1)


def test_both_seeds_and_clips_are_drawn():
    """Seeds that differ and clips that do not, and the other way round: neither interval has no width."""
    by_seed, by_clip = np.repeat(right(10, 1, 0.5, 1), 50, axis=1), np.repeat(right(1, 50, 0.5, 1), 10, axis=0)
    for values in (by_seed, by_clip):
        low, high = statistics.interval([values])
        of = values[:, 0] if values is by_seed else values[0]
        error = 100 * of.std() / len(of) ** 0.5
        assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """Accuracy 0.7 of independent clips: 95 % of the intervals, three standard errors of 200 trials around it."""
    covered = sum(low <= 70 <= high for low, high in (statistics.interval([right(5, 80, 0.7, k)], k) for k in range(200)))
    assert 0.90 <= covered / 200 <= 1.0


def test_paired_difference():
    a = right(6, 50, 0.7)
    assert statistics.paired([a], [a]) == (0, 0, 0)
    assert statistics.paired([np.ones_like(a)], [np.zeros_like(a)]) == pytest.approx((100, 100, 100))
    swapped = statistics.paired([a, right(6, 20, 0.5, 2)], [right(6, 50, 0.5, 3), right(6, 20, 0.8, 4)])
    back = statistics.paired([right(6, 50, 0.5, 3), right(6, 20, 0.8, 4)], [a, right(6, 20, 0.5, 2)])
    assert swapped == pytest.approx((-back[0], -back[2], -back[1]))
    b = a.copy()
    b[:, :10] = False
    points, low, high = statistics.paired([a], [b])
    assert points == pytest.approx(100 * (a.mean() - b.mean())) and 0 < low < points < high
    slow = slow_bootstrap([a.astype(float) - b])
    assert (low, high) == pytest.approx(slow, abs=1.0)


def test_pairing_is_narrower_than_two_intervals():
    """Clips are hard or easy for both methods alike."""
    hard = np.random.default_rng(0).random(100)
    a, b = (np.random.default_rng(k).random((8, 100)) * 0.2 + 0.4 > hard for k in (1, 2))
    _, low, high = statistics.paired([a], [b])
    alone = statistics.interval([a])
    assert high - low < alone[1] - alone[0]


@pytest.mark.parametrize(("only_first", "only_second"), [(8, 0), (5, 5), (9, 2), (1, 12), (0, 1)])
def test_mcnemar_by_hand(only_first, only_second):
    """Twice the smaller tail of Binomial(n, ½), at most 1; clips that both get right or wrong do not matter."""
    a = np.array([[True] * only_first + [False] * only_second + [True] * 7 + [False] * 4])
    b = np.array([[False] * only_first + [True] * only_second + [True] * 7 + [False] * 4])
    n = only_first + only_second
    tail = sum(math.comb(n, i) for i in range(min(only_first, only_second) + 1)) / 2**n
    assert statistics.mcnemar(a, b) == pytest.approx(min(1, 2 * tail)) == statistics.mcnemar(b, a)


def test_mcnemar_is_the_binomial_test_of_discordant_clips():
    a, b = right(1, 60, 0.8), right(1, 60, 0.5, 1)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    assert statistics.mcnemar(a, b) == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)
    assert statistics.mcnemar(a, a) == 1
    three = np.concatenate([a, a, b])
    assert statistics.mcnemar(three, np.concatenate([b, a, b])) == 1  # the median over seeds


def test_rank_correlation_is_spearmans():
    random = np.random.default_rng(0)
    x, y = random.integers(5, size=20), random.integers(5, size=20)
    assert correlations.rank_correlation(x.tolist(), y.tolist()) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-4)
    assert correlations.rank_correlation([1, 1, 1], [1, 2, 3]) is None and correlations.rank_correlation([1, 2], [1, 2]) is None


def test_validator_summary():
    histories = [
        [{"validator_im": v, "target_val_accuracy": t} for v, t in zip(values, (10, 20, 30), strict=True)]
        for values in ((1, 2, 3), (1, 3, 2), (9, 9, 9))
    ]
    (row,) = statistics.validator_summary(histories).to_dict("records")
    assert row["within runs"] == pytest.approx((1 + 0.5) / 2) and row["runs"] == 2 and row["across runs"] is None


def test_validator_summary_across_runs_compares_their_last_epochs():
    """Two validators, four runs of two epochs: one follows the target's accuracy over the runs, the other runs against it."""
    last, histories = (30, 10, 40, 20), []
    for accuracy in last:
        end = {"validator_im": accuracy / 10, "validator_snd": -accuracy, "target_val_accuracy": accuracy}
        histories.append([{"validator_im": 99.0, "validator_snd": 0.0, "target_val_accuracy": 5.0}, end])
    rows = {row["validator"]: row for row in statistics.validator_summary(histories).to_dict("records")}
    assert list(rows) == ["im", "snd"]
    assert (rows["im"]["across runs"], rows["snd"]["across runs"]) == (1, -1)
    assert rows["im"]["runs"] == 0  # two epochs have no rank correlation
    assert rows["im"]["within runs"] is None or math.isnan(rows["im"]["within runs"])


def test_validator_correlations_of_one_run():
    history = [
        {"validator_im": im, "validator_ami": 0.5, "target_val_accuracy": accuracy}
        for im, accuracy in ((0.1, 20.0), (0.4, 30.0), (0.2, 40.0), (0.3, 10.0))
    ]
    expected = stats.spearmanr([0.1, 0.4, 0.2, 0.3], [20, 30, 40, 10]).statistic
    assert correlations.validator_correlations(history) == {"im": pytest.approx(expected, abs=1e-4), "ami": None}


def test_summary_counts_seeds_and_keeps_the_order():
    """Mean and standard deviation (n − 1) of each column over the seeds of a pair."""
    key = {"setup": "uh", "source": "ucf", "target": "hmdb"}
    results = [
        key | {"method": method, "target_val_clips": 360} | dict.fromkeys(statistics.COLUMNS, value)
        for method, value in (("cia", 80.0), ("avg", 70.0), ("cia", 84.0))
    ]
    rows = statistics.summary(results).to_dict("records")
    assert [(row["method"], row["last"], row["seeds"], row["clips"]) for row in rows] == [
        ("cia", "82.0 ± 2.8", 2, 360),
        ("avg", "70.0", 1, 360),
    ]


@pytest.mark.parametrize(("right_clips", "clips", "expected"), [(326, 360, 90.556), (538, 571, 94.221), (331, 360, 91.944)])
def test_accuracies_are_whole_clips(right_clips, clips, expected):
    """The supplement's 90.56 and 94.22 (and Figure 1's 91.94) as so many clips of HMDB's 360 and UCF's 571."""
    predicted = torch.eye(12)[torch.arange(clips) % 12]
    labels = np.arange(clips) % 12
    labels[right_clips:] = (labels[right_clips:] + 1) % 12
    assert Prediction((predicted,), torch.zeros(clips, 1)).accuracy(labels[:, None]) == pytest.approx(expected, abs=5e-4)
