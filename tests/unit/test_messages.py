"""Values cross the detector's socket unchanged, and lies from the other side are refused."""

import numpy as np
import pytest

from osdetectord import messages
from osdetectord.anomaly import Blame, Episode, EpisodeKind, Phase
from osdetectord.errors import WireError
from osdetectord.metric import Kind, Metric
from osdetectord.sample import Frame
from osdetectord.verdict import EvidenceState, Verdict
from osdetectord.wire import Decoder, encode

METRICS = (Metric("cpu.on_cpu", "s", Kind.COUNTER, "on a CPU"), Metric("memory.rss", "bytes", Kind.GAUGE))
PARTS = (Metric("function.calls", "calls", Kind.COUNTER),)
GROUPS = {"": METRICS, "functions": PARTS}


def over_the_wire(data):
    (message,) = Decoder().feed(data)
    return message


def verdict(**changes):
    values = {
        "series": np.array([11, 13], np.uint64),
        "score": np.array([0.0, 9.1]),
        "p_value": np.array([1.0, 3e-6]),
        "progress": np.array([0.5, 1.0]),
        "alarm": np.array([False, True]),
        "low": np.array([[np.nan, np.nan], [0.1, 118.0]]),
        "high": np.array([[np.nan, np.nan], [0.2, 131.0]]),
        "episodes": (
            Episode(
                2, 13, Phase.OPENED, EpisodeKind.ANOMALY, 5, 7, 9.1, 3e-6, ("memory",),
                (Blame("memory.rss", 0.81, 212.0, 118.0, 131.0, 4),), 1,
            ),
        ),
    }  # fmt: skip
    return Verdict(**{**values, **changes})


def test_start_comes_back_as_it_was():
    got = messages.read_start(over_the_wire(messages.start(GROUPS, 0.5, {"budget": 2})))
    assert got == (GROUPS, 0.5, {"budget": 2})


def test_a_frame_comes_back_as_it_was():
    frame = Frame(17, 1.01, np.array([1, 2, 3], np.uint64), METRICS, np.array([[1, 2], [np.nan, 4], [5, 6.5]]))
    group, got = messages.read_frame(over_the_wire(messages.frame(frame)), GROUPS)
    assert group == ""
    assert (got.time_ns, got.interval_s, got.metrics) == (17, 1.01, METRICS)
    np.testing.assert_array_equal(got.series, frame.series)
    np.testing.assert_array_equal(got.values, frame.values)


def test_a_verdict_comes_back_as_it_was():
    sent = verdict()
    group, got = messages.read_verdict(over_the_wire(messages.verdict(sent)), GROUPS)
    assert group == ""
    assert got.episodes == sent.episodes
    for name in ("series", "score", "p_value", "progress", "alarm", "low", "high"):
        np.testing.assert_array_equal(getattr(got, name), getattr(sent, name))


def test_small_messages_come_back_as_they_were():
    evidences = (EvidenceState("lstm", "absent", "no torch"),)
    assert messages.read_ready(over_the_wire(messages.ready(evidences))) == evidences
    assert messages.read_add(over_the_wire(messages.add(7, "redis"))) == (7, "redis", "")
    assert messages.read_add(over_the_wire(messages.add(7, "redis", "functions"))) == (7, "redis", "functions")
    assert messages.read_remove(over_the_wire(messages.remove(7))) == 7
    for word in (False, True, None):
        assert messages.read_mark(over_the_wire(messages.mark(3, word))) == (3, word)
    assert messages.read_cost(over_the_wire(messages.cost(997, 1.5))) == (997, 1.5)
    assert messages.read_refused(over_the_wire(messages.refused("no"))) == "no"


@pytest.mark.parametrize(
    "changes",
    [
        {"score": np.array([0.0, np.inf])},
        {"score": np.array([0.0, -1.0])},
        {"p_value": np.array([1.0, 1.5])},
        {"progress": np.array([0.5, -0.5])},
    ],
)
def test_a_verdict_out_of_its_ranges_is_refused(changes):
    with pytest.raises(WireError):
        messages.read_verdict(over_the_wire(messages.verdict(verdict(**changes))), GROUPS)


def test_a_verdict_on_an_unknown_metric_is_refused():
    message = over_the_wire(messages.verdict(verdict()))
    message.fields["episodes"][0]["blames"][0]["metric"] = "nonsense"
    with pytest.raises(WireError, match="nonsense"):
        messages.read_verdict(message, GROUPS)


@pytest.mark.parametrize("fields", [{}, {"series": 7}, {"series": [-1]}, {"series": [True]}, {"series": ["x"]}])
def test_a_frame_without_honest_series_is_refused(fields):
    with pytest.raises(WireError):
        messages.read_frame(over_the_wire(encode("frame", {"group": "", **fields})), GROUPS)


def test_another_protocol_is_refused_by_its_number():
    with pytest.raises(WireError, match="protocol 99"):
        messages.read_start(over_the_wire(encode("start", {"protocol": 99})))


def test_a_frame_and_a_verdict_of_a_part_have_its_group_and_its_columns():
    sent = Frame(17, 1.0, np.array([1 << 40], np.uint64), PARTS, np.array([[101.0]]))
    group, got = messages.read_frame(over_the_wire(messages.frame(sent, "functions")), GROUPS)
    assert (group, got.metrics, got.values.tolist()) == ("functions", PARTS, [[101.0]])
    one = {name: np.array([value]) for name, value in (("score", 2.0), ("p_value", 0.5), ("progress", 1.0))}
    bands = {"low": np.array([[7.0]]), "high": np.array([[11.0]])}
    changes = {"series": sent.series, "alarm": np.array([True]), "episodes": (), **one, **bands}
    group, back = messages.read_verdict(over_the_wire(messages.verdict(verdict(**changes), "functions")), GROUPS)
    assert (group, back.low.tolist(), back.alarm.tolist()) == ("functions", [[7.0]], [True])


def test_a_group_that_was_not_told_is_refused():
    message = over_the_wire(messages.frame(Frame(1, 1.0, np.array([1], np.uint64), PARTS, np.ones((1, 1))), "others"))
    with pytest.raises(WireError, match="frame of an unknown group 'others'"):
        messages.read_frame(message, GROUPS)
    with pytest.raises(WireError, match="no metrics of processes"):
        messages.read_start(over_the_wire(messages.start({"functions": PARTS}, 1.0, {})))
