import pytest
import torch
from cia_adapt.experiments import runner, sweep
from cia_adapt.training import Trainer

from tests.adapt.runs.test_resume import request


@pytest.mark.parametrize(("method", "expected"), [("concat", 1), ("avg", 1), ("cia", 2)])
@pytest.mark.parametrize("swept", [False, True])
def test_vectors_train_on_one_thread_and_maps_on_all_alone_and_in_a_sweep(
    small_file, tmp_path, monkeypatch, method, expected, swept
):
    real, used, before = Trainer.epoch, [], torch.get_num_threads()
    monkeypatch.setattr(Trainer, "epoch", lambda self: used.append(torch.get_num_threads()) or real(self))
    torch.set_num_threads(2)
    try:
        asked = request(small_file, tmp_path, method, epochs=1)
        sweep.run([asked], 1, None, print) if swept else runner.run(asked, print)
        assert torch.get_num_threads() == 2, "they are put back"
    finally:
        torch.set_num_threads(before)
    assert used == [expected]
