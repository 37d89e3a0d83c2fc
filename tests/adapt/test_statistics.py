import numpy as np
import pytest
from cia_adapt import statistics
from scipy import stats


def right(seeds: int, clips: int, share: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, clips)) < share


@pytest.mark.parametrize("count", [4, 8, 20])
def test_interquartile_mean_is_scipys_trimmed_mean(count):
    values = np.random.default_rng(0).random(count)
    assert statistics.interquartile_mean(values.tolist()) == pytest.approx(stats.trim_mean(values, 0.25))
    assert statistics.interquartile_mean([3.0]) == 3 and statistics.interquartile_mean([1.0, 3.0]) == 2


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


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """Accuracy 0.7 of independent clips: 95 % of the intervals, three standard errors of 200 trials around it."""
    covered = sum(low <= 70 <= high for low, high in (statistics.interval([right(5, 80, 0.7, k)], k) for k in range(200)))
    assert 0.90 <= covered / 200 <= 1.0


def test_paired_difference():
    a = right(6, 50, 0.7)
    assert statistics.paired([a], [a]) == (0, 0, 0)
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
    assert statistics.rank_correlation(x.tolist(), y.tolist()) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-4)
    assert statistics.rank_correlation([1, 1, 1], [1, 2, 3]) is None and statistics.rank_correlation([1, 2], [1, 2]) is None


def test_validator_summary():
    histories = [
        [{"validator_im": v, "target_val_accuracy": t} for v, t in zip(values, (10, 20, 30), strict=True)]
        for values in ((1, 2, 3), (1, 3, 2), (9, 9, 9))
    ]
    (row,) = statistics.validator_summary(histories).to_dict("records")
    assert row["within runs"] == pytest.approx((1 + 0.5) / 2) and row["runs"] == 2 and row["across runs"] is None
