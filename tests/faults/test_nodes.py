"""A node of a Ray cluster dies midway: its rows are done by those that are left, and the command ends by itself."""

import numpy as np
import pytest
from cia_extract import features
from cia_extract.common import switches

from tests.faults.jobs import CLIPS, assert_same, extraction, finished_rows

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="the extra [ray] is not installed")


@pytest.mark.slow
def test_a_node_that_dies_midway_costs_no_row_and_nothing_waits_for_it(root, whole, launcher, tmp_path):
    """Two nodes of one core each, an actor on each. Nobody can take the dead node's place."""
    switches.ray_environment()
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1)
        out = tmp_path / "here" / "f.h5"
        out.parent.mkdir()
        driver = launcher.start(*extraction(root, out), "--ray", cluster.address)
        assert driver.until(lambda: finished_rows(out, whole[0]), within_s=300), driver.told
        before = finished_rows(out, whole[0])
        assert len(before) < 2 * CLIPS, "it was over before the node died"
        cluster.remove_node(second, allow_graceful=False)
        assert driver.wait(within_s=300) == 0, driver.told
    finally:
        cluster.shutdown()
    assert "ray: 2 CPU actors on 2 nodes" in driver.told
    assert finished_rows(out, whole[0]) >= before
    assert_same(out, whole[0])
    assert np.all(features.open_features(out)["d"].array("status") == features.DONE)
