"""Play scenarios before a running daemon: learn what is normal, let each fault happen, see what is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .scenario import Scenario, Server

Anomaly = dict[str, Any]

LEARN_S = 200.0
TELL_S = 60.0
CLOSE_S = 150.0
HOLD_S = 5.0
"""A fault that was told goes on for so long."""
EARLY_US = 2_000_000
"""The interval in which a fault begins began before it."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one fault.

    Parameters
    ----------
    opened, latest
        The anomaly when its explanation was first seen and when it was last seen, as ``osdctl --json anomalies``
        shows it.
    after_s
        Seconds from the beginning of the fault until then.
    """

    opened: Anomaly
    latest: Anomaly
    after_s: float

    @property
    def metrics(self) -> list[str]:
        """The metrics that were blamed when it was told, most to blame first."""
        return blamed(self.opened)

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return bool(self.latest["closed_us"])


def blamed(anomaly: Anomaly) -> list[str]:
    """Return the metrics of an anomaly, most to blame first."""
    return [str(blame["metric"]) for blame in anomaly["metrics"]]


class Player:
    """Plays scenarios.

    Parameters
    ----------
    osdctl
        Runs it with these words and returns what it wrote; raises where it fails.
    say
        Takes a sentence about what happens.
    """

    def __init__(self, osdctl: Callable[..., str], say: Callable[[str], None]) -> None:
        self._osdctl, self._say = osdctl, say

    @contextmanager
    def watched(self, scenarios: Iterable[Scenario], directory: Path) -> Iterator[dict[str, Server]]:
        """Run the servers of the scenarios, watched and learnt, until the end of the block."""
        with ExitStack() as stack:
            servers = {}
            for scenario in scenarios:
                place = directory / scenario.name
                place.mkdir()
                server = servers[scenario.name] = stack.enter_context(scenario.serve(place))
                self._say(f"{scenario.normal}: osdctl watch {server.pid}")
                self._osdctl("--quiet", "watch", "--runtime", server.target)
                stack.callback(self._osdctl, "--quiet", "unwatch", server.target)
            self._say("learning what is normal")
            for server in servers.values():
                self._learn(server)
            yield servers

    def play(self, scenario: Scenario, server: Server) -> Told | None:
        """Let the fault happen until it is told, and a little longer; returns None if it is not told.

        What else the server does at that moment may be told first, so that an explanation may need to be corrected.
        """
        self._say(f"{scenario.name}, pid {server.pid}: {scenario.fault}")
        began_s, since_us = time.monotonic(), time.time_ns() // 1000 - EARLY_US

        def new(anomaly: Anomaly) -> bool:
            return bool(anomaly["opened_us"] >= since_us)

        def explained(anomaly: Anomaly) -> bool:
            return new(anomaly) and scenario.explained_by(blamed(anomaly))

        with scenario.provoke(server):
            opened = self._wait(server, TELL_S, explained) or self._wait(server, 0.0, new)
            after_s = time.monotonic() - began_s
            if opened is None:
                self._say(f"NOT TOLD within {TELL_S:g} s")
                return None
            self._say(f"told after {after_s:.1f} s, as anomaly {opened['id']}")
            time.sleep(HOLD_S)
            latest = self._wait(server, TELL_S, lambda anomaly: bool(anomaly["id"] == opened["id"]))
        self._say("the fault is over")
        return Told(opened, latest or opened, after_s)

    def wait_for_end(self, server: Server, told: Told) -> Told:
        """Return when the anomaly is closed, or has not been for long."""
        number = told.opened["id"]
        closed = self._wait(server, CLOSE_S, lambda anomaly: anomaly["id"] == number and bool(anomaly["closed_us"]))
        if closed is None:
            self._say(f"anomaly {number} is NOT CLOSED after {CLOSE_S:g} s")
        return Told(told.opened, closed or told.latest, told.after_s)

    def _learn(self, server: Server) -> None:
        end = time.monotonic() + LEARN_S
        while self._ask("show", server.target)["state"] in ("learning", "waiting"):
            if time.monotonic() > end:
                raise SystemExit(f"demonstration: still learning after {LEARN_S:g} s")
            time.sleep(1)

    def _wait(self, server: Server, timeout_s: float, wanted: Callable[[Anomaly], bool]) -> Anomaly | None:
        end = time.monotonic() + timeout_s
        while True:
            for anomaly in reversed(self._ask("anomalies", "--target", server.target)):
                if wanted(anomaly):
                    return dict(anomaly)
            if time.monotonic() >= end:
                return None
            time.sleep(0.3)

    def _ask(self, *words: str) -> Any:
        return json.loads(self._osdctl("--json=pretty", *words))
