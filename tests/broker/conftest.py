"""A server for messages of the past, and a stream on it for a test."""

import pytest
from support.planted import Field, planting


@pytest.fixture(scope="session")
def planter():
    with planting() as server:
        yield server


@pytest.fixture
def field(planter, monkeypatch):
    return Field(planter, monkeypatch)
