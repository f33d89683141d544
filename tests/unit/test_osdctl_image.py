"""Pictures of curves: what is in them, and one clear error where they can't be made."""

from __future__ import annotations

import pytest

from osdctl import image
from osdctl.curve import Curve, Mark, Range, marks
from osdctl.errors import OsdctlError
from osdctl.model import Anomaly, Blame

US = 1_795_356_131_000_000
TIMES = tuple(US + 1_000_000 * i for i in range(101))


def a_curve(metric="memory.rss", unit="bytes"):
    values = tuple(float(i) * 2**20 for i in range(101))
    band = Range((TIMES[0], TIMES[-1]), (0.0, 0.0), (50.0 * 2**20,) * 2)
    return Curve(metric, unit, TIMES, values, Range(TIMES, values, values), band)


def test_a_drawing_has_metrics_units_and_episodes_as_text(tmp_path):
    path = tmp_path / "picture.svg"
    image.save(path, "svg", "unit:$nginx$.service", [(a_curve(), [Mark(997, TIMES[40], TIMES[60], True)])])
    text = path.read_text()
    assert all(part in text for part in ("memory.rss", "#997", "MiB", "expected", "measured", "unit:$nginx$.service"))


def test_a_picture_is_a_png_and_grows_with_its_curves(tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    image.save(one, "png", "x", [(a_curve(), [])])
    image.save(two, "png", "x", [(a_curve(), []), (Curve("cpu.on_cpu", "s/s", (), (), Range(), Range()), [])])
    sizes = []
    for path in (one, two):
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        sizes.append(int.from_bytes(data[20:24]))
    assert sizes[0] < sizes[1]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(OsdctlError, match=r"cannot write .*gone/x.svg: no such file or directory"):
        image.save(tmp_path / "gone/x.svg", "svg", "x", [(a_curve(), [])])


def test_without_matplotlib_the_package_is_named(no_matplotlib):
    with pytest.raises(OsdctlError, match="apt install python3-matplotlib"):
        image.require()


def test_an_open_episode_reaches_to_now_and_knows_whether_the_metric_is_to_blame():
    blame = Blame("memory.rss", "bytes", 1.0, 2.0, 0.0, 1.0, US)
    anomaly = Anomaly(7, 1, "pid:1", 1, "x", "open", "anomaly", US, 0, 1.0, 0.1, (), (blame,), "", 0, "")
    assert marks([anomaly], "memory.rss", US + 9) == [Mark(7, US, US + 9, True)]
    assert not marks([anomaly], "cpu.on_cpu", US + 9)[0].blamed


def test_a_curve_takes_its_parts_from_the_daemons_answer_where_both_ends_are_known():
    series = {
        "x": ([1, 2, 3], [1.0, 2.0, 3.0]),
        "x:min": ([1, 2, 3], [0.5, 1.5, 2.5]),
        "x:max": ([1, 2, 3], [1.5, 2.5, 3.5]),
        "x:low": ([1, 2], [0.0, 0.0]),
        "x:high": ([2, 3], [9.0, 9.0]),
    }
    curve = Curve.of("x", "s", series)
    assert curve.extremes == Range((1, 2, 3), (0.5, 1.5, 2.5), (1.5, 2.5, 3.5))
    assert curve.expected == Range((2,), (0.0,), (9.0,))
    assert Curve.of("y", "s", series).times_us == ()
