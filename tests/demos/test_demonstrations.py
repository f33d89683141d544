"""Real servers of Debian go wrong for real: each fault is told, explained by the right metric, and closed when over.

The four are played one after another before one daemon, which watches all of the servers from the beginning.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from embedded import daemon  # noqa: E402

from bench.demos.play import Player, Told  # noqa: E402
from bench.demos.registry import SCENARIOS  # noqa: E402

# whichever test comes first waits for all of them
pytestmark = [pytest.mark.timeout(600), pytest.mark.parametrize("name", SCENARIOS)]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """Return what was told of each fault; one that was not told is missing."""
    with daemon(detection={"warmup_s": 60}) as running:
        player = Player(running.osdctl, print)
        with player.watched(SCENARIOS.values(), tmp_path_factory.mktemp("demos")) as servers:
            told = {name: player.play(scenario, servers[name]) for name, scenario in SCENARIOS.items()}
            return {name: player.wait_for_end(servers[name], one) for name, one in told.items() if one is not None}


def test_the_fault_is_told(played: dict[str, Told], name: str) -> None:
    assert name in played


def test_the_fault_is_explained_by_the_right_metric_first(played: dict[str, Told], name: str) -> None:
    told = played[name]
    assert SCENARIOS[name].explained_by(told.metrics), told.opened["message"]


def test_the_anomaly_ends_after_the_fault(played: dict[str, Told], name: str) -> None:
    latest = played[name].latest
    assert latest["closed_us"] > latest["opened_us"]
