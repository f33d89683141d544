"""The messages between daemon and detector: our values to frames of the wire and back, checked.

Daemon to detector: ``start`` (metrics, interval, settings), ``add``, ``remove``, ``frame``, ``mark``.
Detector to daemon: ``ready`` (its evidences), ``verdict``, ``cost`` (its own), ``refused`` (the settings, and why).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from osdetectord.anomaly import Blame, Episode, EpisodeKind, Phase
from osdetectord.errors import WireError
from osdetectord.metric import Kind, Metric
from osdetectord.sample import Frame
from osdetectord.verdict import EvidenceState, Verdict
from osdetectord.wire import Message, encode

PROTOCOL = 2
_COLUMNS = 4  # score, p-value, progress, alarm stand before the expected range
_T = TypeVar("_T")


def start(groups: Mapping[str, Sequence[Metric]], interval_s: float, detection: Mapping[str, Any]) -> bytes:
    """Begin: what the columns of each group of series are, and how to detect.

    The group without a name are the processes.
    """
    rows = {name: [[m.name, m.unit, m.kind.value, m.help] for m in metrics] for name, metrics in groups.items()}
    fields = {"protocol": PROTOCOL, "groups": rows, "interval_s": interval_s, "detection": dict(detection)}
    return encode("start", fields)


def read_start(message: Message) -> tuple[Mapping[str, tuple[Metric, ...]], float, Mapping[str, Any]]:
    """Return the metrics of each group, interval and the detector's settings."""
    protocol = message.fields.get("protocol")
    if protocol != PROTOCOL:
        raise WireError(f"protocol {protocol!r}, this detector speaks {PROTOCOL}")
    groups = _checked(message, lambda f: {str(name): _metrics(rows) for name, rows in f["groups"].items()})
    if "" not in groups:
        raise WireError("start tells no metrics of processes")
    return (
        groups,
        _checked(message, lambda f: float(f["interval_s"])),
        _checked(message, lambda f: dict(f["detection"])),
    )


def add(series: int, program: str, group: str = "") -> bytes:
    """Watch one more series of a group, of this program."""
    return encode("add", {"series": series, "program": program, "group": group})


def read_add(message: Message) -> tuple[int, str, str]:
    """Return series, program and group."""
    return _checked(message, lambda f: (_whole(f["series"]), str(f["program"]), str(f["group"])))


def remove(series: int) -> bytes:
    """Watch this series no more."""
    return encode("remove", {"series": series})


def read_remove(message: Message) -> int:
    """Return the series."""
    return _checked(message, lambda f: _whole(f["series"]))


def mark(episode: int, useful: bool | None) -> bytes:
    """Carry the user's word on an episode; None takes it back."""
    return encode("mark", {"episode": episode, "useful": useful})


def read_mark(message: Message) -> tuple[int, bool | None]:
    """Return episode and word."""
    return _checked(message, lambda f: (_whole(f["episode"]), None if f["useful"] is None else bool(f["useful"])))


def frame(value: Frame, group: str = "") -> bytes:
    """Carry one row of samples of each series of a group."""
    times = {"time_ns": value.time_ns, "interval_s": value.interval_s}
    return encode("frame", {"group": group, **times, "series": value.series.tolist()}, value.values)


def read_frame(message: Message, groups: Mapping[str, tuple[Metric, ...]]) -> tuple[str, Frame]:
    """Return group and frame; its columns are those that ``start`` told."""
    series = _series(message)
    group = _group(message, groups)
    metrics = groups[group]
    if message.block.shape != (len(series), len(metrics)):
        raise WireError(f"frame of {len(series)} series and {len(metrics)} metrics has shape {message.block.shape}")
    times = _checked(message, lambda f: (_whole(f["time_ns"]), float(f["interval_s"])))
    return group, Frame(times[0], times[1], series, metrics, message.block)


def ready(evidences: Sequence[EvidenceState]) -> bytes:
    """Tell that the settings are taken, and which evidences take part."""
    return encode("ready", {"evidences": [asdict(e) for e in evidences]})


def read_ready(message: Message) -> tuple[EvidenceState, ...]:
    """Return the evidences."""
    return _checked(
        message,
        lambda f: tuple(EvidenceState(str(e["name"]), str(e["state"]), str(e["why"])) for e in f["evidences"]),
    )


def refused(why: str) -> bytes:
    """Tell that the settings are not taken."""
    return encode("refused", {"why": why})


def read_refused(message: Message) -> str:
    """Return the reason."""
    return _checked(message, lambda f: str(f["why"]))


def cost(rss_bytes: int, cpu_s: float) -> bytes:
    """Tell what the detector itself uses."""
    return encode("cost", {"rss_bytes": rss_bytes, "cpu_s": cpu_s})


def read_cost(message: Message) -> tuple[float, float]:
    """Return resident bytes and CPU seconds."""
    return _checked(message, lambda f: (_finite(f["rss_bytes"]), _finite(f["cpu_s"])))


def verdict(value: Verdict, group: str = "") -> bytes:
    """Carry what a frame of a group means."""
    head = np.column_stack([value.score, value.p_value, value.progress, value.alarm.astype(np.float64)])
    fields = {"group": group, "series": value.series.tolist(), "episodes": [_plain(e) for e in value.episodes]}
    return encode("verdict", fields, np.hstack([head, value.low, value.high]))


def read_verdict(message: Message, groups: Mapping[str, Sequence[Metric]]) -> tuple[str, Verdict]:
    """Return group and verdict; every number in it is checked against its contract."""
    group = _group(message, groups)
    series, block, width = _series(message), message.block, len(groups[group])
    if block.shape != (len(series), _COLUMNS + 2 * width):
        raise WireError(f"verdict on {len(series)} series and {width} metrics has shape {block.shape}")
    score, p_value, progress = block[:, 0], block[:, 1], block[:, 2]
    if not (np.isfinite(block[:, :_COLUMNS]).all() and (score >= 0).all()):
        raise WireError("verdict has a score that is not a number from 0")
    if not ((p_value >= 0) & (p_value <= 1) & (progress >= 0) & (progress <= 1)).all():
        raise WireError("verdict has a p-value or progress outside 0 to 1")
    known = frozenset(metric.name for metric in groups[group])
    episodes = _checked(message, lambda f: tuple(_episode(e, known) for e in f["episodes"]))
    low, high = block[:, _COLUMNS : _COLUMNS + width], block[:, _COLUMNS + width :]
    return group, Verdict(series, score, p_value, progress, block[:, 3] > 0, low, high, episodes)


def _plain(episode: Episode) -> dict[str, object]:
    return {**asdict(episode), "phase": episode.phase.value, "kind": episode.kind.value}


def _episode(value: Mapping[str, Any], known: frozenset[str]) -> Episode:
    return Episode(
        number=_whole(value["number"]),
        series=_whole(value["series"]),
        phase=Phase(value["phase"]),
        kind=EpisodeKind(value["kind"]),
        opened_ns=_whole(value["opened_ns"]),
        at_ns=_whole(value["at_ns"]),
        score=_finite(value["score"]),
        p_value=_finite(value["p_value"]),
        detectors=tuple(str(name) for name in value["detectors"]),
        blames=tuple(_blame(blame, known) for blame in value["blames"]),
        recurrence=_whole(value["recurrence"]),
    )


def _blame(value: Mapping[str, Any], known: frozenset[str]) -> Blame:
    if value["metric"] not in known:
        raise ValueError(f"no metric {value['metric']!r}")
    return Blame(
        str(value["metric"]),
        _finite(value["share"]),
        _finite(value["observed"]),
        _finite(value["low"]),
        _finite(value["high"]),
        _whole(value["onset_ns"]),
    )


def _metrics(rows: Sequence[Sequence[str]]) -> tuple[Metric, ...]:
    return tuple(Metric(str(n), str(u), Kind(k), str(h)) for n, u, k, h in rows)


def _group(message: Message, groups: Mapping[str, object]) -> str:
    name = _checked(message, lambda f: str(f["group"]))
    if name not in groups:
        raise WireError(f"{message.type} of an unknown group {name!r}")
    return name


def _series(message: Message) -> NDArray[np.uint64]:
    return _checked(message, lambda f: np.array([_whole(n) for n in f["series"]], np.uint64))


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _checked(message: Message, read: Callable[[Mapping[str, Any]], _T]) -> _T:
    try:
        return read(message.fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"{message.type}: {type(error).__name__}: {error}") from None
