"""Times and time spans as systemd.time(7) writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from osdctl.errors import UsageError

_SPANS_US = {
    **dict.fromkeys(("us", "usec", "µs", "μs"), 1),
    **dict.fromkeys(("ms", "msec"), 1_000),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1_000_000),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60_000_000),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3_600_000_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000_000),
    **dict.fromkeys(("w", "week", "weeks"), 604_800_000_000),
    # systemd.time(7): a month is 30.44 days, a year 365.25 days
    **dict.fromkeys(("M", "month", "months"), 2_630_016_000_000),
    **dict.fromkeys(("y", "year", "years"), 31_557_600_000_000),
}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-zµμ]*)\s*")
_TIMESTAMP = re.compile(
    r"(?:(\d{4})-(\d{1,2})-(\d{1,2}))?(?:(?:^|(?<=\d)[T ])(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?)?"
)
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
_EXAMPLES = "write it like -1h, today, '2026-11-22 14:00' or @1795356000"
_LATEST_US = 2**63 - 1


def span_us(text: str) -> int:
    """Return a time span in microseconds: ``90``, ``1h 30min``, ``5min``.

    Raises :class:`UsageError`.
    """
    rest, total = text.strip(), 0.0
    if not rest:
        raise UsageError("an empty time span", "write it like 90, 5min or 1h30min")
    while rest:
        found = _SPAN.match(rest)
        if found is None or found[2] not in _SPANS_US:
            raise UsageError(f"no time span: {text}", "write it like 90, 5min or 1h30min")
        total += float(found[1]) * _SPANS_US[found[2]]
        rest = rest[found.end() :]
    if total > _LATEST_US:
        raise UsageError(f"a time span too long: {text}", "write it like 90, 5min or 1h30min")
    return round(total)


def instant_us(text: str, now: datetime) -> int:
    """Return a point of time in microseconds since 1970.

    Parameters
    ----------
    text
        ``now``, ``today``, ``yesterday``, ``tomorrow``, a date, a time or both, with ``UTC`` or ``Z`` at the end if
        wanted; ``-1h``, ``+5min``, ``5min ago``, ``@1763820000``.
    now
        The present; other times are read in the local zone.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    word = text.strip()
    try:
        when = _relative(word, now) or _absolute(word, now)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"no such time: {text}", _EXAMPLES) from error
    if when is None:
        raise UsageError(f"not a time: {text or 'nothing'}", _EXAMPLES)
    microseconds = round((when - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    if microseconds < 0:
        raise UsageError(f"a time before 1970: {text}", _EXAMPLES)
    return microseconds


def _relative(word: str, now: datetime) -> datetime | None:
    if word == "now":
        return now
    if word.startswith("@"):
        return datetime.fromtimestamp(float(word[1:]), UTC)
    if word.endswith(" ago"):
        return now - timedelta(microseconds=span_us(word.removesuffix("ago")))
    if word[:1] in "+-" and word[:1]:
        offset = timedelta(microseconds=span_us(word[1:]))
        return now + offset if word[0] == "+" else now - offset
    return None


def _absolute(word: str, now: datetime) -> datetime | None:
    zoned = now
    for suffix in (" UTC", "Z"):
        if word.endswith(suffix):
            word, zoned = word.removesuffix(suffix), now.astimezone(UTC)
    for name, days in _DAYS.items():
        if word == name or word.startswith(f"{name} "):
            word = f"{zoned + timedelta(days=days):%Y-%m-%d}{word.removeprefix(name)}"
    found = _TIMESTAMP.fullmatch(word)
    if found is None or not word:
        return None
    year, month, day, hour, minute, second, fraction = found.groups()
    date = zoned if year is None else zoned.replace(year=int(year), month=int(month), day=int(day))
    local = date.replace(
        hour=int(hour or 0),
        minute=int(minute or 0),
        second=int(second or 0),
        microsecond=int((fraction or "0").ljust(6, "0")),
    )
    # the offset in force then, which daylight saving may have made another than now's
    return local if zoned.tzinfo is UTC else local.replace(tzinfo=None).astimezone()
