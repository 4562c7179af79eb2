"""Trainings that start within a second or two."""

import pytest
from trainings import Starter, Training


@pytest.fixture(scope="module")
def starter():
    """Imports torch once for all trainings of a module."""
    with Starter() as starter:
        yield starter


@pytest.fixture
def train(starter, tmp_path):
    """Make a tiny training in a folder of its own."""

    def train(name="training", **options):
        return Training(starter, tmp_path / name, **options)

    return train
