import math

import numpy as np
import pytest
import torch
from cia_adapt import validators
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


def test_dev_equals_its_formula():
    random = np.random.default_rng(0)
    source, target, val = (torch.tensor(random.standard_normal((n, 3)) + shift) for n, shift in ((40, 0.0), (20, 0.7), (15, 0.0)))
    loss = torch.tensor(random.random(15))
    model = LogisticRegression(max_iter=1000).fit(np.concatenate([source, target]), [0] * 40 + [1] * 20)
    share = model.predict_proba(val.numpy())[:, 1]
    w = share / (1 - share) * 40 / 20
    wl = w * loss.numpy()
    eta = -np.cov(wl, w)[0, 1] / np.var(w, ddof=1)
    assert validators.deep_embedded_validation(source, target, val, loss) == pytest.approx(-(wl.mean() + eta * w.mean() - eta))


def test_good_predictions_score_above_collapsed_ones():
    good = torch.eye(4)[torch.arange(40) % 4] * 0.96 + 0.01
    collapsed = torch.tensor([[0.97, 0.01, 0.01, 0.01]]).repeat(40, 1)
    features = torch.eye(4)[torch.arange(40) % 4] + 0.01 * torch.randn(40, 4)
    a, b = (validators.of_target((p,), features) for p in (good, collapsed))
    for name in ("im", "bnm", "ami"):
        assert a[name] > b[name]
    assert (
        validators.of_target((good,), features)["entropy"]
        > validators.of_target((torch.full((40, 4), 0.25),), features)["entropy"]
    )


def test_large_sets_are_sampled_the_same_each_time():
    rows = validators.sample(5000)
    assert len(rows) == validators.MOST and torch.equal(rows, validators.sample(5000)) and len(rows.unique()) == validators.MOST
    assert torch.equal(validators.sample(7), torch.arange(7))
