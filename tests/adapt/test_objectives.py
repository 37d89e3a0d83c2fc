import math

import numpy as np
import pytest
import torch
from cia_adapt.model import Output
from cia_adapt.modules.contrastive import info_nce
from cia_adapt.objectives import (
    adversarial,
    attentive_entropy,
    correspondence,
    cross_modal,
    gradient_blend,
    spatio_temporal,
)
from cia_adapt.step import Step
from cia_extract.errors import UsageError
from torch import Tensor
from torch.nn import functional as F

SOURCE, TARGET, CLASSES = 4, 6, 3


def output(streams=("rgb", "flow"), seed: int = 0, width: int = 8, head: str = "average") -> Output:
    generator = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(*shape, generator=generator).requires_grad_()  # noqa: E731
    count = SOURCE + TARGET
    return Output(
        head,
        (CLASSES,),
        {s: rand(count, 5, width) for s in streams},
        {s: rand(count, width) for s in streams},
        {s: rand(count, CLASSES) for s in streams},
    )


def step(second: Output | None = None, progress: float = 0.5) -> Step:
    labels = torch.tensor([0, 1, 2, 1])[:, None]
    return Step(labels, torch.arange(SOURCE + TARGET) >= SOURCE, torch.arange(TARGET), torch.tensor(progress), second)


def widths(of: Output) -> dict[str, dict[str, int]]:
    return {"video": {s: x.shape[-1] for s, x in of.videos.items()}, "frame": {s: x.shape[-1] for s, x in of.frames.items()}}


def shaken(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module


# --- adversarial ----------------------------------------------------------------------------------------------------------


def slow_domain_loss(logits: Tensor, is_target: Tensor) -> float:
    rows = logits.detach().double().numpy().reshape(len(is_target), -1, 2)
    losses = []
    for clip, target in zip(rows, is_target.tolist(), strict=True):
        for two in clip:
            losses.append(math.log(sum(math.exp(x) for x in two)) - two[int(target)])
    return float(np.mean(losses))


def test_adversarial_sums_levels_and_averages_streams_and_frames():
    of, at = output(), step()
    module = shaken(adversarial.AdversarialAlignment(widths(of), adversarial.Options(hidden=4)))
    term = module(of, at)
    expected = 0.0
    for level, features in (("video", of.videos), ("frame", of.frames)):
        expected += np.mean(
            [slow_domain_loss(module.discriminators[f"{level}_{s}"](x), at.is_target) for s, x in features.items()]
        )
    assert float(term.loss) == pytest.approx(expected, rel=1e-5)
    assert set(of.domain_logits) == {"video_rgb", "video_flow", "frame_rgb", "frame_flow"}
    assert float(term.metrics["frame_reversal"]) == 0.5 and float(term.metrics["video_reversal"]) == 1


def test_domain_accuracy_is_the_mean_of_both_domains():
    """Four source clips all right, six target clips of which two are right."""
    logits = torch.tensor([[1.0, 0]] * 4 + [[0.0, 1]] * 2 + [[1.0, 0]] * 4)
    _, accuracy = adversarial.domain_loss(logits, torch.arange(10) >= 4)
    assert float(accuracy) == pytest.approx((1 + 2 / 6) / 2)


@pytest.mark.parametrize("on", ["gradient", "loss"])
def test_lambda_scales_the_reversed_gradient_or_the_whole_loss(on):
    found = {}
    for strength in (1.0, 0.25):
        of, at = output(("all",), head="concat"), step()
        options = adversarial.Options(video=strength, frame=0.0, weights_on=on, hidden=4)
        module = shaken(adversarial.AdversarialAlignment(widths(of), options))
        module(of, at).loss.backward()
        plain = F.cross_entropy(
            module.discriminators["video_all"](of.videos["all"].detach().requires_grad_()), at.is_target.long()
        )
        found[strength] = of.videos["all"].grad, next(module.parameters()).grad, plain
    torch.testing.assert_close(found[0.25][0], 0.25 * found[1.0][0])
    torch.testing.assert_close(found[0.25][1], (0.25 if on == "loss" else 1.0) * found[1.0][1])


def test_the_gradient_is_reversed():
    of, at = output(("all",), head="concat"), step()
    module = shaken(adversarial.AdversarialAlignment(widths(of), adversarial.Options(frame=0.0, hidden=4)))
    loss = module(of, at).loss
    (reversed_,) = torch.autograd.grad(loss, of.videos["all"], retain_graph=True)
    x = of.videos["all"].detach().requires_grad_()
    (plain,) = torch.autograd.grad(F.cross_entropy(module.discriminators["video_all"](x), at.is_target.long()), x)
    torch.testing.assert_close(reversed_, -plain)


def test_a_ramp_grows_lambda_and_a_level_of_zero_has_no_discriminator():
    of = output(("all",), head="concat")
    module = adversarial.AdversarialAlignment(widths(of), adversarial.Options(video=2.0, frame=0.0, ramp=10.0))
    assert float(module(of, step(progress=0.1)).metrics["video_reversal"]) == pytest.approx(2 * 0.462117, abs=1e-5)
    assert {name.split("_")[0] for name in module.discriminators} == {"video"}


def test_discriminators_inside_the_model_are_trained_by_it():
    of, at = output(("all",), head="concat"), step()
    of.domain_logits["relation_all"] = torch.randn(10, 4, 2)
    of.domain_logits["region_rgb"], of.domain_logits["region_flow"] = torch.randn(10, 5, 49, 2), torch.randn(10, 5, 49, 2)
    own = slow_domain_loss(of.domain_logits["relation_all"], at.is_target)
    own += np.mean([slow_domain_loss(of.domain_logits[f"region_{m}"], at.is_target) for m in ("rgb", "flow")])
    term = adversarial.AdversarialAlignment(widths(of), adversarial.Options(video=0.0, frame=0.0))(of, at)
    assert float(term.loss) == pytest.approx(own, rel=1e-5)
    assert "relation_domain_accuracy" in term.metrics and "relation_reversal" not in term.metrics


# --- attentive entropy, correspondence ------------------------------------------------------------------------------------


def test_attentive_entropys_published_value():
    classes, domains = torch.tensor([[2.0, 0, 0], [0, 0, 0]]), torch.tensor([[0.0, 0], [1, -1]])
    assert float(attentive_entropy.attentive_entropy(classes, domains)) == pytest.approx(1.313443, abs=1e-6)


def test_attentive_entropy_reads_the_video_discriminator():
    of, at = output(), step()
    module = attentive_entropy.AttentiveEntropy(0.3)
    with pytest.raises(UsageError, match="needs adversarial before it"):
        module(of, at)
    adversarial.AdversarialAlignment(widths(of), adversarial.Options())(of, at)
    expected = np.mean(
        [float(attentive_entropy.attentive_entropy(of.logits[s], of.domain_logits[f"video_{s}"])) for s in of.logits]
    )
    assert float(module(of, at).loss) == pytest.approx(0.3 * expected, rel=1e-5)


def test_correspondence_mismatches_half_of_each_domain_within_it():
    of, at = output(width=1), step()
    for x in of.videos.values():
        x.data = torch.arange(10.0)[:, None]  # a clip's number as its only feature
    module = correspondence.Correspondence({"rgb": 1, "flow": 1}, correspondence.Options(weight=2.0))
    seen = []
    module.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    term = module(of, at)
    (pairs,) = seen
    together = pairs[:, 0] == pairs[:, 1]
    assert together.tolist() == [False] * 2 + [True] * 2 + [False] * 3 + [True] * 3
    assert ((pairs[:, 0] >= SOURCE) == (pairs[:, 1] >= SOURCE)).all()
    logits = module.classifier(pairs)
    assert float(term.loss) == pytest.approx(2 * float(F.cross_entropy(logits, together.long())), rel=1e-5)
    with pytest.raises(UsageError, match="needs a head per modality"):
        correspondence.Correspondence({"all": 4}, correspondence.Options())


# --- Kim et al. -----------------------------------------------------------------------------------------------------------


def test_cross_modal_contrasts_modalities_within_each_domain():
    of, at = output(), step()
    module = cross_modal.CrossModalContrast({"rgb": 8, "flow": 8}, cross_modal.Options(across_domains=0.0))
    z = {s: module.project(v) for s, v in of.videos.items()}
    expected = (info_nce(z["rgb"][:SOURCE], z["flow"][:SOURCE], 0.1) + info_nce(z["rgb"][SOURCE:], z["flow"][SOURCE:], 0.1)) / 2
    assert float(module(of, at).loss) == pytest.approx(float(expected), rel=1e-5)


def test_pseudo_labels_below_the_threshold_take_no_part():
    of, at = output(), step()
    for threshold, share in ((0.0, 100.0), (1.1, 0.0)):
        module = cross_modal.CrossModalContrast({"rgb": 8, "flow": 8}, cross_modal.Options(threshold=threshold, bank=16))
        term = module(of, at)
        assert float(term.metrics["pseudo_labelled"]) == share
        assert (float(term.metrics["cross_domain_loss"]) == 0) == (share == 0)
        assert (module.target_bank.classes >= 0).sum() == (TARGET if share else 0)


def test_the_bank_is_a_ring_without_gradients():
    bank = cross_modal.Bank(("rgb",), 5, 2)
    for first in (0, 3, 6):
        bank.push(
            {"rgb": torch.arange(first, first + 3.0)[:, None].repeat(1, 2).requires_grad_()}, torch.arange(first, first + 3)
        )
    assert sorted(bank.classes.tolist()) == [4, 5, 6, 7, 8]
    assert bank.remembered("rgb")[:, 0].tolist() == bank.classes.tolist() and not bank.remembered("rgb").requires_grad
    bank.push({"rgb": torch.ones(9, 2)}, torch.arange(9))
    assert sorted(bank.classes.tolist()) == [4, 5, 6, 7, 8]


# --- STCDA ----------------------------------------------------------------------------------------------------------------


def test_clip_and_video_contrast():
    of, second = output(), output(seed=1)
    module = spatio_temporal.SpatioTemporalContrast(TARGET, spatio_temporal.Options(clip=2.0, video=3.0, alignment=0.0))
    parts = [slice(0, SOURCE), slice(SOURCE, None)]
    clip = np.mean([float(info_nce(of.videos[s][p], second.videos[s][p], 0.1)) for s in of.videos for p in parts])
    video = np.mean([float(info_nce(of.videos["rgb"][p], of.videos["flow"][p], 0.1)) for p in parts])
    assert float(module(of, step(second)).loss) == pytest.approx(2 * clip + 3 * video, rel=1e-5)


def test_discrepancy_equals_a_slow_loop_over_common_classes():
    source, target = torch.randn(6, 4), torch.randn(7, 4)
    of_source, of_target = [0, 0, 1, 1, 2, 3], [0, 1, 1, -1, 4, 0, 1]  # 2, 3 and 4 are on one side only
    mean = lambda x, labels, k: x[[i for i, label in enumerate(labels) if label == k]].double().numpy().mean(0)  # noqa: E731
    distance = {(a, b): ((mean(source, of_source, a) - mean(target, of_target, b)) ** 2).sum() for a in (0, 1) for b in (0, 1)}
    expected = (distance[0, 0] + distance[1, 1]) / 2 - (distance[0, 1] + distance[1, 0]) / 2
    found = spatio_temporal.contrastive_discrepancy(source, torch.tensor(of_source), target, torch.tensor(of_target))
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert float(spatio_temporal.contrastive_discrepancy(source, torch.tensor(of_source), target, torch.full((7,), -1))) == 0


def test_kmeans_starts_at_the_sources_means_and_follows_the_target():
    random = np.random.default_rng(0)
    centres = np.eye(3, 8)
    source = centres[[0, 1, 2] * 5] + 0.05 * random.standard_normal((15, 8))
    moved = np.roll(centres, 1, axis=1) * 0.6 + centres  # the target's classes, turned away from the source's
    target = moved[[2, 0, 1, 1]] + 0.02 * random.standard_normal((4, 8))
    labels = torch.tensor([0, 1, 2] * 5)
    classes, distances = spatio_temporal.spherical_kmeans(torch.tensor(source).float(), labels, torch.tensor(target).float())
    assert classes.tolist() == [2, 0, 1, 1] and float(distances.max()) < 0.05
    module = spatio_temporal.SpatioTemporalContrast(4, spatio_temporal.Options(radius=0.5))
    outlier = torch.cat([torch.tensor(target).float()[:3], -torch.ones(1, 8)])
    module.cluster(torch.tensor(source).float(), labels, outlier)
    assert module.pseudo[:2].tolist() == [2, 0] and module.pseudo.shape == (4,)


# --- G-Blend --------------------------------------------------------------------------------------------------------------


def test_blend_weights_of_the_toy():
    before = {"a": (2.0, 2.1), "b": (2.2, 2.3), "c": (1.8, 2.0)}
    after = {"a": (0.5, 1.0), "b": (1.0, 1.3), "c": (0.2, 0.8)}
    found = gradient_blend.blend_weights(before, after)
    assert [round(w, 4) for w in found.values()] == [0.1746, 0.6349, 0.1905]
    worse = gradient_blend.blend_weights(before, after | {"b": (1.0, 2.5)})
    assert worse["b"] == 0 and sum(worse.values()) == pytest.approx(1)
    assert set(gradient_blend.blend_weights(before, dict.fromkeys(before, (3.0, 3.0))).values()) == {1 / 3}


def test_blend_is_the_weighted_sum_of_the_streams_losses():
    of, at = output(("rgb", "flow", "all"), head="blend"), step()
    module = gradient_blend.GradientBlend(("rgb", "flow", "all"), gradient_blend.Options())
    module.set_weights({"rgb": 0.2, "flow": 0.5, "all": 0.3})
    expected = sum(
        w * F.cross_entropy(of.logits[s][:SOURCE], at.labels[:, 0]) for s, w in (("rgb", 0.2), ("flow", 0.5), ("all", 0.3))
    )
    assert float(module(of, at).loss) == pytest.approx(float(expected), rel=1e-5)


def test_hold_out_is_stratified_and_keeps_one_of_each_class():
    labels = np.array([0] * 10 + [1] * 5 + [2])
    kept, held = gradient_blend.hold_out(labels, 0.2, np.random.default_rng(0))
    assert sorted([*kept, *held]) == list(range(16))
    assert np.bincount(labels[held], minlength=3).tolist() == [2, 1, 0]
