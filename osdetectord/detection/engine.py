"""The engine: samples of all watched processes in, scores and episodes out."""

from __future__ import annotations

from math import erfc, sqrt
from pathlib import Path

import numpy as np

from osdetectord.anomaly import Blame, Episode, EpisodeKind, Phase
from osdetectord.detection.calibration import Calibration
from osdetectord.detection.evidence import Evidence, Past, Rows, Setup
from osdetectord.detection.evidences import REGISTRY, evidence_class
from osdetectord.detection.scale import Scale
from osdetectord.detection.settings import Settings
from osdetectord.detection.slots import Floats, SlotArrays, Slots
from osdetectord.errors import ShapeError
from osdetectord.metric import Metric
from osdetectord.sample import Frame
from osdetectord.verdict import EvidenceState, Verdict

LEVEL = 4.0
ENTER, LEAVE, LEAVE_AT = 2, 4, 0.75
GAP_INTERVALS = 3
TOP_BLAMES = 5
HISTORY_ROWS = 480
"""Learning is repeated as the past grows, up to so many rows."""


class _Life(SlotArrays):
    """What the engine itself keeps of each series."""

    name = "life"

    def __init__(self, metrics: int, rows: int) -> None:
        super().__init__()
        self.declare("history", (rows, metrics), np.float32)
        self.declare("seen", (), np.int64)
        self.declare("ready", (), np.bool_)
        self.declare("last", (metrics,))
        self.declare("last_ns", (), np.int64)
        self.declare("alarm", (), np.bool_)
        self.declare("since", (), np.int64)
        self.declare("hits", (), np.int64)
        self.declare("quiet", (), np.int64)


class Engine:
    """Detection for any number of processes that share one set of metrics."""

    def __init__(
        self, settings: Settings, metrics: tuple[Metric, ...], interval_s: float, state_dir: Path | None = None
    ) -> None:
        self._settings, self._metrics, self._interval_s = settings, metrics, interval_s
        self._state_dir = state_dir
        self._warmup = max(30, round(settings.warmup_s / interval_s))
        self._history = max(HISTORY_ROWS, self._warmup)
        memory_rows = round(settings.memory_s / interval_s)
        self._evidences: list[Evidence] = []
        states = []
        for name in REGISTRY:
            if name not in settings.evidences:
                states.append(EvidenceState(name, "off", "not in the settings"))
                continue
            cls = evidence_class(name)
            why = cls.absent()
            states.append(EvidenceState(name, "absent" if why else "on", why))
            if not why:
                self._evidences.append(cls(Setup(len(metrics), interval_s, memory_rows, settings.evidences[name])))
        self.evidences = tuple(states)
        self._scale = Scale(len(metrics))
        self._calibration = Calibration(len(self._evidences), 1 / 600)
        self._life = _Life(len(metrics), self._history)
        self._slot_of: dict[int, int] = {}
        self._program: dict[int, str] = {}
        self._free: list[int] = []
        self._episodes: dict[int, Episode] = {}
        self._number = 0

    def _parts(self) -> list[SlotArrays]:
        return [self._life, self._scale, self._calibration, *self._evidences]

    def add(self, series: int, program: str) -> None:
        """Watch one more series; what was learnt of ``program`` before makes it start warm."""
        if series in self._slot_of:
            return
        if not self._free:
            old = len(self._life["seen"])
            new = max(4, 2 * old)
            for part in self._parts():
                part.resize(new)
            self._free = list(range(new - 1, old - 1, -1))
        slot = self._free.pop()
        for part in self._parts():
            part.clear(np.array([slot]))
        self._slot_of[series], self._program[series] = slot, program

    def remove(self, series: int) -> None:
        """Forget a series; what it taught about its program stays."""
        slot = self._slot_of.pop(series, None)
        if slot is not None:
            del self._program[series]
            self._episodes.pop(series, None)
            self._free.append(slot)

    def mark(self, episode: int, useful: bool) -> None:
        """Take the user's word on an episode."""

    def save(self) -> None:
        """Write what was learnt to the state directory."""

    def step(self, frame: Frame) -> Verdict:
        """Take one row of samples and say what it means.

        Raises
        ------
        ShapeError
            If the frame's metrics are not this engine's.
        """
        if len(frame.metrics) != len(self._metrics):
            raise ShapeError(f"frame has {len(frame.metrics)} metrics, the engine {len(self._metrics)}")
        count, width = frame.values.shape
        for number in frame.series.tolist():
            if number not in self._slot_of:
                self.add(number, str(number))
        slots = np.array([self._slot_of[number] for number in frame.series.tolist()], np.intp)
        life = self._life
        here = np.isfinite(frame.values).any(axis=1)
        x = np.where(np.isfinite(frame.values), frame.values, life["last"][slots])
        gap_ns = GAP_INTERVALS * self._interval_s * 1e9
        fresh = np.abs(frame.time_ns - life["last_ns"][slots]) > gap_ns
        life["last"][slots[here]] = x[here]
        life["last_ns"][slots[here]] = frame.time_ns

        score, p_value = np.zeros(count), np.ones(count)
        low, high = np.full((count, width), np.nan), np.full((count, width), np.nan)
        ready = life["ready"][slots] & here
        episodes: list[Episode] = []
        if ready.any():
            at = slots[ready]
            rows = Rows(at, x[ready], self._scale.z(at, x[ready]), fresh[ready])
            low[ready], high[ready] = self._scale.expected(at)
            score[ready], p_value[ready] = self._judge(rows)
            self._hysteresis(at, score[ready])
        quiet = here & ~life["alarm"][slots]
        self._learn_past(slots[quiet], x[quiet])
        alarm = life["alarm"][slots] & life["ready"][slots]
        for i in np.flatnonzero(ready):
            told = self._episode(frame, i, float(score[i]), float(p_value[i]), bool(alarm[i]), x[i], low[i], high[i])
            if told is not None:
                episodes.append(told)
        progress = np.minimum(1.0, life["seen"][slots] / self._warmup)
        return Verdict(frame.series, score, p_value, progress, alarm, low, high, tuple(episodes))

    def _learn_past(self, slots: Slots, x: Floats) -> None:
        life = self._life
        slots, x = slots[life["seen"][slots] < self._history], x[life["seen"][slots] < self._history]
        life["history"][slots, life["seen"][slots]] = x
        life["seen"][slots] += 1
        due = self._warmup
        while due <= self._history:
            self._fit(slots[life["seen"][slots] == due], due)
            due *= 2

    def _fit(self, slots: Slots, length: int) -> None:
        if len(slots):
            past_x = self._life["history"][slots, :length].astype(np.float64)
            self._scale.learn(slots, past_x)
            past = Past(slots, past_x, self._scale.past_z(slots, past_x))
            for e, evidence in enumerate(self._evidences):
                self._calibration.learn(slots, e, evidence.fit(past))
            self._life["ready"][slots] = True

    def _judge(self, rows: Rows) -> tuple[Floats, Floats]:
        raw = np.stack([e.score(rows) for e in self._evidences], axis=1)
        u = self._calibration.u(rows.slots, raw)
        combined = self._combine(u)
        life = self._life
        alarm = life["alarm"][rows.slots]
        rate = np.where(~alarm & (combined < LEVEL), 1.0, np.where(life["since"][rows.slots] > 180, 2.0, 0.1))
        for evidence in self._evidences:
            evidence.update(rows, rate)
        self._calibration.update(rows.slots, u, rate)
        self._scale.follow(rows.slots, rows.x, rate * 5e-3)
        self.dump = (rows.slots, raw, u)
        return combined / LEVEL, np.array([max(1e-300, 0.5 * erfc(c / sqrt(2))) for c in combined])

    def _combine(self, u: Floats) -> Floats:
        v = np.clip(u, 0.0, 30.0)
        return np.sort(v, axis=1)[:, 1]

    def _hysteresis(self, slots: Slots, score: Floats) -> None:
        life = self._life
        hits = np.where(score > 1.0, life["hits"][slots] + 1, np.maximum(life["hits"][slots] - 1, 0))
        quiet = np.where(score < LEAVE_AT, life["quiet"][slots] + 1, 0)
        alarm = life["alarm"][slots]
        enter, leave = ~alarm & (hits >= ENTER), alarm & (quiet >= LEAVE)
        life["alarm"][slots] = (alarm | enter) & ~leave
        life["since"][slots] = np.where(alarm, life["since"][slots] + 1, 0)
        life["hits"][slots] = np.where(leave, 0, hits)
        life["quiet"][slots] = quiet

    def _episode(
        self, frame: Frame, i: int, score: float, p: float, alarm: bool, x: Floats, low: Floats, high: Floats
    ) -> Episode | None:
        number = int(frame.series[i])
        known = self._episodes.get(number)
        if known is None and not alarm:
            return None
        outside = np.maximum(np.maximum(low - x, x - high), 0.0) / np.maximum(high - low, 1e-12)
        share = outside / max(float(outside.sum()), 1e-12)
        blames = tuple(
            Blame(
                self._metrics[m].name,
                float(share[m]),
                float(x[m]),
                float(low[m]),
                float(high[m]),
                known.opened_ns if known else frame.time_ns,
            )
            for m in np.argsort(-share)[:TOP_BLAMES]
            if share[m] > 0
        )
        if known is None:
            self._number += 1
            new = Episode(
                self._number, number, Phase.OPENED, EpisodeKind.ANOMALY, frame.time_ns, frame.time_ns, score, p,
                tuple(e.name for e in self._evidences), blames,
            )  # fmt: skip
            self._episodes[number] = new
            return new
        phase = Phase.UPDATED if alarm else Phase.CLOSED
        new = Episode(
            known.number, number, phase, known.kind, known.opened_ns, frame.time_ns, max(score, known.score),
            min(p, known.p_value), known.detectors, blames or known.blames, known.recurrence,
        )  # fmt: skip
        if alarm:
            self._episodes[number] = new
            return new if score > 1.5 * known.score else None
        del self._episodes[number]
        return new
