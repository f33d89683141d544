"""A follower outlives the daemon where the bus does, and says one thing where both go."""

from __future__ import annotations

import asyncio

import pytest

from osdctl import following
from osdctl.errors import NotRunning
from osdctl.manager import Event


async def told(*steps):
    """Tell events; a number waits so long, an error ends it."""
    for step in steps:
        if isinstance(step, float):
            await asyncio.sleep(step)
        elif isinstance(step, Exception):
            raise step
        else:
            yield Event(step)


async def heard(*steps):
    kinds = []
    try:
        async for event in following.steadily(told(*steps)):
            kinds.append(event.kind)
    except NotRunning as error:
        kinds.append(str(error))
    return kinds


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(following, "GRACE_S", 0.5)


def test_a_daemon_that_comes_back_is_waited_for():
    assert asyncio.run(heard("opened", "stopped", "started", "closed")) == ["opened", "stopped", "started", "closed"]


def test_a_stop_is_said_though_nothing_follows(monkeypatch):
    monkeypatch.setattr(following, "GRACE_S", 0.05)
    assert asyncio.run(heard("stopped", 0.5, "started")) == ["stopped", "started"]


def test_a_bus_that_goes_with_its_daemon_is_one_end_and_nothing_to_wait_for():
    assert asyncio.run(heard("opened", "stopped", NotRunning("the connection was lost", "start it"))) == [
        "opened",
        "the daemon stopped, and its message bus with it; start it",
    ]


def test_a_bus_that_goes_alone_is_an_end_too():
    assert asyncio.run(heard("opened", NotRunning("the connection was lost"))) == ["opened", "the connection was lost"]
