"""Charts as pictures, by matplotlib, which is only there where somebody wants pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from osdctl.curve import Curve, Mark
from osdctl.errors import OsdctlError
from osdctl.text import quantity, shown

WIDTH_IN, HEIGHT_IN = 10.0, 2.6
SAMPLES, EXPECTED, ABNORMAL = "#1f4e9c", "#8fbf8f", "#d62728"


def require() -> None:
    """Raise :class:`OsdctlError` where there is no matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise OsdctlError(
            "pictures need matplotlib, which is not installed", "install it: apt install python3-matplotlib"
        ) from error


def save(path: Path, kind: str, title: str, curves: Sequence[tuple[Curve, Sequence[Mark]]]) -> None:
    """Draw the curves below each other into a file; ``kind`` is ``png`` or ``svg``.

    Raises
    ------
    OsdctlError
        If the file can't be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # text stays text, so that a picture can be searched
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 9}):
        figure: Any = Figure(figsize=(WIDTH_IN, HEIGHT_IN * len(curves) + 0.6), layout="constrained")
        figure.suptitle(shown(title), parse_math=False)
        rows = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (curve, marks) in zip(rows, curves, strict=True):
            _draw(axes, curve, marks)
        picture = io.BytesIO()
        figure.savefig(picture, format=kind, dpi=120)
    try:
        path.write_bytes(picture.getvalue())
    except OSError as error:
        raise OsdctlError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def _draw(axes: Any, curve: Curve, marks: Sequence[Mark]) -> None:
    expected, extremes = curve.expected, curve.extremes
    if expected.times_us:
        axes.fill_between(
            _dates(expected.times_us), expected.low, expected.high, color=EXPECTED, alpha=0.5, lw=0, label="expected"
        )
    if extremes.low != curve.values or extremes.high != curve.values:
        axes.fill_between(_dates(extremes.times_us), extremes.low, extremes.high, color=SAMPLES, alpha=0.25, lw=0)
    axes.plot(_dates(curve.times_us), curve.values, color=SAMPLES, lw=1.0, label="measured")
    if curve.times_us:
        first, last = curve.times_us[0], curve.times_us[-1]
        for mark in marks:
            if mark.to_us >= first and mark.from_us <= last:
                begin, end = _dates((max(first, mark.from_us), min(last, mark.to_us)))
                axes.axvspan(begin, end, color=ABNORMAL, alpha=0.2 if mark.blamed else 0.08, lw=0)
                top = axes.get_xaxis_transform()
                axes.text(begin, 0.98, f"#{mark.number}", transform=top, va="top", color=ABNORMAL, parse_math=False)
    axes.set_ylabel(shown(curve.metric), parse_math=False)
    axes.yaxis.set_major_formatter(lambda value, _: quantity(value, curve.unit))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")


def _dates(times_us: Sequence[int]) -> list[datetime]:
    return [datetime.fromtimestamp(time / 1e6) for time in times_us]
