"""An episode of abnormal behaviour of one series, and which metrics are to blame for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """Where an episode is in its life."""

    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"


class EpisodeKind(Enum):
    """What an episode means to the reader."""

    ANOMALY = "anomaly"
    RECURRENCE = "recurrence"
    """Like an earlier episode of the same program."""
    NEW_NORMAL = "new-normal"
    """A lasting change of level was accepted as normal."""


@dataclass(frozen=True, slots=True)
class Blame:
    """One metric's part in an episode.

    Parameters
    ----------
    metric
        Name of the metric.
    share
        Its part of the whole evidence, in ``[0, 1]``.
    observed
        The sample that deviates most, in the metric's ``sample_unit``.
    low, high
        The range expected then, or before what is expected began to follow.
    onset_ns
        CLOCK_MONOTONIC at which it left that range.
    """

    metric: str
    share: float
    observed: float
    low: float
    high: float
    onset_ns: int


@dataclass(frozen=True, slots=True)
class Episode:
    """The state of one episode, as the detector tells it.

    Parameters
    ----------
    number
        Unique within one run of the detector, rising.
    series
        Number of the series (see ``Frame.series``).
    phase, kind
        Opened, updated or closed; anomaly, recurrence or new normal.
    opened_ns, at_ns
        CLOCK_MONOTONIC of its first abnormal row and of this state.
    score
        Highest score so far: unbounded, high means anomalous, 1 is the alarm level.
    p_value
        Smallest calibrated p-value so far, in ``(0, 1]``.
    detectors
        Names of the evidences that spoke, loudest first.
    blames
        Metrics, most to blame first; shares sum to at most 1.
    recurrence
        How many times a like episode was seen before.
    """

    number: int
    series: int
    phase: Phase
    kind: EpisodeKind
    opened_ns: int
    at_ns: int
    score: float
    p_value: float
    detectors: tuple[str, ...]
    blames: tuple[Blame, ...]
    recurrence: int = 0
