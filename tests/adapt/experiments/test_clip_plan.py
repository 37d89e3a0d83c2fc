"""A dry run over clips: nothing is decoded or written, and its counts are those of a run."""

from dataclasses import replace

import pytest
import torch
from cia_adapt.data import readers
from cia_adapt.experiments import clip_plan, directions, dry_run
from cia_adapt.experiments.cost import recomputed_bytes, saved_bytes
from torch import nn

from tests.adapt.clips_of import request, trainer_of


def test_it_says_bytes_memory_and_hours_and_decodes_nothing(tiny_clips, tmp_path):
    asked = request(tiny_clips, tmp_path / "runs", accumulate=2)
    asked = replace(asked, footage=replace(asked.footage, cache=tmp_path / "cache"), seeds=(0, 1))
    (plan,) = dry_run.plan(asked)
    assert not list(tmp_path.iterdir())
    trainer, _ = trainer_of(request(tiny_clips, tmp_path))
    assert plan["parameters"] == sum(p.numel() for p in trainer.parameters)
    assert plan["frame_cache_gigabytes"] == round(24 * 4 * 32 * 40 * 5 / 1e9, 3)
    assert (plan["batch"], plan["steps"], plan["source_train_clips"]) == ("4 source + 4 target", 2, 8)
    assert plan["memory_gigabytes"] > 16 * plan["parameters"] / 1e9
    assert plan["hours_estimated"] == round(plan["seconds_estimated"] / 3600, 2) and plan["seconds_estimated"] > 0
    assert plan["hours_are_without"] == "decoding and flow (dis), which fill the frame cache once, before training"
    assert len(plan["runs"]) == 2


@pytest.mark.parametrize(
    ("free", "tier", "expected"),
    [
        (1 << 40, None, {"ram": 0.061}),
        (1 << 40, "map", {"map": 0.061}),
        (1, None, {"map": 0.061}),
        (60_000_000, None, {"ram": 0.031, "map": 0.031}),  # 18 MB of 60, 12 of the 42 left; then neither 18 nor 12 of 29
    ],
)
def test_it_says_where_the_frames_will_be_read_from(tiny_clips, tmp_path, monkeypatch, free, tier, expected):
    """RGB [12, 4, 320, 400, 3] and flow [12, 4, 320, 400, 2] of two domains, each loaded if 40 % of the free memory take it."""
    asked = request(tiny_clips, tmp_path, short_side=320, width=400)
    asked = replace(asked, footage=replace(asked.footage, frames="black"), tier=tier)
    (direction,) = directions.prepared(asked, print)
    monkeypatch.setattr(readers, "free_memory", lambda: free)
    assert clip_plan.frames_read(asked, direction) == expected


def test_hours_are_said_to_be_without_decoding(tiny_clips, tmp_path):
    rgb = request(tiny_clips, tmp_path, "source-only", modalities=("rgb",))
    (plan,) = dry_run.plan(rgb)
    assert plan["hours_are_without"] == "decoding, which fills the frame cache once, before training"
    assert list(plan["frames_read_gigabytes"]) == ["ram"]


def test_what_a_gradient_keeps_is_counted_once():
    x = torch.randn(10, 100, requires_grad=True)
    assert saved_bytes(lambda: (x * x).sum()) == 4000
    assert saved_bytes(lambda: (x.exp() * x).sum()) == 8000


def test_a_layer_that_is_computed_again_keeps_its_activations_alone():
    layers = [nn.Sequential(nn.Tanh(), nn.Tanh()), nn.Tanh()]
    x = torch.randn(10, 100, requires_grad=True)
    assert recomputed_bytes(layers, lambda: layers[1](layers[0](x))) == 8000
    assert recomputed_bytes(layers[1:], lambda: layers[1](layers[0](x))) == 4000
    assert not any(layer._forward_pre_hooks for layer in layers)


def test_with_checkpointing_memory_has_room_for_the_largest_layer(tiny_clips, tmp_path, monkeypatch):
    """Measured on 2 clips, for a batch of 8: four times the layer's bytes, here a terabyte for 2 clips."""
    measured = []

    def a_terabyte_more(layers, action) -> int:
        measured.append(recomputed_bytes(layers, action))
        return measured[-1] + 10**12

    monkeypatch.setattr(clip_plan, "recomputed_bytes", a_terabyte_more)
    asked = request(tiny_clips, tmp_path, "source-only", modalities=("rgb",), batch=8)
    (whole,), (recomputed,) = (dry_run.plan(replace(asked, checkpointing=on)) for on in (False, True))
    assert whole["memory_gigabytes"] < 1 and 4000 < recomputed["memory_gigabytes"] < 4001
    (of_largest,) = measured
    assert of_largest > 2 * 64 * 2 * 16 * 16 * 4  # at least what the first layer's convolution gives
