import math

import numpy as np
import pytest
import torch
from cia_adapt import parts
from cia_adapt.model import Output
from cia_adapt.objectives import (
    adversarial,
    attentive_entropy,
    correspondence,
    cross_modal,
    gradient_blend,
    spatio_temporal,
)
from cia_adapt.parts import Sizes
from cia_adapt.step import Clusters, Step
from cia_extract.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.adapt.shake import shaken

SOURCE, TARGET, CLASSES = 4, 6, 3
CLIPS = SOURCE + TARGET


def output(streams=("rgb", "flow"), seed: int = 0, width: int = 8, head: str = "average", heads=(CLASSES,)) -> Output:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> dict[str, Tensor]:
        return {s: torch.randn(*shape, generator=generator).requires_grad_() for s in streams}

    return Output(head, heads, draw(CLIPS, 5, width), draw(CLIPS, width), draw(CLIPS, sum(heads)))


def step(second: Output | None = None, progress: float = 0.5, positions=range(TARGET)) -> Step:
    labels = torch.tensor([0, 1, 2, 1])[:, None]
    return Step(labels, torch.arange(CLIPS) >= SOURCE, torch.tensor(positions), torch.tensor(progress), second)


def widths(of: Output) -> dict[str, dict[str, int]]:
    return {"video": {s: x.shape[-1] for s, x in of.videos.items()}, "frame": {s: x.shape[-1] for s, x in of.frames.items()}}


def arrays(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def slow_mlp(layers: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """FC, ReLU, FC of one vector."""
    w1, b1, w2, b2 = (arrays(p) for p in layers.parameters())
    return w2 @ np.maximum(w1 @ x + b1, 0) + b2


def slow_cross_entropy(logits: np.ndarray, label: int) -> float:
    return math.log(sum(math.exp(x) for x in logits)) - float(logits[label])


def slow_entropy(logits: np.ndarray) -> float:
    p = np.exp(logits) / np.exp(logits).sum()
    return -float(sum(x * math.log(x) for x in p))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def slow_nce(first: np.ndarray, second: np.ndarray, tau: float) -> float:
    a, b, losses = unit(first), unit(second), []
    for i in range(len(a)):
        losses.append(slow_cross_entropy(np.array([a[i] @ other / tau for other in b]), i))
        losses.append(slow_cross_entropy(np.array([b[i] @ other / tau for other in a]), i))
    return float(np.mean(losses))


# --- adversarial ----------------------------------------------------------------------------------------------------------


def slow_domain_loss(logits: np.ndarray, is_target: Tensor) -> float:
    rows = logits.reshape(len(is_target), -1, 2)
    losses = [[slow_cross_entropy(two, int(t)) for two in clip] for clip, t in zip(rows, is_target, strict=True)]
    return float(np.mean(losses))


def slow_domain_logits(module: adversarial.AdversarialAlignment, level: str, stream: str, features: Tensor) -> np.ndarray:
    rows = arrays(features).reshape(-1, features.shape[-1])
    return np.stack([slow_mlp(module.discriminators[f"{level}_{stream}"], x) for x in rows]).reshape(*features.shape[:-1], 2)


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_adversarial_sums_levels_and_averages_streams_and_frames(progress):
    """Mean cross-entropy per level, summed over levels; λ is nowhere in its value."""
    of, at = output(), step(progress=progress)
    module = shaken(adversarial.AdversarialAlignment(widths(of), adversarial.Options(hidden=4, ramp=10.0)))
    term = module(of, at)
    expected = 0.0
    for level, features in (("video", of.videos), ("frame", of.frames)):
        losses = []
        for stream, x in features.items():
            logits = slow_domain_logits(module, level, stream, x)
            np.testing.assert_allclose(arrays(of.domain_logits[f"{level}_{stream}"]), logits, atol=1e-5)
            losses.append(slow_domain_loss(logits, at.is_target))
        assert float(term.metrics[f"{level}_domain_loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
        expected += np.mean(losses)
    assert float(term.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert set(of.domain_logits) == {"video_rgb", "video_flow", "frame_rgb", "frame_flow"}


@pytest.mark.parametrize("inner", [(), (3,), (2, 5)])
def test_domain_accuracy_is_the_mean_of_both_domains(inner):
    """Four source clips all right, six target clips of which two are right: (1 + 1/3) / 2, where 60 % of all are right."""
    says_target = torch.tensor([False] * 4 + [True] * 2 + [False] * 4)
    logits = torch.stack([~says_target, says_target], dim=1).float()
    logits = logits.view(10, *(1 for _ in inner), 2).expand(10, *inner, 2)
    _, accuracy = adversarial.domain_loss(logits, torch.arange(10) >= 4)
    assert float(accuracy) == pytest.approx((1 + 2 / 6) / 2)


def test_a_discriminator_that_always_says_target_is_at_chance():
    _, accuracy = adversarial.domain_loss(torch.tensor([[0.0, 1.0]]).repeat(10, 1), torch.arange(10) >= 9)
    assert float(accuracy) == pytest.approx(0.5)


def gradients(options: adversarial.Options, progress: float) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Of the term to (features, discriminators), and of the same loss without any reversal to (features, discriminators)."""
    of, at = output(), step(progress=progress)
    module = shaken(adversarial.AdversarialAlignment(widths(of), options))
    features = [x for level in (of.videos, of.frames) for x in level.values()]
    own = list(module.parameters())
    mine = torch.autograd.grad(module(of, at).loss, features + own)
    plain = torch.zeros(())
    for level, streams in (("video", of.videos), ("frame", of.frames)):
        for stream, x in streams.items():
            logits = module.discriminators[f"{level}_{stream}"](x).reshape(-1, 2)
            domain = at.is_target.long().repeat_interleave(len(logits) // CLIPS)
            plain = plain + F.cross_entropy(logits, domain) / 2
    theirs = torch.autograd.grad(plain, features + own)
    return list(mine[:4]), list(mine[4:]), list(theirs[:4]), list(theirs[4:])


@pytest.mark.parametrize(("ramp", "progress", "grown"), [(0.0, 0.1, 1.0), (10.0, 0.1, 0.462117), (10.0, 0.5, 0.986614)])
def test_lambda_scales_the_reversed_gradient_only(ramp, progress, grown):
    """−λ·ramp times the plain gradient at the features, each level its own λ; the discriminators learn at full strength."""
    options = adversarial.Options(video=2.0, frame=0.5, ramp=ramp, hidden=4)
    features, own, plain_features, plain_own = gradients(options, progress)
    for mine, theirs, strength in zip(features, plain_features, (2.0, 2.0, 0.5, 0.5), strict=True):
        assert theirs.any()
        torch.testing.assert_close(mine, -strength * grown * theirs, rtol=1e-4, atol=1e-7)
    for mine, theirs in zip(own, plain_own, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)


def test_lambda_on_the_loss_scales_the_whole():
    options = adversarial.Options(video=2.0, frame=0.5, weights_on="loss", hidden=4)
    features, own, plain_features, plain_own = gradients(options, 0.5)
    for mine, theirs, strength in zip(features, plain_features, (2.0, 2.0, 0.5, 0.5), strict=True):
        torch.testing.assert_close(mine, -strength * theirs, rtol=1e-4, atol=1e-7)
    for mine, theirs, strength in zip(own, plain_own, [2.0] * 8 + [0.5] * 8, strict=True):
        torch.testing.assert_close(mine, strength * theirs, rtol=1e-4, atol=1e-7)
    of, at = output(), step()
    term = shaken(adversarial.AdversarialAlignment(widths(of), options))(of, at)
    levels = {level: float(term.metrics[f"{level}_domain_loss"]) for level in ("video", "frame")}
    assert float(term.loss.detach()) == pytest.approx(2 * levels["video"] + 0.5 * levels["frame"], rel=1e-5)


@pytest.mark.parametrize(("progress", "grown"), [(0.1, 0.462117), (0.25, 0.848284), (0.5, 0.986614), (1.0, 0.999909)])
def test_the_strength_that_is_recorded_has_danns_ramp(progress, grown):
    of = output()
    term = adversarial.AdversarialAlignment(widths(of), adversarial.Options(video=2.0, frame=0.5, ramp=10.0))(
        of, step(progress=progress)
    )
    assert float(term.metrics["video_reversal"]) == pytest.approx(2 * grown, abs=2e-6)
    assert float(term.metrics["frame_reversal"]) == pytest.approx(0.5 * grown, abs=2e-6)


@pytest.mark.parametrize(("options", "left"), [({"frame": 0.0}, {"video"}), ({"video": 0.0}, {"frame"})])
def test_a_level_of_zero_is_dropped(options, left):
    of, at = output(("all",), head="concat"), step()
    module = adversarial.AdversarialAlignment(widths(of), adversarial.Options(**options))
    module(of, at)
    assert {name.split("_")[0] for name in module.discriminators} == left
    assert {name.split("_")[0] for name in of.domain_logits} == left


def test_discriminators_inside_the_model_are_trained_by_it():
    """TA3N's relations and TADA's cells count as levels of their own, each the mean over its discriminators."""
    of, at = output(("all",), head="concat"), step()
    generator = torch.Generator().manual_seed(1)
    shapes = {"relation_all": (CLIPS, 4, 2), "region_rgb": (CLIPS, 5, 49, 2), "region_flow": (CLIPS, 5, 49, 2)}
    given = {name: torch.randn(shape, generator=generator).requires_grad_() for name, shape in shapes.items()}
    of.domain_logits.update(given)
    module = shaken(adversarial.AdversarialAlignment(widths(of), adversarial.Options(frame=0.0, hidden=4)))
    term = module(of, at)
    own = {name: slow_domain_loss(arrays(x), at.is_target) for name, x in given.items()}
    video = slow_domain_loss(slow_domain_logits(module, "video", "all", of.videos["all"]), at.is_target)
    expected = own["relation_all"] + (own["region_rgb"] + own["region_flow"]) / 2 + video
    assert float(term.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert all(x.any() for x in torch.autograd.grad(term.loss, list(given.values())))
    assert "relation_domain_accuracy" in term.metrics and "relation_reversal" not in term.metrics


@pytest.mark.parametrize(("hidden", "expected"), [(100, 100 * 9 + 202), (0, 8 * 9 + 18)])
def test_width_of_the_discriminators(hidden, expected):
    module = adversarial.build(Sizes({}, {}, (3,), 5, 0.0, {"all": 8}, {"all": 8}), adversarial.Options(hidden=hidden))
    assert sum(p.numel() for p in module.parameters()) == 2 * expected


def test_the_defaults_are_the_supplements_weights():
    assert (adversarial.Options().video, adversarial.Options().frame) == (1.0, 0.5)


# --- attentive entropy ----------------------------------------------------------------------------------------------------


def test_attentive_entropys_published_value():
    classes, domains = torch.tensor([[2.0, 0, 0], [0, 0, 0]]), torch.tensor([[0.0, 0], [1, -1]])
    assert float(attentive_entropy.attentive_entropy(classes, domains)) == pytest.approx(1.313443, abs=1e-6)


def test_attentive_entropy_reads_the_video_discriminator():
    """Mean over streams, labels and clips of (1 + H(d̂)) H(ŷ), in nats; the gradient goes through both entropies."""
    of, at = output(heads=(3, 4)), step()
    module = attentive_entropy.build(Sizes({}, {}, (3, 4), 5, 0.0), attentive_entropy.Options(weight=0.3))
    with pytest.raises(UsageError, match="needs adversarial before it"):
        module(of, at)
    aligned = shaken(adversarial.AdversarialAlignment(widths(of), adversarial.Options()))
    aligned(of, at)
    values = []
    for stream in of.logits:
        for classes in (slice(0, 3), slice(3, 7)):
            for clip in range(CLIPS):
                domain = slow_entropy(arrays(of.domain_logits[f"video_{stream}"])[clip])
                values.append((1 + domain) * slow_entropy(arrays(of.logits[stream])[clip, classes]))
    term = module(of, at)
    assert float(term.loss.detach()) == pytest.approx(0.3 * np.mean(values), rel=1e-5)
    assert float(term.metrics["attentive_entropy"]) == pytest.approx(np.mean(values), rel=1e-5)
    reached = torch.autograd.grad(term.loss, [of.logits["rgb"], next(aligned.discriminators["video_rgb"].parameters())])
    assert all(x.any() for x in reached)


# --- correspondence -------------------------------------------------------------------------------------------------------


def pairs_seen(source: int, target: int) -> tuple[Tensor, float, float, nn.Module]:
    """(what the classifier is given, a clip's number being its only feature; loss; accuracy; the module), weight 2."""
    numbers = torch.arange(float(source + target))[:, None]
    of = Output("average", (CLASSES,), {}, {"rgb": numbers, "flow": numbers.clone()}, {})
    at = Step(torch.zeros(source, 1).long(), torch.arange(source + target) >= source, torch.arange(target), torch.tensor(0.5))
    module = shaken(correspondence.Correspondence({"rgb": 1, "flow": 1}, correspondence.Options(weight=2.0)))
    seen: list[Tensor] = []
    module.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    term = module(of, at)
    assert torch.equal(of.videos["rgb"], numbers)  # not mixed up for those that come after
    return seen[0], float(term.loss.detach()), float(term.metrics["correspondence_accuracy"]), module


@pytest.mark.parametrize(("source", "target"), [(4, 6), (5, 7), (8, 4), (4, 0)])
def test_correspondence_mismatches_half_of_each_domain_within_it(source, target):
    pairs, loss, accuracy, module = pairs_seen(source, target)
    together = (pairs[:, 0] == pairs[:, 1]).tolist()
    assert together[:source].count(False) == source // 2 and together[source:].count(False) == target // 2
    assert ((pairs[:, 0] >= source) == (pairs[:, 1] >= source)).all()  # from the same domain
    assert pairs[:, 1].tolist() == list(range(source + target))
    assert sorted(pairs[:, 0].tolist()) == pairs[:, 1].tolist()  # every clip is used once
    logits = [slow_mlp(module.classifier, x) for x in pairs.double().numpy()]
    expected = np.mean([slow_cross_entropy(x, int(label)) for x, label in zip(logits, together, strict=True)])
    assert loss == pytest.approx(2 * expected, rel=1e-4)
    assert accuracy == pytest.approx(100 * np.mean([int(x.argmax()) == label for x, label in zip(logits, together, strict=True)]))


@pytest.mark.parametrize(("source", "target"), [(1, 1), (2, 3)])
def test_what_could_only_be_paired_with_itself_is_not_called_mismatched(source, target):
    pairs, loss, _, module = pairs_seen(source, target)
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    expected = np.mean([slow_cross_entropy(slow_mlp(module.classifier, x), 1) for x in pairs.double().numpy()])
    assert loss == pytest.approx(2 * expected, rel=1e-4)


def test_correspondences_gradient_reaches_both_modalities():
    of, at = output(("rgb", "flow", "audio")), step()
    module = shaken(correspondence.build(Sizes({}, {}, (3,), 5, 0.0, {}, widths(of)["video"]), correspondence.Options()))
    reached = torch.autograd.grad(module(of, at).loss, list(of.videos.values()))
    assert all(x.any(1).all() for x in reached)
    with pytest.raises(UsageError, match="needs a head per modality"):
        correspondence.Correspondence({"all": 4}, correspondence.Options())


# --- Kim et al. -----------------------------------------------------------------------------------------------------------


def slow_projected(module: cross_modal.CrossModalContrast, of: Output) -> dict[str, np.ndarray]:
    return {s: unit(np.stack([slow_mlp(module.project, x) for x in arrays(v)])) for s, v in of.videos.items()}


def slow_modal(z: dict[str, np.ndarray], tau: float) -> float:
    names = list(z)
    pairs = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
    return float(np.mean([slow_nce(z[a][rows], z[b][rows], tau) for rows in (slice(0, 4), slice(4, 10)) for a, b in pairs]))


def slow_class_nce(anchors: np.ndarray, classes, others: np.ndarray, of_others, tau: float) -> float:
    losses = []
    for anchor, k in zip(anchors, classes, strict=True):
        known = [j for j, other in enumerate(of_others) if other >= 0]
        positive = [j for j in known if of_others[j] == k]
        if k >= 0 and positive:
            total = sum(math.exp(anchor @ others[j] / tau) for j in known)
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
def test_cross_modal_contrasts_domains_with_what_the_banks_remember(bank, threshold):
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


def test_the_bank_is_a_ring_without_gradients():
    bank = cross_modal.Bank(("rgb",), 5, 2)
    for first in (0, 3, 6):
        rows = torch.arange(first, first + 3)
        bank.push({"rgb": rows.float()[:, None].repeat(1, 2).requires_grad_()}, rows)
    assert sorted(bank.classes.tolist()) == [4, 5, 6, 7, 8]
    assert bank.remembered("rgb")[:, 0].tolist() == bank.classes.tolist() and not bank.remembered("rgb").requires_grad
    kept = bank.remembered("rgb")
    bank.push({"rgb": torch.arange(9.0)[:, None].repeat(1, 2)}, torch.arange(9))  # more than it holds
    assert sorted(bank.classes.tolist()) == [4, 5, 6, 7, 8] and bank.remembered("rgb")[:, 0].tolist() == bank.classes.tolist()
    assert kept[:, 0].tolist() == [5, 6, 7, 8, 4]  # a copy
    bank.push({"rgb": torch.full((1, 2), 9.0)}, torch.tensor([9]))
    assert sorted(bank.classes.tolist()) == [5, 6, 7, 8, 9]  # the oldest goes


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 8), pushes=st.lists(st.integers(0, 12), max_size=6))
def test_the_bank_holds_the_latest(size, pushes):
    bank, told = cross_modal.Bank(("rgb",), size, 1), 0
    for count in pushes:
        rows = torch.arange(told, told + count)
        bank.push({"rgb": rows.float()[:, None]}, rows)
        told += count
    assert sorted(k for k in bank.classes.tolist() if k >= 0) == list(range(max(0, told - size), told))
    assert all(k in (-1, x) for k, x in zip(bank.classes.tolist(), bank.remembered("rgb")[:, 0].tolist(), strict=True))


def test_cross_modal_needs_modalities_of_one_width():
    for of_streams in ({"all": 8}, {"rgb": 8, "flow": 6}):
        with pytest.raises(UsageError, match="needs a head each"):
            cross_modal.CrossModalContrast(of_streams, cross_modal.Options())


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


def slow_discrepancy(source: np.ndarray, of_source, target: np.ndarray, of_target) -> float:
    common = [k for k in range(10) if k in list(of_source) and k in list(of_target)]
    if not common:
        return 0.0
    same, different = [], []
    for a in common:
        for b in common:
            mean_a = np.mean([x for x, k in zip(source, of_source, strict=True) if k == a], axis=0)
            mean_b = np.mean([x for x, k in zip(target, of_target, strict=True) if k == b], axis=0)
            (same if a == b else different).append(sum((mean_a - mean_b) ** 2))
    return float(np.mean(same) - (np.mean(different) if different else 0))


@pytest.mark.parametrize(
    ("of_source", "of_target"),
    [
        ([0, 0, 1, 1, 2, 3], [0, 1, 1, -1, 4, 0, 1]),  # 2, 3 and 4 are on one side only
        ([0, 1, 2, 0, 1, 2], [2, 1, 0, 2, 1, 0, -1]),
        ([3, 3, 3, 3, 3, 1], [3, -1, 3, -1, 2, 2, 2]),  # one in both: nothing to part from
        ([0, 0, 0, 1, 1, 1], [-1, -1, -1, 2, 2, 2, 2]),  # none
    ],
)
def test_discrepancy_equals_a_slow_loop_over_common_classes(of_source, of_target):
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(n, 4, generator=generator).requires_grad_() for n in (6, 7))
    expected = slow_discrepancy(arrays(source), of_source, arrays(target), of_target)
    found = spatio_temporal.contrastive_discrepancy(source, torch.tensor(of_source), target, torch.tensor(of_target))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    (gradient,) = torch.autograd.grad(found, target, allow_unused=True)
    gradient = torch.zeros_like(target) if gradient is None else gradient
    takes_part = [k >= 0 and k in of_source for k in of_target]
    assert torch.isfinite(gradient).all() and gradient.any(1).tolist() == takes_part


def test_alignment_is_the_discrepancy_of_the_clips_that_have_a_pseudo_class():
    """On the streams' unit vectors side by side; pseudo-classes are found by the clips' positions in the target."""
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
    assert isinstance(module, Clusters)
    module.cluster(source, labels, target)
    assert module.pseudo[:3].tolist() == expected and (module.pseudo[3:] >= 0).all()


# --- G-Blend --------------------------------------------------------------------------------------------------------------

TOY = {"a": (2.0, 2.1), "b": (2.2, 2.3), "c": (1.8, 2.0)}, {"a": (0.5, 1.0), "b": (1.0, 1.3), "c": (0.2, 0.8)}


def test_blend_weights_of_the_toy():
    before, after = TOY
    found = gradient_blend.blend_weights(before, after)
    assert {k: round(w, 4) for k, w in found.items()} == {"a": 0.1746, "b": 0.6349, "c": 0.1905}


def test_blend_weights_of_streams_that_do_not_generalise_or_do_not_overfit():
    before, after = TOY
    worse = gradient_blend.blend_weights(before, after | {"b": (1.0, 2.5)})
    assert worse["b"] == 0 and worse["a"] == pytest.approx((1.1 / 0.16) / (1.1 / 0.16 + 1.2 / 0.16))
    assert set(gradient_blend.blend_weights(before, dict.fromkeys(before, (3.0, 3.0))).values()) == {1 / 3}
    # Of b the gap shrinks: its overfitting counts as the least, 0.05.
    scores = {"a": 1.1 / 0.4**2, "b": 1.3 / 0.05**2, "c": 1.2 / 0.4**2}
    capped = gradient_blend.blend_weights(before, after | {"b": (1.0, 1.0)})
    assert capped == pytest.approx({k: score / sum(scores.values()) for k, score in scores.items()})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 5)] * 4), min_size=1, max_size=4))
def test_blend_weights_are_shares(losses):
    before, after = ({str(i): (x[2 * n], x[2 * n + 1]) for i, x in enumerate(losses)} for n in (0, 1))
    found = gradient_blend.blend_weights(before, after)
    assert sum(found.values()) == pytest.approx(1) and min(found.values()) >= 0


def test_blend_is_the_weighted_sum_of_the_streams_losses():
    """Of the source's clips, mean over two labels; it stands for the class loss."""
    of = output(("rgb", "flow", "all"), head="blend", heads=(3, 4))
    at = Step(
        torch.tensor([[0, 3], [1, 2], [2, 1], [1, 0]]), torch.arange(CLIPS) >= SOURCE, torch.arange(TARGET), torch.tensor(0.5)
    )
    module = gradient_blend.GradientBlend(("rgb", "flow", "all"), gradient_blend.Options())
    losses = {}
    for stream, logits in of.logits.items():
        rows = zip(arrays(logits)[:SOURCE], at.labels.tolist(), strict=True)
        losses[stream] = np.mean([[slow_cross_entropy(x[:3], verb), slow_cross_entropy(x[3:], noun)] for x, (verb, noun) in rows])
    assert float(module(of, at).loss.detach()) == pytest.approx(np.mean(list(losses.values())), rel=1e-5)
    module.set_weights({"all": 0.3, "flow": 0.5, "rgb": 0.2})
    expected = 0.2 * losses["rgb"] + 0.5 * losses["flow"] + 0.3 * losses["all"]
    assert float(module(of, at).loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert module.replaces_class_loss and not list(module.parameters()) and not gradient_blend.needs_target(module.options)
    for streams in (("rgb", "flow"), ("all",), ("rgb", "all")):
        with pytest.raises(UsageError, match="needs --head blend and two modalities"):
            gradient_blend.GradientBlend(streams, gradient_blend.Options())


def test_mean_losses_count_clips_and_not_batches():
    big, small = output(("rgb", "all"), head="blend"), output(("rgb", "all"), head="blend", seed=1)
    labels = torch.arange(CLIPS) % CLASSES
    with torch.no_grad():
        found = gradient_blend.mean_losses([(big, labels[:, None]), (small, labels[:3, None])])
    for stream in ("rgb", "all"):
        rows = [
            *zip(arrays(big.logits[stream]), labels, strict=True),
            *zip(arrays(small.logits[stream])[:3], labels[:3], strict=True),
        ]
        assert found[stream] == pytest.approx(np.mean([slow_cross_entropy(x, int(k)) for x, k in rows]), rel=1e-5)


def test_hold_out_is_stratified_and_keeps_one_of_each_class():
    labels = np.array([0] * 10 + [1] * 5 + [2])
    kept, held = gradient_blend.hold_out(labels, 0.2, np.random.default_rng(0))
    assert sorted([*kept, *held]) == list(range(16))
    assert np.bincount(labels[held], minlength=3).tolist() == [2, 1, 0]
    others = {tuple(gradient_blend.hold_out(labels, 0.2, np.random.default_rng(seed))[1]) for seed in range(20)}
    assert len(others) > 5  # drawn at random


@settings(max_examples=50, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=40), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_hold_out_of_any_labels(labels, share, seed):
    labels = np.array(labels)
    kept, held = gradient_blend.hold_out(labels, share, np.random.default_rng(seed))
    assert sorted([*kept, *held]) == list(range(len(labels))) and set(labels[kept]) == set(labels)
    for k in set(labels):
        count = int((labels == k).sum())
        assert abs((labels[held] == k).sum() - min(share * count, count - 1)) <= 0.5


# --- settings that make no sense ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "setting"), [("cross_modal", "bank"), ("cross_modal", "temperature"), ("spatio_temporal", "temperature")]
)
def test_a_setting_of_zero_that_nothing_can_be_divided_by_is_refused_in_one_line(name, setting):
    of = output()
    sizes = Sizes({}, {}, (3,), 5, 0.0, widths(of)["frame"], widths(of)["video"], TARGET)
    with pytest.raises(UsageError, match=rf"{name}\.{setting}=0"):
        parts.find("objectives", name).build(sizes, parts.options("objectives", name, {setting: 0}))(of, step(output(seed=1)))
