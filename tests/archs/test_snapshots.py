"""No change of the code changes what a network of given weights returns."""

import numpy as np
import pytest
from basicsr.utils.registry import ARCH_REGISTRY
from snapshots import NETWORKS, RECORD, output_of


@pytest.mark.parametrize("name", NETWORKS)
def test_the_output_is_the_recorded_one(name):
    if name == "spandrel":
        pytest.importorskip("spandrel")
    recorded = np.load(RECORD)[name]
    output = output_of(name)
    assert output.shape == recorded.shape
    # Processors add up float32 in orders of their own.
    np.testing.assert_allclose(output, recorded, rtol=0, atol=1e-4 * np.abs(recorded).max())


def test_every_network_of_the_plugin_is_recorded():
    ours = {name for name, network in ARCH_REGISTRY if network.__module__.startswith("macr_plugin.")}
    assert {registered for registered, _ in NETWORKS.values()} == ours
    assert set(np.load(RECORD)) == set(NETWORKS)
