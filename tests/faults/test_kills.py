"""Ten kills of each setting; ``python tests/faults/kills.py --kills 100`` is the whole campaign."""

import pytest
from kills import SETTINGS, campaign

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("workers", "ranks"), SETTINGS)
def test_ten_kills_change_nothing(starter, tmp_path, workers, ranks):
    assert campaign(starter, tmp_path, workers, ranks, kills=10, seed=workers + ranks) == []
