"""Adversarial alignment, attentive entropy and correspondence against slow loops."""

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Output, Sizes, Step
from cia_adapt.parts.objectives import adversarial, attentive_entropy, correspondence
from cia_extract.common.errors import UsageError
from torch import Tensor, nn
from torch.nn import functional as F

from tests.adapt.objective_parts import CLASSES, CLIPS, arrays, output, slow_cross_entropy, slow_entropy, slow_mlp, step, widths
from tests.adapt.shake import shaken


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


def test_smoothed_labels_of_domains_are_torchs():
    logits, is_target = torch.randn(10, 3, 2, generator=torch.Generator().manual_seed(1)), torch.arange(10) >= 4
    loss, _ = adversarial.domain_loss(logits, is_target, 0.2)
    soft = torch.where(is_target[:, None, None] == torch.tensor([False, True]), 0.9, 0.1)
    assert float(loss) == pytest.approx(float(-(soft * logits.log_softmax(2)).sum(2).mean()), rel=1e-6)


def test_the_penalty_is_the_squared_slope_of_the_discriminator_and_trains_it_alone():
    of, at = output(), step()
    options = adversarial.Options(hidden=4, penalty=0.5, frame=0.0)
    module = shaken(adversarial.AdversarialAlignment(widths(of), options))
    term = module(of, at)
    slopes = []
    for stream, features in of.videos.items():
        layers = module.discriminators[f"video_{stream}"].double()
        for x in features.detach().double():
            for axis in range(len(x)):
                shift = 1e-5 * torch.eye(len(x), dtype=torch.float64)[axis]
                ahead, behind = (layers(x + sign * shift) for sign in (1, -1))
                slopes.append(((ahead[1] - ahead[0]) - (behind[1] - behind[0])).item() / 2e-5)
    expected = sum(slope**2 for slope in slopes) / (len(of.videos) * CLIPS)
    assert float(term.metrics["discriminator_penalty"]) == pytest.approx(expected, rel=1e-3)
    assert float(term.loss.detach() - term.metrics["video_domain_loss"]) == pytest.approx(0.5 * expected, rel=1e-3)


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


def test_lambda_on_the_loss_scales_the_whole_loss():
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
def test_a_level_of_weight_zero_has_no_discriminator(options, left):
    of, at = output(("all",), head="concat"), step()
    module = adversarial.AdversarialAlignment(widths(of), adversarial.Options(**options))
    module(of, at)
    assert {name.split("_")[0] for name in module.discriminators} == left
    assert {name.split("_")[0] for name in of.domain_logits} == left


def test_discriminators_inside_the_model_are_trained_by_adversarial():
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
    with pytest.raises(UsageError, match="name adversarial before it in --objectives"):
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
def test_a_clip_that_could_only_be_paired_with_itself_is_not_called_mismatched(source, target):
    pairs, loss, _, module = pairs_seen(source, target)
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    expected = np.mean([slow_cross_entropy(slow_mlp(module.classifier, x), 1) for x in pairs.double().numpy()])
    assert loss == pytest.approx(2 * expected, rel=1e-4)


def test_correspondences_gradient_reaches_both_modalities():
    of, at = output(("rgb", "flow", "audio")), step()
    module = shaken(correspondence.build(Sizes({}, {}, (3,), 5, 0.0, {}, widths(of)["video"]), correspondence.Options()))
    reached = torch.autograd.grad(module(of, at).loss, list(of.videos.values()))
    assert all(x.any(1).all() for x in reached)
    with pytest.raises(UsageError, match="it needs two of them and a head for each"):
        correspondence.Correspondence({"all": 4}, correspondence.Options())
