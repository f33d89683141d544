"""Each episode becomes one anomaly, told once when it begins and once when it ends."""

import asyncio
import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from osdetectord import wall
from osdetectord.anomalies import Anomalies
from osdetectord.anomaly import Blame, Episode, EpisodeKind, Phase
from osdetectord.errors import NoSuchTarget
from osdetectord.history import History
from osdetectord.history_file import HistoryFile
from osdetectord.process import Process
from osdetectord.record import ANOMALY_CLOSED, ANOMALY_OPENED, NEW_NORMAL
from osdetectord.target import parse_spec
from osdetectord.watching import Member, Target

UNITS = {"memory.rss": "bytes"}
EPISODE = Episode(
    4, 30, Phase.OPENED, EpisodeKind.ANOMALY, 10**9, 2 * 10**9, 2.0, 1e-4, ("level",),
    (Blame("memory.rss", 1.0, 3e6, 1e6, 2e6, 10**9),),
)  # fmt: skip


class Heard:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda view: self.calls.append((name, view.number, view.state))


class Gathered:
    """Stands for what evidence is gathered; each look tells one row more."""

    def __init__(self):
        self.open = {}

    def begin(self, view, series, expected):
        self.open[view.number] = [997]
        return {"rows": [997], "series": series, "expected": expected}

    async def look(self, numbers):
        for number in numbers:
            if number in self.open:
                self.open[number].append(1009)

    def refreshed(self, number, old):
        if number in self.open:
            return {**old, "rows": self.open[number]}
        return old

    def end(self, number):
        self.open.pop(number, None)


@pytest.fixture
def all_of_it():
    records, heard, history = [], Heard(), History(HistoryFile(None), ["memory.rss"])
    target = Target(7, parse_spec("42"), 0, True, True)
    member = Member(30, Process(42, 1), "redis", "program", 0.0)
    anomalies = Anomalies(history, UNITS, records.append, heard, Gathered())

    def say(**changes):
        anomalies.heard(replace(EPISODE, **changes), member, target, None)

    return anomalies, say, records, heard, history, target


def test_an_episode_is_told_when_it_opens_and_when_it_closes_and_not_between(all_of_it):
    anomalies, say, records, heard, history, _ = all_of_it
    say()
    say(phase=Phase.UPDATED, score=5.0)
    assert [view.score for view in anomalies.open_views()] == [5.0]
    say(phase=Phase.CLOSED, score=5.0)
    assert [entry.fields["MESSAGE_ID"] for entry in records] == [ANOMALY_OPENED, ANOMALY_CLOSED]
    assert heard.calls == [
        ("anomaly_opened", 1, "open"),
        ("anomaly_updated", 1, "open"),
        ("anomaly_closed", 1, "closed"),
    ]
    view = anomalies.get(1)
    assert (view.state, view.score, view.spec, view.pid, view.comm) == ("closed", 5.0, "pid:42", 42, "redis")
    asyncio.run(anomalies.complete())
    assert json.loads(history.evidence(1))["rows"] == [997, 1009]


def test_the_evidence_of_an_open_anomaly_is_what_is_known_now_and_of_a_closed_one_what_was_known_at_its_end(all_of_it):
    anomalies, say, _, _, _, _ = all_of_it
    say()
    assert json.loads(asyncio.run(anomalies.evidence(1)))["rows"] == [997, 1009]
    assert json.loads(asyncio.run(anomalies.evidence(1)))["rows"] == [997, 1009, 1009]
    say(phase=Phase.CLOSED)
    asyncio.run(anomalies.complete())
    for _ in range(2):
        found = json.loads(asyncio.run(anomalies.evidence(1)))
        assert (found["rows"], found["series"], found["anomaly"]["state"]) == ([997] + [1009] * 3, 30, "closed")


def test_an_anomaly_ends_with_its_process_and_with_its_detector(all_of_it):
    anomalies, say, records, _, _, _ = all_of_it
    say()
    anomalies.ended(31, "process ended")
    assert len(anomalies.open_views()) == 1
    anomalies.ended(30, "process ended")
    say(number=5)
    anomalies.detector_lost("detector lost")
    assert anomalies.open_views() == []
    assert "process ended after" in records[1].message and "detector lost after" in records[3].message
    assert [anomalies.get(number).state for number in (1, 2)] == ["closed", "closed"]


def test_a_new_normal_is_one_record_and_nothing_stays_open(all_of_it):
    anomalies, say, records, _, _, _ = all_of_it
    say(kind=EpisodeKind.NEW_NORMAL)
    assert [entry.fields["MESSAGE_ID"] for entry in records] == [NEW_NORMAL]
    assert anomalies.open_views() == [] and anomalies.get(1).state == "closed"


def test_a_muted_target_is_recorded_and_not_told(all_of_it):
    anomalies, say, records, heard, _, target = all_of_it
    target.muted_until_us = wall.now_us() + 60_000_000
    say()
    assert records == [] and heard.calls == [] and anomalies.get(1).state == "open"
    say(phase=Phase.UPDATED)
    target.muted_until_us = 0
    say(phase=Phase.CLOSED)
    assert records == [] and heard.calls == [] and anomalies.get(1).state == "closed"
    say()
    assert len(records) == 1 and anomalies.get(2).state == "open"


def test_the_users_word_is_kept_and_reaches_the_detector_by_its_own_number(all_of_it):
    anomalies, say, _, _, _, _ = all_of_it
    say(number=99)
    assert anomalies.judge(1, False) == 99 and anomalies.get(1).useful == "no"
    say(number=99, phase=Phase.UPDATED)
    assert anomalies.get(1).useful == "no"
    anomalies.detector_lost("detector lost")
    assert anomalies.judge(1, True) is None and anomalies.get(1).useful == "yes"
    anomalies.judge(1, None)
    assert anomalies.get(1).useful == ""
    with pytest.raises(NoSuchTarget, match="no anomaly 5"):
        anomalies.judge(5, True)


def test_numbers_go_on_where_the_history_ends(all_of_it):
    _, say, records, heard, history, _ = all_of_it
    say()
    again = Anomalies(history, UNITS, records.append, heard, Gathered())
    member = Member(31, Process(43, 1), "redis", "program", 0.0)
    again.heard(replace(EPISODE, series=31), member, Target(8, parse_spec("43"), 0, True, True), None)
    assert again.get(2).target == 8


def test_an_anomaly_is_told_though_its_evidence_can_neither_be_gathered_nor_read(all_of_it, monkeypatch):
    anomalies, say, records, heard, history, _ = all_of_it

    def broken(*_):
        raise OSError("it broke")

    monkeypatch.setattr(Gathered, "begin", broken)
    monkeypatch.setattr(Gathered, "look", broken)
    monkeypatch.setattr(history, "evidence", broken)
    with capture_logs() as logs:
        say()
        asyncio.run(anomalies.complete())
        assert asyncio.run(anomalies.evidence(1)) == b""
        anomalies.ended(30, "process ended")
        asyncio.run(anomalies.complete())
    assert [entry.fields["MESSAGE_ID"] for entry in records] == [ANOMALY_OPENED, ANOMALY_CLOSED]
    assert [name for name, _, _ in heard.calls] == ["anomaly_opened", "anomaly_closed"]
    assert [entry["log_level"] for entry in logs] == ["error"] * 7 and anomalies.get(1).state == "closed"
