"""The peak that steps are compared with."""

import pytest
import torch
from cia_adapt.experiments import bench


@pytest.mark.parametrize(("per_flop_s", "size"), [(1e-12, 2048), (1e-10, 1024), (1e-9, 512), (1e-6, 256)])
def test_the_peak_is_of_the_largest_product_that_takes_no_second(monkeypatch, per_flop_s, size):
    """A processor without bf16 needs most of a minute for a product of 2048."""

    def timed(action, device):
        return 2 * action().shape[0] ** 3 * per_flop_s

    monkeypatch.setattr(bench, "timed", timed)
    gflops, of = bench.peak_gflops(torch.device("cpu"), "fp32")
    assert of == size and gflops == pytest.approx(1e-9 / per_flop_s)
