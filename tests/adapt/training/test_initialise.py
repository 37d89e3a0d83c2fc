"""`--initialise data`: the shared layer starts by the source's features."""

import numpy as np
import pytest
import torch
from cia_adapt.training import initialise

from tests.adapt.runs_of import CPU, equal, trained_and_resumed, trainer_of


@pytest.mark.parametrize(("method", "modalities"), [("cia", ("rgb", "flow")), ("mmtm-fl", ("rgb", "flow", "audio"))])
def test_each_unit_has_mean_0_and_spread_1_over_the_source(small_file, method, modalities):
    """Of the layers' own sums, against weights and features multiplied by hand."""
    trainer, _ = trainer_of(small_file, method, modalities=modalities, initialise="data", normalise=False)
    clips = trainer.task.source_train.clips
    inputs = clips.batch(np.arange(len(clips)), np.tile(np.arange(5), (len(clips), 1)))
    model = trainer.model.eval()
    for stream, raw in model(inputs).raw.items():
        units = raw.flatten(0, 1)
        torch.testing.assert_close(units.mean(0), torch.zeros(units.shape[1]), atol=1e-3, rtol=0)
        torch.testing.assert_close(units.std(0), torch.ones(units.shape[1]), atol=1e-3, rtol=0)
        assert stream in model.shared


def test_it_is_a_scale_and_a_shift_of_the_random_start_and_moves_no_random_state(small_file):
    random, data = (trainer_of(small_file, "concat", initialise=start)[0] for start in ("random", "data"))
    layers = [trainer.model.shared["all"].layers[0] for trainer in (random, data)]
    factors = layers[1].weight / layers[0].weight
    assert (factors > 0).all()
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors), rtol=1e-3, atol=0)
    for name, value in random.model.state_dict().items():
        assert name.startswith("shared") or torch.equal(value, data.model.state_dict()[name])
    assert equal(dict(random.objectives.state_dict()), dict(data.objectives.state_dict()))
    draws = [trainer.draws()[0] for trainer in (random, data)]
    assert np.array_equal(draws[0].source, draws[1].source) and np.array_equal(draws[0].target, draws[1].target)


def test_a_unit_that_is_constant_stays_as_it_is(small_file):
    trainer, _ = trainer_of(small_file, "concat", normalise=False)
    layer = trainer.model.shared["all"].layers[0]
    with torch.no_grad():
        layer.weight[3], layer.bias[3] = 0.0, 0.25
    initialise.fit_shared_layers(trainer.model, trainer.task.source_train.clips, 5, CPU)
    assert not layer.weight[3].any() and float(layer.bias[3].detach()) == 0.25 and layer.weight[2].any()


def test_no_clip_of_the_target_is_read(small_file, monkeypatch):
    trainer, _ = trainer_of(small_file, "concat")
    read, batch = [], type(trainer.task.target_train).batch
    monkeypatch.setattr(type(trainer.task.target_train), "batch", lambda self, *a: read.append(self) or batch(self, *a))
    initialise.fit_shared_layers(trainer.model, trainer.task.source_train.clips, 5, CPU)
    assert read and all(clips is trainer.task.source_train.clips for clips in read)


def test_trains_and_goes_on(small_file, tmp_path):
    trained_and_resumed(small_file, "cia", tmp_path, initialise="data", warm_up=0.5, normalise=False)


def test_without_a_shared_layer_there_is_nothing_to_fit(small_file):
    trainer_of(small_file, "concat", initialise="data", shared_features=0)[0].epoch()
