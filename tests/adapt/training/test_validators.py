import math

import numpy as np
import pytest
import torch
from cia_adapt.training import validators
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score


def probabilities(count: int = 30, classes: int = 4, sharpness: float = 2.0, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.tensor(softmax(sharpness * random.standard_normal((count, classes)), axis=1))


def h(p: np.ndarray) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def test_values_equal_slow_loops():
    p = probabilities()
    found = validators.of_target((p,), torch.randn(30, 5, generator=torch.Generator().manual_seed(0)))
    rows = p.numpy()
    entropy = np.mean([h(row) for row in rows])
    assert found["entropy"] == pytest.approx(-entropy)
    assert found["im"] == pytest.approx(h(rows.mean(0)) - entropy)
    assert found["bnm"] == pytest.approx(np.linalg.svd(rows, compute_uv=False).sum() / 30)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    density = []
    for i in range(30):
        others = [math.exp(unit[i] @ unit[j] / 0.05) for j in range(30) if j != i]
        density.append(h(np.array(others) / sum(others)))
    assert found["snd"] == pytest.approx(np.mean(density))


def test_several_labels_give_the_mean():
    a, b, features = probabilities(), probabilities(classes=7, seed=1), torch.randn(30, 5)
    both, one, other = (validators.of_target(p, features) for p in ((a, b), (a,), (b,)))
    for name in both:
        assert both[name] == pytest.approx((one[name] + other[name]) / 2)


def test_ami_sees_clusters_that_agree_with_the_predictions():
    labels = np.repeat([0, 1, 2], 10)
    features = torch.tensor(np.eye(3)[labels] * 10 + np.random.default_rng(0).standard_normal((30, 3)))
    right, shuffled = (torch.eye(3)[torch.tensor(x)] for x in (labels, np.random.default_rng(1).permutation(labels)))
    assert validators.class_ami(right, features) == pytest.approx(1)
    assert validators.class_ami(shuffled, features) == pytest.approx(adjusted_mutual_info_score(labels, shuffled.argmax(1)))


def test_every_validator_is_there_and_is_blind_to_the_order_of_clips():
    p, features = probabilities(), torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    found, shuffled = (validators.of_target((a,), b) for a, b in ((p, features), (p[order], features[order])))
    assert {"source_val", *found} == set(validators.NAMES)
    for name in ("entropy", "im", "snd", "bnm"):
        assert found[name] == pytest.approx(shuffled[name])


def test_certain_and_empty_predictions():
    """One-hot: no entropy, IM = ln K, BNM = √(n/K) K / n of balanced classes; uniform: all entropy, IM = 0."""
    features, one_hot = torch.randn(12, 5), torch.eye(3, dtype=torch.float64)[torch.arange(12) % 3]
    found = validators.of_target((one_hot,), features)
    assert (found["entropy"], found["im"]) == pytest.approx((0, math.log(3)), abs=1e-9)
    assert found["bnm"] == pytest.approx(3 * math.sqrt(4) / 12)
    found = validators.of_target((torch.full((12, 3), 1 / 3, dtype=torch.float64),), features)
    assert (found["entropy"], found["im"], found["snd"]) == pytest.approx((-math.log(3), 0, math.log(11)))


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_snd_leaves_the_clip_itself_out(temperature):
    rows = probabilities(12).numpy()
    unit, density = rows / np.linalg.norm(rows, axis=1, keepdims=True), []
    for i in range(12):
        others = [math.exp(unit[i] @ unit[j] / temperature) for j in range(12) if j != i]
        density.append(h(np.array(others) / sum(others)))
    assert validators.soft_neighbourhood_density(probabilities(12), temperature) == pytest.approx(np.mean(density))


def test_snd_prefers_dense_neighbourhoods():
    """Clips in few tight groups have more close neighbours, in density, than clips that are all alone."""
    alone = torch.eye(12, dtype=torch.float64)
    grouped = torch.eye(12, dtype=torch.float64)[torch.arange(12) // 6]
    scattered = alone * 0.5 + grouped.roll(1, 0) * 0.5
    assert validators.soft_neighbourhood_density(grouped) == pytest.approx(math.log(5), abs=1e-4)
    assert validators.soft_neighbourhood_density(grouped) > validators.soft_neighbourhood_density(
        scattered / scattered.sum(1, keepdim=True)
    )


def domains(shift: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Source train, target train, source validation."""
    random = np.random.default_rng(0)
    sizes = ((40, 0.0), (20, shift), (15, 0.0))
    return tuple(torch.tensor(random.standard_normal((n, 3)) + s) for n, s in sizes)


def test_dev_of_a_constant_loss_is_minus_it():
    """The control variate takes all of the variance."""
    assert validators.deep_embedded_validation(*domains(0.7), torch.full((15,), 0.4)) == pytest.approx(-0.4)


def test_dev_weighs_what_looks_like_the_target():
    """A model that errs on target-like clips is worse than one that errs on the others as often."""
    source, target, val = domains(1.5)
    loss = torch.zeros(15)
    order = val.sum(1).argsort()  # the target lies at larger values
    near, far = loss.clone(), loss.clone()
    near[order[-5:]], far[order[:5]] = 1, 1
    a, b = (validators.deep_embedded_validation(source, target, val, x) for x in (near, far))
    assert a < b


def test_dev_stays_finite_for_domains_that_are_far_apart():
    assert math.isfinite(validators.deep_embedded_validation(*domains(1e3), torch.rand(15)))


def test_dev_equals_its_formula():
    source, target, val = domains(0.7)
    loss = torch.tensor(np.random.default_rng(1).random(15))
    model = LogisticRegression(max_iter=1000).fit(np.concatenate([source, target]), [0] * 40 + [1] * 20)
    share = model.predict_proba(val.numpy())[:, 1]
    w = share / (1 - share) * 40 / 20
    wl = w * loss.numpy()
    eta = -sum((wl - wl.mean()) * (w - w.mean())) / sum((w - w.mean()) ** 2)
    assert validators.deep_embedded_validation(source, target, val, loss) == pytest.approx(-(wl.mean() + eta * w.mean() - eta))


def test_good_predictions_score_above_collapsed_ones():
    good = torch.eye(4)[torch.arange(40) % 4] * 0.96 + 0.01
    collapsed = torch.tensor([[0.97, 0.01, 0.01, 0.01]]).repeat(40, 1)
    features = torch.eye(4)[torch.arange(40) % 4] + 0.01 * torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    a, b, unsure = (validators.of_target((p,), features) for p in (good, collapsed, torch.full((40, 4), 0.25)))
    for name in ("im", "bnm", "ami"):
        assert a[name] > b[name] and a[name] > unsure[name]
    assert a["entropy"] > unsure["entropy"]
    # What entropy and SND are known to miss, which is why they are not the default: they cannot tell good from collapsed.
    assert b["entropy"] == pytest.approx(a["entropy"]) and b["snd"] >= a["snd"]


def test_large_sets_are_sampled_the_same_each_time():
    rows = validators.sample(5000)
    assert len(rows) == validators.MOST and torch.equal(rows, validators.sample(5000)) and len(rows.unique()) == validators.MOST
    assert torch.equal(validators.sample(7), torch.arange(7))
