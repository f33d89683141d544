"""Times as journalctl reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from osdctl.errors import UsageError
from osdctl.when import instant_us, span_us

NOW = datetime(2026, 11, 22, 20, 35, 16, 17, tzinfo=UTC).astimezone()
SECOND = 1_000_000


def us(when: datetime) -> int:
    return round(when.timestamp() * SECOND)


def local(*parts: int) -> int:
    return us(datetime(*parts).astimezone())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("-1h", -3600), ("+5min", 300), ("5min ago", -300), ("-1h30min", -5400), ("1h 30min ago", -5400), ("-90", -90)],
)
def test_relative_times_count_from_now(text, seconds):
    assert instant_us(text, NOW) == us(NOW + timedelta(seconds=seconds))


def test_now_is_now():
    assert instant_us("now", NOW) == us(NOW)


def test_days_begin_at_local_midnight():
    assert instant_us("today", NOW) == local(NOW.year, NOW.month, NOW.day)
    before = NOW - timedelta(days=1)
    assert instant_us("yesterday", NOW) == local(before.year, before.month, before.day)
    assert instant_us("yesterday 14:07", NOW) == local(before.year, before.month, before.day, 14, 7)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("2026-11-21", (2026, 11, 21)),
        ("2026-11-21 14:00", (2026, 11, 21, 14)),
        ("2026-11-21 14:02:11", (2026, 11, 21, 14, 2, 11)),
        ("2026-11-21T14:02:11", (2026, 11, 21, 14, 2, 11)),
        ("2026-11-21 14:02:11.5", (2026, 11, 21, 14, 2, 11, 500_000)),
        ("2024-02-29", (2024, 2, 29)),
    ],
)
def test_dates_and_times_are_local(text, parts):
    assert instant_us(text, NOW) == local(*parts)


def test_a_time_alone_is_of_today():
    assert instant_us("13:37", NOW) == local(NOW.year, NOW.month, NOW.day, 13, 37)


@pytest.mark.parametrize("text", ["2026-11-21 14:02:11 UTC", "2026-11-21T14:02:11Z"])
def test_utc_is_taken_as_such(text):
    assert instant_us(text, NOW) == us(datetime(2026, 11, 21, 14, 2, 11, tzinfo=UTC))


def test_an_epoch_is_seconds_since_1970():
    assert instant_us("@1795356131.5", NOW) == 1_795_356_131_500_000


@pytest.mark.parametrize(
    "text",
    ["", " ", "xx", "2026-13-01", "2026-02-30", "25:00", "12:60", "@x", "@nan", "@1e99", "-", "-1q",
     "2026-11-2114:00", "-99999999y", "1200-01-01", "today tomorrow", "\x1b[2J"],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(UsageError) as caught:
        instant_us(text, NOW)
    assert "write it like" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("90", 90 * SECOND),
        ("1h30min", 5400 * SECOND),
        ("1h 30min", 5400 * SECOND),
        ("2.5s", 2_500_000),
        ("7ms", 7_000),
        ("1d", 86_400 * SECOND),
        ("1w", 604_800 * SECOND),
        ("1M", 2_630_016 * SECOND),
        ("3m", 180 * SECOND),
    ],
)
def test_spans_are_systemds(text, microseconds):
    assert span_us(text) == microseconds


@pytest.mark.parametrize("text", ["", "h", "1x", "1 hour 2 parsecs", "-5", "9" * 400])
def test_what_is_no_span_is_refused(text):
    with pytest.raises(UsageError):
        span_us(text)
