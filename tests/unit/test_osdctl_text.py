"""What osdctl shows people: harmless, aligned, with units."""

from __future__ import annotations

import json
import math

import pytest

from osdctl import braille
from osdctl.curve import Curve, Mark, Range
from osdctl.text import (
    Column,
    Look,
    as_json,
    cut,
    duration,
    expected,
    folded,
    number,
    pad,
    quantity,
    shown,
    sparkline,
    table,
    width_of,
)

PLAIN = Look()
HOSTILE = "\x1b]0;owned\x07\x9b2J\u202eevil\r\n\u200b\udcff"


def test_control_characters_are_spelled_out():
    text = shown(HOSTILE)

    assert text.isprintable()
    assert text == r"\x1b]0;owned\x07\x9b2J\u202eevil\x0d\x0a\u200b\udcff"


def test_what_can_be_printed_stays_as_it_is():
    assert shown("größe 測試 a\\x2db") == "größe 測試 a\\x2db"


@pytest.mark.parametrize(("text", "columns"), [("", 0), ("abc", 3), ("測試", 4), ("e\u0301", 1)])
def test_width_counts_columns_and_not_characters(text, columns):
    assert width_of(text) == columns


@pytest.mark.parametrize("width", range(1, 9))
def test_cut_text_never_exceeds_its_width(width):
    for text in ("abcdefgh", "測試測試", "a測b試c"):
        assert width_of(cut(text, width)) <= width
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"


@pytest.mark.parametrize("width", [1, 5, 17, 80])
def test_a_folded_line_loses_no_word_and_exceeds_no_width(width):
    text = "one two three 日本語 " + "x" * 43

    lines = folded(text, width)

    assert max(width_of(line) for line in lines) <= max(2, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_padding_counts_wide_characters():
    assert pad("測", 4) == "測  "
    assert pad("測", 4, right=True) == "  測"


def test_a_table_on_a_terminal_fits_it():
    look = Look(terminal=True, width=40)
    rows = [("1", "x" * 97, "y" * 89), ("2", "測" * 53, HOSTILE)]

    lines = table((Column("ID", right=True), Column("NAME"), Column("WHAT")), rows, look).splitlines()

    assert len(lines) == 3
    assert all(width_of(line) <= 40 for line in lines)


def test_a_table_in_a_pipe_is_whole_and_plain():
    text = table((Column("ID", right=True), Column("STATE", state=True)), [("7", "anomalous" * 31)], Look())

    assert "anomalous" * 31 in text
    assert "\x1b" not in text


def test_a_table_without_legend_has_no_head():
    assert table((Column("ID"),), [("7",)], Look(legend=False)) == "7\n"


def test_hostile_cells_reach_neither_terminal_nor_columns():
    text = table((Column("A"), Column("B")), [(HOSTILE, "x")], Look(terminal=True, colour=False, width=200))

    assert all(line.isprintable() for line in text.splitlines())
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "bytes", "0 B"),
        (212 * 2**20, "bytes", "212 MiB"),
        (1.4 * 2**20, "bytes/s", "1.4 MiB/s"),
        (0.97, "s/s", "97 %"),
        (0.0014, "s", "1.4 ms"),
        (17e-9, "s", "17 ns"),
        (13_200.0, "calls/s", "13.2 k calls/s"),
        (7.0, "", "7"),
        (math.nan, "bytes", "-"),
        (math.inf, "", "-"),
    ],
)
def test_quantities_read_like_the_daemons(value, unit, text):
    assert quantity(value, unit) == text


def test_a_range_names_a_shared_unit_once():
    assert expected(118 * 2**20, 131 * 2**20, "bytes") == "118-131 MiB"
    assert expected(900.0, 1.5 * 2**20, "bytes") == "900 B to 1.5 MiB"
    assert expected(3.0, 3.0, "fds") == "3 fds"


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (9.1, "9.1"), (1234.5, "1234"), (3e-9, "3.0e-09"), (6e-11, "0")]
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.35, "350ms"), (42, "42s"), (3780, "1h 3min"), (90061, "1d 1h"), (-3, "0ms"), (3600.2, "1h")],
)
def test_durations_have_at_most_two_units(seconds, text):
    assert duration(seconds) == text


def test_a_sparkline_has_one_column_a_value_and_shows_gaps():
    assert sparkline([0.0, 4.0, math.nan, 8.0], 6) == "  ▁▅ █"
    assert sparkline([0.0] * 101, 7) == "▁" * 7


def test_json_has_neither_nan_nor_raw_characters():
    text = as_json([{"a": math.nan, "b": (1, math.inf), "c": HOSTILE + "\x7f"}], "short")

    assert text.isascii()
    assert text.rstrip("\n").isprintable()
    assert json.loads(text) == {"a": None, "b": [1, None], "c": HOSTILE + "\x7f"}


def test_short_json_is_one_line_a_row():
    rows = [{"id": 2}, {"id": 3}, {"id": 5}]

    assert [json.loads(line) for line in as_json(rows, "short").splitlines()] == rows
    assert json.loads(as_json(rows, "pretty")) == rows


def chart(times, values, unit, width, height, marks=(), look=PLAIN, **ranges):
    curve = Curve(
        "cpu.on_cpu", unit, tuple(times), tuple(values), **{"extremes": Range(), "expected": Range(), **ranges}
    )
    return braille.chart(curve, marks, width, height, look)


def dots(lines):
    return sum((ord(c) - 0x2800).bit_count() for line in lines for c in line if 0x2800 <= ord(c) < 0x2900)


def test_a_chart_keeps_to_its_width_and_height():
    times = [1_000_000 * i for i in range(1009)]

    lines = chart(times, [float(i % 17) for i in range(1009)], "bytes", 61, 7)

    assert len(lines) == 9
    assert max(width_of(line) for line in lines) <= 61
    assert lines[0].lstrip().startswith("16 B ┤")
    assert lines[6].lstrip().startswith("0 B ┤")


def test_a_level_line_is_one_row_of_dots():
    lines = chart([1, 2, 3, 4, 5], [7.0] * 5, "", 40, 4)

    assert [dots([line]) > 0 for line in lines[:4]] == [True, False, False, False]


def test_a_gap_in_the_samples_stays_open():
    whole = chart(list(range(100)), [1.0] * 100, "", 60, 4)
    times = [i for i in range(100) if not 30 <= i < 70]
    parted = chart(times, [1.0] * 60, "", 60, 4)

    assert dots(parted) < 0.7 * dots(whole)


def test_a_chart_of_nothing_says_so():
    assert chart([], [], "bytes", 60, 4) == ["no samples"]
    assert chart([1, 2], [math.nan, math.inf], "bytes", 60, 4) == ["no samples"]


def test_the_expected_range_is_dotted_above_and_below_the_samples():
    times = tuple(range(100))
    band = Range((0, 99), (1.0, 1.0), (5.0, 5.0))

    lines = chart(times, [3.0] * 100, "", 60, 5, expected=band)

    assert [dots([line]) for line in lines[:5]][1::2] == [0, 0]  # between samples and band there is room
    assert dots(lines[:1]) == dots(lines[4:5]) == dots(lines[2:3]) // 2


def test_a_range_that_is_far_too_wide_does_not_flatten_the_samples():
    times = tuple(range(100))
    band = Range((0, 99), (0.0, 0.0), (1e9, 1e9))

    lines = chart(times, [float(i % 2) for i in range(100)], "", 60, 8, expected=band)

    assert sum(dots([line]) > 50 for line in lines[:8]) >= 4


def test_a_spike_that_a_point_only_stands_for_is_drawn():
    times = tuple(range(50))
    extremes = Range(times, (0.0,) * 50, tuple(100.0 if i == 25 else 1.0 for i in times))

    lines = chart(times, [1.0] * 50, "", 60, 6, extremes=extremes)

    assert all(dots([line]) > 0 for line in lines[:6])


def test_an_episode_is_marked_below_the_axis_with_its_number():
    times = [10 * i for i in range(101)]
    here, gone = Mark(7, 250, 750, True), Mark(3, -900, -10, True)

    line = chart(times, [1.0] * 101, "", 60, 4, [here, gone])[5]

    columns = 60 - len("1 ┤")
    assert line.strip().startswith("▲#7▲") and "#3" not in line
    assert line.count("▲") + 2 == pytest.approx(columns / 2, abs=2)


def test_red_is_where_the_metric_is_to_blame():
    times = list(range(100))
    for mark, red in ((Mark(7, 40, 60, True), True), (Mark(7, 40, 60, False), False)):
        line = chart(times, [1.0] * 100, "", 60, 4, [mark], look=Look(colour=True))[0]
        assert ("\x1b[1;31m" in line) == red
