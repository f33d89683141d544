"""What was lost is counted once a second, however often it is asked for."""

from __future__ import annotations

from osdetectord import losses
from osdetectord.losses import Losses


def test_sources_are_asked_at_most_once_a_second_and_their_growth_is_told(monkeypatch):
    now, asked = [1000.0], []
    monkeypatch.setattr(losses.time, "monotonic", lambda: now[0])

    def source():
        asked.append(now[0])
        return {"ring": 7 * len(asked)}

    all_ = Losses(source, lambda: {"bus": 0})
    assert [all_.counts() for _ in range(3)] == [{"ring": 7, "bus": 0}] * 3
    now[0] += 0.5
    assert all_.counts() == {"ring": 7, "bus": 0} and asked == [1000.0]
    now[0] += 0.5
    assert all_.counts() == {"ring": 14, "bus": 0} and len(asked) == 2
    news = all_.news()
    assert news is not None and news.message == "lost: 14 x ring"
