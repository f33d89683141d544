"""What the kernel's records of calls and events mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osdetectord.collectors import uprobe
from osdetectord.probing.event import RESULT, TEXTS, Text


def record(texts: int, lengths: list[int], held: list[bytes]) -> np.ndarray:
    out = np.zeros(1, dtype=uprobe.EVENT)
    out["cookie"], out["time_ns"], out["entered_ns"], out["returned"] = 3, 20, 10, 1
    out["value"] = np.arange(7) + 100
    out["texts"] = texts
    out["length"][0, : len(lengths)] = lengths
    for slot, data in enumerate(held):
        out["text"][0, slot] = data.ljust(uprobe.TEXT_BYTES, b"?")
    return out


def test_an_event_holds_its_strings_by_position() -> None:
    full = b"x" * (uprobe.TEXT_BYTES - 1) + b"\0"
    (event,) = uprobe.events_of(record(1 << 1 | 1 << 4 | 1 << RESULT, [4, 0, uprobe.TEXT_BYTES], [b"abc\0", b"", full]))

    assert event.values == (100, 101, 102, 103, 104, 105, 106)
    assert (event.cookie, event.time_ns, event.entered_ns, event.returned) == (3, 20, 10, True)
    assert event.texts == {1: Text(b"abc"), 4: Text(None), RESULT: Text(full[:-1], more=True)}


def test_an_empty_string_is_not_a_missing_one() -> None:
    (event,) = uprobe.events_of(record(1, [1], [b"\0"]))
    assert event.texts == {0: Text(b"")}


def test_no_more_strings_than_there_is_room_for() -> None:
    (event,) = uprobe.events_of(record(0x7F, [2] * TEXTS, [b"a\0", b"b\0", b"c\0", b"d\0"]))
    assert list(event.texts) == [0, 1, 2, 3]


def slot_of(ns: int) -> int:
    """The bucket that the kernel chooses; see probe_return()."""
    if ns >> uprobe.FIRST_POWER == 0:
        return 0
    power = ns.bit_length() - 1
    return min(uprobe.BUCKETS - 1, 1 + (power - uprobe.FIRST_POWER) * uprobe.STEPS + (ns >> (power - 2) & 3))


@given(st.integers(0, 2**38))
def test_buckets_hold_what_their_bounds_say(ns: int) -> None:
    slot = slot_of(ns)
    assert uprobe.BOUNDS[slot] <= ns < uprobe.BOUNDS[slot + 1]


@given(st.lists(st.integers(200, 2**37), min_size=1, max_size=50), st.sampled_from([0.5, 0.99]))
def test_quantiles_are_within_a_bucket(durations: list[int], share: float) -> None:
    counts = np.bincount([slot_of(ns) for ns in durations], minlength=uprobe.BUCKETS).astype(np.uint64)
    wanted = sorted(durations)[max(0, int(np.ceil(share * len(durations))) - 1)]

    assert uprobe.quantile(counts, share) == pytest.approx(wanted, rel=0.26)


def test_without_calls_there_is_no_quantile() -> None:
    assert np.isnan(uprobe.quantile(np.zeros(uprobe.BUCKETS, dtype=np.uint64), 0.5))


def test_records_fit_their_rings() -> None:
    for name, record_type in uprobe.RINGS.items():
        assert record_type.itemsize % 8 == 0, name
        assert uprobe.PAGES[name] & (uprobe.PAGES[name] - 1) == 0, name
