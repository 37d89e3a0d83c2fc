"""A dry run over clips: nothing is decoded or written, and its counts are those of a run."""

from dataclasses import replace

import torch
from cia_adapt.experiments import dry_run
from cia_adapt.experiments.cost import saved_bytes

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
    assert len(plan["runs"]) == 2


def test_what_a_gradient_keeps_is_counted_once():
    x = torch.randn(10, 100, requires_grad=True)
    assert saved_bytes(lambda: (x * x).sum()) == 4000
    assert saved_bytes(lambda: (x.exp() * x).sum()) == 8000
