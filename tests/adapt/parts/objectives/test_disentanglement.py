"""TranSVAE's losses against torch's own distributions and loops over clips."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cia_adapt import config
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import disentanglement as transvae
from cia_adapt.parts.temporal import transvae as part
from cia_extract.common.errors import UsageError
from torch.distributions import Independent, Normal, kl_divergence

from tests.adapt.objective_parts import CLIPS, SOURCE, output, step
from tests.adapt.runs_of import trained_and_resumed

SIZES = Sizes({}, {}, (3,), 5, 0.0)
TERMS = ("reconstruction", "static_divergence", "dynamic_divergence", "triplet", "mutual_information")


def normal(mean: torch.Tensor, log_variance: torch.Tensor) -> Independent:
    return Independent(Normal(mean.double(), (log_variance / 2).exp().double()), 1)


def latents(segments: int = 5, latent: int = 4, decoded: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.5

    static = {name: draw(CLIPS, latent) for name in ("f", "f_mean", "f_log_variance", "f_shuffled")}
    names = ("z", "z_mean", "z_log_variance", "prior_mean", "prior_log_variance")
    return static | {name: draw(CLIPS, segments, latent) for name in names} | {"decoded": draw(CLIPS, segments, decoded)}


def test_the_divergence_known_from_the_formula():
    mean, log_variance = torch.tensor([[1.0, 0]]), torch.tensor([[0.0, math.log(2)]])
    zero = torch.zeros(1, 2)
    assert float(transvae.divergence(mean, log_variance, zero, zero)) == pytest.approx(0.653426, abs=1e-6)


def test_every_term_is_the_loop_s():
    at, of = latents(), replace(output(("all",)), latents={"all": latents()})
    metrics = transvae.build(SIZES, transvae.Options())(of, step()).metrics
    f, z = normal(at["f_mean"], at["f_log_variance"]), normal(at["z_mean"], at["z_log_variance"])
    standard = normal(torch.zeros_like(at["f_mean"]), torch.zeros_like(at["f_mean"]))
    prior = normal(at["prior_mean"], at["prior_log_variance"])
    expected = {
        "reconstruction": float((at["decoded"] - of.frames["all"].detach()).square().sum()) / CLIPS,
        "static_divergence": float(kl_divergence(f, standard).mean()),
        "dynamic_divergence": float(kl_divergence(z, prior).sum(1).mean()),
    }
    distance = lambda a, b: float((a - b + 1e-6).norm())  # noqa: E731
    triplets = 0.0
    for own, other in ((range(SOURCE), range(SOURCE, CLIPS)), (range(SOURCE, CLIPS), range(SOURCE))):
        by_clip = []
        for n, i in enumerate(own):
            j = other[n % len(other)]
            near, far = distance(at["f_mean"][i], at["f_shuffled"][i]), distance(at["f_mean"][i], at["f_mean"][j])
            by_clip.append(max(0.0, near - far + 1))
        triplets += np.mean(by_clip)
    information = []
    for t in range(5):
        for i in range(CLIPS):
            of_f = [float(normal(at["f_mean"][j], at["f_log_variance"][j]).log_prob(at["f"][i].double())) for j in range(CLIPS)]
            of_z = [
                float(normal(at["z_mean"][j, t], at["z_log_variance"][j, t]).log_prob(at["z"][i, t].double()))
                for j in range(CLIPS)
            ]
            mixture = lambda logs: math.log(np.mean(np.exp(logs)))  # noqa: E731
            joint = mixture([a + b for a, b in zip(of_f, of_z, strict=True)])
            information.append(max(0.0, joint - mixture(of_f) - mixture(of_z)))
    expected |= {"triplet": triplets, "mutual_information": float(np.mean(information))}
    assert triplets > 0 and expected["mutual_information"] > 0
    for name in TERMS:
        assert float(metrics[f"{name}_loss"]) == pytest.approx(expected[name], rel=1e-4), name


def test_weights_multiply_the_terms():
    of = replace(output(("all",)), latents={"all": latents()})
    term = transvae.build(SIZES, transvae.Options(bound=0.5, triplet=2.0, information=3.0))(of, step())
    losses = [float(term.metrics[f"{name}_loss"]) for name in TERMS]
    assert float(term.loss) == pytest.approx(0.5 * sum(losses[:3]) + 2 * losses[3] + 3 * losses[4], rel=1e-5)


def test_it_needs_the_latents():
    with pytest.raises(UsageError, match="needs the latents of --temporal transvae"):
        transvae.build(SIZES, transvae.Options())(output(), step())


@pytest.mark.parametrize(("source", "target"), [("ucf", "hmdb"), ("ucf-small", "hmdb-small")])
def test_each_direction_has_its_weights(source, target):
    """As published: w₁, w₃; w₂ times TA3N's β; and τ."""

    def weights(source, target):
        options = config.load("uh", "transvae", {}).for_pair(source, target).options
        assert options["adversarial"]["frame"] == 0 and options["disentanglement"]["bound"] == 1
        of_losses = [options["disentanglement"][name] for name in ("triplet", "information")]
        reversed_ = [options["adversarial"]["video"], *(options["transvae"][name] for name in ("strength", "latent_strength"))]
        return of_losses, reversed_, options["pseudo_label"]["threshold"]

    assert weights(source, target) == ([1, 50], [0.75, 0.75, 0.5], 0.93)
    assert weights(target, source) == ([10, 0.5], [0.075, 0.075, 0.05], 0.96)


@pytest.mark.parametrize("head", ["concat", "average"])
def test_trains_and_goes_on(small_file, tmp_path, head):
    sets = ("transvae.latent=8", "transvae.hidden=8", "transvae.decoder=16", "pseudo_label.threshold=0.4")
    history = trained_and_resumed(small_file, "transvae", tmp_path, head=head, sets=sets)
    assert all(epoch["reconstruction_loss"] > 0 and epoch["latent_domain_loss"] > 0 for epoch in history)


# --- the temporal part ------------------------------------------------------------------------------------------------------


def autoencoder(segments: int = 5) -> part.SequentialAutoencoder:
    torch.manual_seed(0)
    return part.build(8, segments, part.Options(width=6, latent=4, hidden=5, decoder=7))


def test_evaluation_takes_means_and_is_the_same_each_time():
    module, frames = autoencoder().eval(), torch.randn(3, 5, 8)
    (clip, logits, other), (again, _, _) = module(frames), module(frames)
    assert torch.equal(clip, again) and clip.shape == (3, 6) and other == {}
    assert logits["relation"].shape == (3, 4, 2) and logits["latent"].shape == (3, 5, 2)
    clip, _, _ = module.train()(frames)
    assert not torch.equal(clip, module(frames)[0])


def test_the_prior_of_a_frame_knows_the_earlier_ones_alone():
    module, frames = autoencoder().train(), torch.randn(3, 5, 8)
    _, _, at = module(frames)
    for t in range(5):
        gradient = torch.autograd.grad(at["prior_mean"][:, t].sum(), at["z"], retain_graph=True, allow_unused=True)[0]
        reached = [False] * 5 if gradient is None else gradient.abs().sum((0, 2)).gt(0).tolist()
        assert reached == [s < t for s in range(5)]


def test_what_is_static_and_what_is_decoded():
    module, frames = autoencoder().train(), torch.randn(3, 5, 8)
    _, _, at = module(frames)
    assert at["f"].shape == at["f_shuffled"].shape == (3, 4) and at["z"].shape == (3, 5, 4)
    decoded = [module.decoder(torch.cat([at["f"], at["z"][:, t]], 1)) for t in range(5)]
    torch.testing.assert_close(at["decoded"], torch.stack(decoded, 1))


def test_the_reversed_gradient_of_the_latents_has_its_strength():
    module, frames = autoencoder().train(), torch.randn(3, 5, 8)
    gradients = []
    for strength in (0.5, 1.0):
        module.reverse.strength = strength
        torch.manual_seed(1)
        _, logits, _ = module(frames)
        module.zero_grad()
        logits["latent"][..., 1].sum().backward()
        gradients.append(module.dynamic.mean.weight.grad.clone())
    torch.testing.assert_close(gradients[1], 2 * gradients[0])
