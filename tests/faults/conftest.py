"""Trainings that start within a second or two."""

import pytest
from trainings import Training


@pytest.fixture
def train(starter, tmp_path):
    """Make a tiny training in a folder of its own."""

    def train(name="training", **options):
        return Training(starter, tmp_path / name, **options)

    return train
