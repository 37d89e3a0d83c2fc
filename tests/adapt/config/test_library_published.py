"""The values that methods start from are those that their authors published."""

import pytest
from cia_adapt.config import library


@pytest.mark.parametrize(
    ("method", "published"),
    [
        ("mcc", {"class_confusion.temperature": 2.5, "class_confusion.weight": 1}),
        ("mec", {"consensus_entropy.weight": 1}),
        ("pseudo-label", {"pseudo_label.threshold": 0.9, "pseudo_label.over": "all"}),
        ("im", {"information_maximisation.weight": 1, "information_maximisation.diversity": 1}),
        ("shot-fl", {"source_hypothesis.certainty": 1, "source_hypothesis.pseudo": 0.3}),
        ("cdan", {"conditional_adversarial.random_width": 1024, "conditional_adversarial.entropy": False}),
        ("cdan-e", {"conditional_adversarial.random_width": 1024, "conditional_adversarial.entropy": True}),
        ("cleanadapt-fl", {"small_loss.kept": 0.5, "small_loss.relabels": False}),
        ("cleanadapt-fl-ts", {"small_loss.kept": 0.5, "small_loss.relabels": True}),
        ("dan", {"kernel_discrepancy.kernels": 5, "kernel_discrepancy.prediction_kernels": 0, "kernel_discrepancy.weight": 1}),
        ("jan", {"kernel_discrepancy.kernels": 2, "kernel_discrepancy.prediction_kernels": 5, "kernel_discrepancy.weight": 1}),
        ("coral", {"coral.weight": 1}),
        (
            "ib",
            {
                "information_bottleneck.weight": 0.01,
                "information_bottleneck.queue": 1024,
                "information_bottleneck.off_diagonal": 0.005,
            },
        ),
        ("mdd", {"margin_disparity.margin": 4, "margin_disparity.strength": 0.1}),
        ("afn", {"feature_norm.weight": 0.05, "feature_norm.increase": 1}),
        ("bsp", {"spectral_penalty.weight": 2e-4, "spectral_penalty.singular_values": 1}),
        ("comix-fl", {"temporal_contrast.threshold": 0.7}),
    ],
)
def test_a_method_starts_from_what_its_authors_published(method, published):
    options = library.load("uh", method, {}).for_pair("ucf", "hmdb").options
    assert {key: options[key.split(".")[0]][key.split(".")[1]] for key in published} == published


@pytest.mark.parametrize(
    ("method", "published"),
    [
        ("shot-fl", {"smoothing": 0.1}),
        ("cleanadapt-fl-ts", {"average": 0.99}),
        ("transvae", {"lr": 1e-3, "optimiser": "adam"}),
    ],
)
def test_a_method_brings_what_its_authors_train_with(method, published):
    setup = library.load("uh", method, {}).setup
    assert {name: getattr(setup, name) for name in published} == published
