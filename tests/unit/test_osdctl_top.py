"""``osdctl top`` goes on when the daemon goes, and asks for details only where they are to be shown."""

from __future__ import annotations

import argparse
import asyncio

import pytest

from osdctl import board
from osdctl.commands import top
from osdctl.errors import NoSuch, NotRunning
from osdctl.inside import Thread
from osdctl.model import Anomaly, Process, Target
from osdctl.text import Look

TARGET = Target(
    1, "comm:p", "anomalous", 1, True, True, 0, 2.0, 1.0, (Process(42, 1, "worker", "normal", 0.1, 1.0),),
    {"memory.rss": 1.0},
)  # fmt: skip
ANOMALY = Anomaly(7, 1, "comm:p", 42, "worker", "open", "anomaly", 1, 0, 9.1, 3e-6, (), (), "worker[42]: x", 0, "")


class Manager:
    """A daemon that answers, or fails with what is set."""

    def __init__(self):
        self.asked, self.fails = [], None

    async def series(self, path, names, since_us, points):
        return self._answer("series", {})

    async def threads(self, target, seconds, limit):
        return self._answer("threads", [Thread(pid, 43, "io", "R", 0.5, 1.0, 2, 3) for pid in (42, 47)])

    async def anomaly(self, number):
        return self._answer("anomaly", ANOMALY)

    def _answer(self, what, answer):
        self.asked.append(what)
        if self.fails is not None:
            raise self.fails
        return answer


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(top.output, "write", lambda _text: None)
    out = board.Board(targets=[TARGET], anomalies=[ANOMALY])
    out.selected = ("target", 1, 1)
    return out


def press(shown, manager, keys):
    """Press these keys and q; a frame is never due."""

    async def play():
        queue = asyncio.Queue()
        for key in (*keys, "q"):
            queue.put_nowait(key)
        await top._live(argparse.Namespace(frames=None, delay=3600, look=Look()), manager, shown, queue)

    asyncio.run(play())


def test_details_are_asked_for_when_something_is_opened_and_not_with_every_key(shown):
    manager = Manager()
    press(shown, manager, ["\r"])
    assert manager.asked == ["series"]
    press(shown, manager, ["j", "k", "s", "?", "x"])
    assert manager.asked == ["series"]


def test_the_threads_of_an_open_process_are_those_that_the_daemon_tells(shown):
    manager = Manager()
    press(shown, manager, ["\r", "j", "j", "\r"])
    assert manager.asked == ["series", "series", "threads"]
    assert {pid: [thread.comm for thread in threads] for pid, threads in shown.threads.items()} == {42: ["io"]}


def test_a_process_of_which_the_daemon_tells_no_thread_is_shown_as_one(shown):
    manager = Manager()
    manager.fails = NoSuch("no target 1")
    press(shown, manager, ["\r", "j", "j", "\r"])
    assert "its threads can't be seen" in board.frame(shown, Look())


@pytest.mark.parametrize(
    "error, note",
    [(NotRunning("no bus", "start it"), "the daemon is not running"), (NoSuch("no anomaly 7"), "no anomaly 7")],
)
@pytest.mark.parametrize("selected, key", [(("target", 1, 1), "e"), (("anomaly", 1, 7), "\r")])
def test_an_explanation_that_cannot_be_had_is_noted_and_top_goes_on(shown, error, note, selected, key):
    manager = Manager()
    manager.fails = error
    shown.opened = {("target", 1, 1)}
    shown.selected = selected
    press(shown, manager, [key])
    assert manager.asked and shown.note == note


def test_a_daemon_that_is_away_when_a_target_is_opened_is_noted(shown):
    manager = Manager()
    manager.fails = NotRunning("no bus", "start it")
    press(shown, manager, ["\r", "s"])
    assert manager.asked == ["series"] and shown.note == "the daemon is not running"
