"""An anomaly is told in a sentence that a person understands, with the fields that the journal promises."""

import time
from dataclasses import replace

from osdetectord import record
from osdetectord.core import AnomalyView, BlameView
from osdetectord.quantity import quantity, span

MIB = 1 << 20
ONSET_US = int(time.mktime((2026, 11, 22, 14, 2, 11, 0, 0, -1))) * 1_000_000
LEAK = AnomalyView(
    number=17,
    target=2,
    spec="unit:redis-server.service",
    pid=1234,
    comm="redis-server",
    state="open",
    kind="anomaly",
    opened_us=ONSET_US + 2_000_000,
    closed_us=0,
    score=9.1,
    p_value=3e-6,
    detectors=("level", "memory"),
    blames=(
        BlameView("memory.rss", "bytes", 0.81, 212 * MIB, 118 * MIB, 131 * MIB, ONSET_US),
        BlameView("memory.minor_faults", "faults/s", 0.15, 5000, 0, 11, ONSET_US),
    ),
    message="",
)


def test_the_sentence_names_process_metric_observed_expected_and_since():
    assert record.sentence(LEAK) == (
        "redis-server[1234]: memory.rss 212 MiB, expected 118-131 MiB since 14:02:11 (score 9.1, p 3e-06)"
    )


def test_a_second_metric_is_told_when_it_matters_too():
    both = replace(LEAK, blames=(LEAK.blames[0], replace(LEAK.blames[1], share=0.4)), recurrence=2)
    told = "; also memory.minor_faults 5 k faults/s (expected 0-11 faults/s); seen 2 times before ("
    assert told in record.sentence(both)


def test_metrics_within_their_ranges_are_an_unusual_combination_and_what_left_its_range_is_named_first():
    calm = BlameView("syscalls.open_time", "s/s", 0.9, 0.000862, 0.000716, 0.00162, ONSET_US)
    also_calm = replace(calm, metric="syscalls.read_time", share=0.5)
    assert record.sentence(replace(LEAK, blames=(calm, also_calm))) == (
        "redis-server[1234]: unusual combination: syscalls.open_time 0.0862 % (within 0.0716-0.162 %), "
        "syscalls.read_time 0.0862 % (within 0.0716-0.162 %) since 14:02:11 (score 9.1, p 3e-06)"
    )
    mixed = replace(LEAK, blames=(calm, LEAK.blames[0]))
    assert "redis-server[1234]: memory.rss 212 MiB, expected 118-131 MiB since" in record.sentence(mixed)
    assert "; also syscalls.open_time 0.0862 % (within 0.0716-0.162 %) (" in record.sentence(mixed)
    assert record.opened(mixed).fields["OSDETECTOR_OBSERVED"] == "212 MiB"


def test_an_anomaly_without_metrics_is_still_a_sentence():
    assert "behaves abnormally since" in record.sentence(replace(LEAK, blames=()))


def test_the_opening_record_has_every_promised_field():
    entry = record.opened(replace(LEAK, message="said"))
    assert (entry.message, entry.priority) == ("said", 4)
    assert entry.fields["MESSAGE_ID"] == record.ANOMALY_OPENED
    assert entry.fields["OBJECT_PID"] == 1234
    promised = "ANOMALY_ID TARGET PROCESS METRICS SCORE P_VALUE DETECTORS OBSERVED EXPECTED SINCE EVIDENCE"
    assert all(entry.fields[f"OSDETECTOR_{name}"] for name in promised.split())
    assert entry.fields["OSDETECTOR_METRICS"] == "memory.rss=0.81 memory.minor_faults=0.15"


def test_the_closing_record_says_how_long_it_was():
    entry = record.closed(replace(LEAK, state="closed", closed_us=LEAK.opened_us + 61_000_000))
    assert (entry.message, entry.priority) == ("redis-server[1234]: normal again after 61 s (peak score 9.1)", 5)


def test_an_exit_says_how():
    assert record.exited("pid:7", "sh", 7, 3, 0, False).message == "sh[7] of pid:7 ended with status 3"
    killed = record.exited("pid:7", "sh", 7, 0, 11, True)
    assert killed.message == "sh[7] of pid:7 killed by signal 11 (core dumped)" and killed.priority == 4


def test_quantities_are_told_as_people_read_them():
    told = {
        (0.997, "s/s"): "99.7 %", (1.5e-3, "s"): "1.5 ms", (0, "s"): "0 s", (12345, "calls/s"): "12.3 k calls/s",
        (17, "threads"): "17 threads", (1536, "bytes/s"): "1.5 KiB/s", (float("nan"), "s"): "unknown",
        (-2048, "bytes"): "-2 KiB", (1e-9, "calls/s"): "0 calls/s",
    }  # fmt: skip
    assert {key: quantity(*key) for key in told} == told
    assert span(0, 131 * MIB, "bytes") == "0 B to 131 MiB"
    assert span(1, 1, "threads") == "1 threads"
