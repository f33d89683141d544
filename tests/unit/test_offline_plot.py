"""The picture of a file: the series, what was expected of it, the score and the alarms; and what is done without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_offline import ROWS, WARMUP, rows_of, values, write

from osdetectord import offline
from osdetectord.detection.settings import Settings

NAMES = ("a", "b", "$c_1^", "d", "e")


@pytest.fixture(scope="module")
def found():
    table = offline.Table("one $x_", tuple(f"{1000 + 2 * t}" for t in range(ROWS)), NAMES, values())
    return table, offline.detect([table], Settings(warmup_s=WARMUP), 1.0)[0]


def line(axis, label):
    (one,) = (one for one in axis.lines if one.get_label() == label)
    return one.get_xdata(), one.get_ydata()


def test_it_shows_the_blamed_series_as_it_was_measured(found):
    table, outcome = found
    *metrics, _ = offline.figure(outcome, table).axes
    names = [axis.get_title(loc="left") for axis in metrics]
    assert {episode.blames[0].metric for _, _, episode in outcome.anomalies} == set(names)
    for name, axis in zip(names, metrics, strict=True):
        x, y = line(axis, "measured")
        np.testing.assert_array_equal(x, 1000 + 2 * np.arange(ROWS))
        np.testing.assert_array_equal(y, table.values[:, NAMES.index(name)])


def test_it_shows_what_was_expected_from_the_first_judged_row_on(found):
    table, outcome = found
    axis = offline.figure(outcome, table).axes[0]
    column = NAMES.index(axis.get_title(loc="left"))
    (band,) = (one for one in axis.collections if one.get_label() == "expected")
    corners = np.concatenate([path.vertices for path in band.get_paths()])
    known = np.isfinite(outcome.low[:, column])
    expected = {(1000.0 + 2 * t, outcome.low[t, column]) for t in np.flatnonzero(known)}
    expected |= {(1000.0 + 2 * t, outcome.high[t, column]) for t in np.flatnonzero(known)}
    assert known.sum() == ROWS - WARMUP
    assert {tuple(corner) for corner in corners} == expected


def test_it_shows_the_score_and_the_level_of_an_alarm(found):
    table, outcome = found
    axis = offline.figure(outcome, table).axes[-1]
    assert axis.get_title(loc="left") == "score" and axis.get_xlabel() == "t"
    np.testing.assert_array_equal(line(axis, "score")[1], outcome.score)
    assert line(axis, "alarm level")[1] == [1.0, 1.0]


def test_it_shows_each_alarm_in_every_part_a_single_row_too(found):
    table, outcome = found
    alarm = outcome.alarm.copy()
    alarm[-1] = True
    runs = [(t, t) for t in np.flatnonzero(alarm)]
    joined = [runs[0]]
    for first, last in runs[1:]:
        joined[-1:] = [(joined[-1][0], last)] if first == joined[-1][1] + 1 else [joined[-1], (first, last)]
    assert len(joined) >= 2
    for axis in offline.figure(replace(outcome, alarm=alarm), table).axes:
        shown = [(patch.get_extents().x0, patch.get_extents().x1) for patch in axis.patches]
        inverse = axis.transData.inverted()
        spans = [tuple(inverse.transform([(x0, 0), (x1, 0)])[:, 0]) for x0, x1 in shown]
        assert spans == [pytest.approx((999 + 2 * first, 1001 + 2 * last)) for first, last in joined]
        assert sum(text.get_text() == "alarm" for text in axis.get_legend().get_texts()) == 1


def test_where_nothing_was_found_it_shows_the_first_metric(found):
    table, outcome = found
    quiet = replace(outcome, alarm=np.zeros(ROWS, bool), anomalies=())
    first, score = offline.figure(quiet, table).axes
    assert first.get_title(loc="left") == "a" and not first.patches and not score.patches


@pytest.mark.parametrize("times", [("monday",) * ROWS, ("",) * ROWS, ("7",) * ROWS, ("nan",) * ROWS])
def test_times_that_are_no_rising_numbers_are_counted(found, times):
    table, outcome = found
    axis = offline.figure(outcome, replace(table, times=times)).axes[-1]
    assert axis.get_xlabel() == "row"
    np.testing.assert_array_equal(line(axis, "score")[0], np.arange(ROWS))


def test_each_file_gets_a_png_with_its_name(tmp_path):
    quiet, huge = values(2), values(3)
    quiet[:] = 5.0
    huge[90:] = 1e308
    sources = [write(tmp_path / f"{n}.csv", t) for n, t in (("one", values()), ("quiet", quiet), ("huge", huge))]
    sources += [write(tmp_path / "none.csv", values()[:0]), write(tmp_path / "single.csv", values()[:1])]
    options = ["--plot", "--warmup", str(WARMUP), "-o", str(tmp_path / "out")]
    assert offline.main([*options, *map(str, sources)]) == 0
    for source in sources:
        assert (tmp_path / "out" / f"{source.stem}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_without_matplotlib_all_but_the_pictures_is_done_and_what_lacks_is_said(tmp_path, capsys, no_matplotlib):
    source = write(tmp_path / "one.csv", values())
    assert offline.main(["--plot", "--warmup", str(WARMUP), "-o", str(tmp_path / "out"), str(source)]) == 1
    said = capsys.readouterr()
    assert "python3-matplotlib" in said.err and said.err.count("\n") == 1
    assert said.out.startswith("one: 1 anomaly")
    assert len(rows_of(tmp_path / "out" / "one.csv")) == ROWS
    assert not list((tmp_path / "out").glob("*.png"))
