"""Objectives that contrast: Kim et al. and STCDA, against slow loops."""

import math

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Described, Output, Step
from cia_adapt.parts.objectives import cross_modal, spatio_temporal
from cia_extract.common.errors import UsageError

from tests.adapt.objective_parts import (
    CLIPS,
    SOURCE,
    TARGET,
    arrays,
    output,
    slow_mlp,
    slow_nce,
    step,
    unit,
)
from tests.adapt.shake import shaken

# --- Kim et al. -----------------------------------------------------------------------------------------------------------


def slow_projected(module: cross_modal.CrossModalContrast, of: Output) -> dict[str, np.ndarray]:
    return {s: unit(np.stack([slow_mlp(module.project, x) for x in arrays(v)])) for s, v in of.videos.items()}


def slow_modal(z: dict[str, np.ndarray], tau: float) -> float:
    names = list(z)
    pairs = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
    return float(np.mean([slow_nce(z[a][rows], z[b][rows], tau) for rows in (slice(0, 4), slice(4, 10)) for a, b in pairs]))


def slow_class_nce(anchors: np.ndarray, classes, others: np.ndarray, other_classes, tau: float) -> float:
    losses = []
    for anchor, k in zip(anchors, classes, strict=True):
        labelled = [j for j, other in enumerate(other_classes) if other >= 0]
        positive = [j for j in labelled if other_classes[j] == k]
        if k >= 0 and positive:
            total = sum(math.exp(anchor @ others[j] / tau) for j in labelled)
            losses.append(-np.mean([anchor @ others[j] / tau - math.log(total) for j in positive]))
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize("streams", [("rgb", "flow"), ("rgb", "flow", "audio")])
def test_cross_modal_contrasts_modalities_within_each_domain(streams):
    of, at = output(streams), step()
    options = cross_modal.Options(across_domains=0.0, across_modalities=0.7, temperature=0.2, width=6)
    module = shaken(cross_modal.CrossModalContrast(dict.fromkeys(streams, 8), options))
    assert float(module(of, at).loss.detach()) == pytest.approx(0.7 * slow_modal(slow_projected(module, of), 0.2), rel=1e-5)
    assert not cross_modal.needs_target(options) and cross_modal.needs_target(cross_modal.Options())


@pytest.mark.parametrize("bank", [7, 64])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_cross_modal_contrasts_domains_with_the_clips_in_the_banks(bank, threshold):
    """Three batches: anchors of one domain against the last `bank` clips of the other, positives of the same class, the
    target's class by its softmax where that is sure enough. Against slow loops over all clips seen so far.
    """
    options = cross_modal.Options(across_modalities=0.0, temperature=0.3, threshold=threshold, bank=bank, width=6)
    module = shaken(cross_modal.CrossModalContrast({"rgb": 8, "flow": 8}, options))
    seen: dict[str, list[tuple[dict[str, np.ndarray], int]]] = {"source": [], "target": []}
    for seed in range(3):
        of, at = output(seed=seed), step()
        z = slow_projected(module, of)
        p = np.mean([np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in map(arrays, of.logits.values())], axis=0)
        pseudo = [int(row.argmax()) if row.max() >= threshold else -1 for row in p[SOURCE:]]
        classes = {"source": at.labels[:, 0].tolist(), "target": pseudo}
        rows = {"source": range(SOURCE), "target": range(SOURCE, CLIPS)}
        for domain in seen:
            seen[domain] += [({s: z[s][i] for s in z}, k) for i, k in zip(rows[domain], classes[domain], strict=True)]
        losses = []
        for domain, other in (("source", "target"), ("target", "source")):
            memory = seen[other][-bank:]
            for s in z:
                vectors = np.stack([features[s] for features, _ in memory])
                losses.append(slow_class_nce(z[s][rows[domain]], classes[domain], vectors, [k for _, k in memory], 0.3))
        term = module(of, at)
        assert float(term.loss.detach()) == pytest.approx(np.mean(losses), rel=1e-4)
        assert float(term.metrics["pseudo_labelled"]) == pytest.approx(100 * np.mean(np.array(pseudo) >= 0))
        term.loss.backward()  # the next forward must not fall over what the banks kept
        assert all(torch.isfinite(v.grad).all() for v in of.videos.values())


def test_pseudo_labels_below_the_threshold_take_no_part():
    """Nobody is sure enough: no loss across domains; the target's clips are kept without a class."""
    of, at = output(), step()
    for threshold, share in ((0.0, 100.0), (1.1, 0.0)):
        module = cross_modal.CrossModalContrast({"rgb": 8, "flow": 8}, cross_modal.Options(threshold=threshold, bank=16))
        term = module(of, at)
        assert float(term.metrics["pseudo_labelled"]) == share
        assert (float(term.metrics["cross_domain_loss"]) == 0) == (share == 0)
        assert (module.target_bank.classes >= 0).sum() == (TARGET if share else 0)
        assert (module.source_bank.classes >= 0).sum() == SOURCE


def test_cross_modal_needs_modalities_of_one_width():
    for widths in ({"all": 8}, {"rgb": 8, "flow": 6}):
        with pytest.raises(UsageError, match="it needs two of them, equally wide, and a head for each"):
            cross_modal.CrossModalContrast(widths, cross_modal.Options())


# --- STCDA ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [("rgb", "flow"), ("rgb", "flow", "audio"), ("all",)])
def test_clip_and_video_contrast(streams):
    """Two samplings of a clip, each modality; and the first modality with each other one; within each domain."""
    of, second = output(streams), output(streams, seed=1)
    options = spatio_temporal.Options(clip=2.0, video=3.0, alignment=0.0, temperature=0.2)
    module = spatio_temporal.SpatioTemporalContrast(TARGET, options)
    domains, one, two = (slice(0, SOURCE), slice(SOURCE, None)), of.videos, second.videos
    clip = np.mean([slow_nce(arrays(one[s])[rows], arrays(two[s])[rows], 0.2) for s in streams for rows in domains])
    first, *others = streams
    video = [slow_nce(arrays(one[first])[rows], arrays(one[s])[rows], 0.2) for s in others for rows in domains]
    expected = 2 * clip + 3 * (np.mean(video) if video else 0)
    assert float(module(of, step(second)).loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert module.second_view and not spatio_temporal.needs_target(options)


def test_a_domain_of_one_clip_has_nothing_to_contrast():
    """Neither a row of one clip, without negatives, nor a domain without any counts in the mean."""
    of, second = output(), output(seed=1)
    expected = np.mean([slow_nce(arrays(of.videos[s])[:9], arrays(second.videos[s])[:9], 0.1) for s in of.videos])
    labels, is_target = torch.zeros(9, 1).long(), torch.arange(CLIPS) >= 9
    module = spatio_temporal.SpatioTemporalContrast(1, spatio_temporal.Options(clip=1.0, video=0.0, alignment=0.0))
    term = module(of, Step(labels, is_target, torch.arange(1), torch.tensor(0.5), second))
    assert float(term.loss.detach()) == pytest.approx(expected, rel=1e-5)


def slow_discrepancy(source: np.ndarray, source_classes, target: np.ndarray, target_classes) -> float:
    common = [k for k in range(10) if k in list(source_classes) and k in list(target_classes)]
    if not common:
        return 0.0
    same, different = [], []
    for a in common:
        for b in common:
            mean_a = np.mean([x for x, k in zip(source, source_classes, strict=True) if k == a], axis=0)
            mean_b = np.mean([x for x, k in zip(target, target_classes, strict=True) if k == b], axis=0)
            (same if a == b else different).append(sum((mean_a - mean_b) ** 2))
    return float(np.mean(same) - (np.mean(different) if different else 0))


@pytest.mark.parametrize(
    ("source_classes", "target_classes"),
    [
        ([0, 0, 1, 1, 2, 3], [0, 1, 1, -1, 4, 0, 1]),  # 2, 3 and 4 are on one side only
        ([0, 1, 2, 0, 1, 2], [2, 1, 0, 2, 1, 0, -1]),
        ([3, 3, 3, 3, 3, 1], [3, -1, 3, -1, 2, 2, 2]),  # one in both: nothing to part from
        ([0, 0, 0, 1, 1, 1], [-1, -1, -1, 2, 2, 2, 2]),  # none
    ],
)
def test_discrepancy_equals_a_slow_loop_over_common_classes(source_classes, target_classes):
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(n, 4, generator=generator).requires_grad_() for n in (6, 7))
    expected = slow_discrepancy(arrays(source), source_classes, arrays(target), target_classes)
    discrepancy = spatio_temporal.contrastive_discrepancy(
        source, torch.tensor(source_classes), target, torch.tensor(target_classes)
    )
    assert float(discrepancy.detach()) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    (gradient,) = torch.autograd.grad(discrepancy, target, allow_unused=True)
    gradient = torch.zeros_like(target) if gradient is None else gradient
    takes_part = [k >= 0 and k in source_classes for k in target_classes]
    assert torch.isfinite(gradient).all() and gradient.any(1).tolist() == takes_part


def test_alignment_is_the_discrepancy_of_the_clips_that_have_a_pseudo_class():
    """On the streams' unit vectors side by side; pseudo-classes are looked up by the clips' positions in the target."""
    of, at = output(), step(output(seed=1), positions=[8, 0, 3, 5, 1, 7])
    module = spatio_temporal.SpatioTemporalContrast(9, spatio_temporal.Options(clip=0.0, video=0.0, alignment=0.5))
    module.pseudo.copy_(torch.tensor([0, 1, 2, -1, 1, 0, 1, 2, 1]))
    side_by_side = np.concatenate([unit(arrays(v)) for v in of.videos.values()], axis=1)
    pseudo = [1, 0, -1, 0, 1, 2]
    expected = slow_discrepancy(side_by_side[:SOURCE], at.labels[:, 0].tolist(), side_by_side[SOURCE:], pseudo)
    term = module(of, at)
    assert float(term.loss.detach()) == pytest.approx(0.5 * expected, rel=1e-4)
    assert float(term.metrics["pseudo_labelled"]) == pytest.approx(100 * 5 / 6)
    fresh = spatio_temporal.SpatioTemporalContrast(9, spatio_temporal.Options(clip=0.0, video=0.0))
    assert float(fresh(of, at).loss.detach()) == 0  # before the first clustering


def slow_kmeans(source: np.ndarray, labels: np.ndarray, target: np.ndarray) -> tuple[list[int], list[float]]:
    """Clip by clip: nearest centre by cosine, centres the directions of their members' sums, twenty rounds."""
    source, target = unit(source), unit(target)
    centres = {
        int(k): unit(np.mean([x for x, y in zip(source, labels, strict=True) if y == k], axis=0)) for k in sorted(set(labels))
    }
    for _ in range(20):
        nearest = [max(centres, key=lambda k: float(x @ centres[k])) for x in target]
        for k in centres:
            members = [x for x, n in zip(target, nearest, strict=True) if n == k]
            if members:
                centres[k] = unit(np.sum(members, axis=0))
    nearest = [max(centres, key=lambda k: float(x @ centres[k])) for x in target]
    return nearest, [1 - float(x @ centres[k]) for x, k in zip(target, nearest, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_equals_a_slow_loop(seed):
    """Classes 0, 2 and 5 of the source only; lengths of features do not matter."""
    random = np.random.default_rng(seed)
    centres, labels = random.standard_normal((6, 8)), random.choice([0, 2, 5], size=30)
    labels[:3] = [0, 2, 5]
    source = (centres[labels] + random.standard_normal((30, 8))) * random.uniform(0.5, 2, (30, 1))
    target = (centres[random.choice([0, 2, 5], size=40)] + 0.7 * random.standard_normal((40, 8))) * random.uniform(
        0.5, 2, (40, 1)
    )
    classes, distances = spatio_temporal.spherical_kmeans(*map(torch.tensor, (source, labels, target)))
    expected, far = slow_kmeans(source, labels, target)
    assert classes.tolist() == expected
    np.testing.assert_allclose(distances.numpy(), far, atol=1e-9)


def test_kmeans_starts_at_the_sources_means_and_follows_the_target():
    random = np.random.default_rng(0)
    centres = np.eye(3, 8)
    source = torch.tensor(centres[[0, 1, 2] * 5] + 0.05 * random.standard_normal((15, 8))).float()
    moved = np.roll(centres, 1, axis=1) * 0.6 + centres  # the target's classes, turned away from the source's
    target = torch.tensor(moved[[2, 0, 1, 1]] + 0.02 * random.standard_normal((4, 8))).float()
    labels = torch.tensor([0, 1, 2] * 5)
    classes, distances = spatio_temporal.spherical_kmeans(source, labels, target)
    assert classes.tolist() == [2, 0, 1, 1] and float(distances.max()) < 0.05


def test_a_cluster_without_clips_stays_at_the_sources_mean():
    source, target = torch.eye(3, 4), torch.eye(3, 4)[[0, 0, 1]] + 0.01
    classes, distances = spatio_temporal.spherical_kmeans(source, torch.arange(3), target)
    assert classes.tolist() == [0, 0, 1] and torch.isfinite(distances).all()


@pytest.mark.parametrize(("radius", "expected"), [(0.5, [0, 1, -1]), (0.05, [-1, -1, -1]), (1.5, [0, 1, 0])])
def test_only_clips_near_their_cluster_are_confident(radius, expected):
    """Within 1 − cos ≤ radius of the centre: many clips along the axes, clips 45° away from each other, and one far off."""
    source, labels = torch.eye(2, 3), torch.arange(2)
    clip = torch.tensor([[1.0, 0, 0.8], [0, 1.0, 0.8], [0.3, 0.2, -1.0]])
    target = torch.cat([clip, torch.eye(2, 3).repeat(20, 1)])
    module = spatio_temporal.SpatioTemporalContrast(len(target), spatio_temporal.Options(radius=radius))
    assert module.clusters
    module.cluster(Described(source, ()), labels, Described(target, ()))
    assert module.pseudo[:3].tolist() == expected and (module.pseudo[3:] >= 0).all()
