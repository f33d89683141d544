"""Fixtures: a private bus, and the server on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_core import FakeCore
from private_bus import PrivateBus, Served


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with PrivateBus() as bus:
        yield bus


@pytest.fixture
def core() -> FakeCore:
    return FakeCore()


@pytest.fixture
def served(bus: PrivateBus, core: FakeCore) -> Iterator[Served]:
    with Served(core, bus.address) as served:
        served.run(served.server.start())
        yield served
