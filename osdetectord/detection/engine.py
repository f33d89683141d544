"""The engine: samples of all watched processes in, scores and episodes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.anomaly import Episode
from osdetectord.detection.calibration import Calibration
from osdetectord.detection.commotion import Commotion
from osdetectord.detection.episodes import Episodes, Look
from osdetectord.detection.evidence import SLOW_INTERVAL_S, Evidence, Past, Rows, Setup
from osdetectord.detection.evidences import DEFAULT_ON, REGISTRY, evidence_class
from osdetectord.detection.fusion import Fusion
from osdetectord.detection.scale import Scale
from osdetectord.detection.settings import THRESHOLDS, Settings
from osdetectord.detection.signature import Catalogue
from osdetectord.detection.slots import CHUNK, Bools, Floats, SlotArrays, Slots
from osdetectord.detection.spot_threshold import SpotThreshold
from osdetectord.detection.store import Store
from osdetectord.detection.threshold import Threshold
from osdetectord.errors import ShapeError
from osdetectord.logger import get_logger
from osdetectord.metric import Metric
from osdetectord.sample import Frame
from osdetectord.verdict import EvidenceState, Verdict

GAP_INTERVALS = 3
"""Longer silences break what is smoothed over time."""
HISTORY_ROWS = 240
"""Learning is repeated as the past grows, up to so many quiet rows."""
MOST_FITS = 16
"""Series that learn anew in one frame; a thousand that start at once take turns."""
SETTLE_ROWS = 20
"""A restarted program, or one not heard of for a while, is given so many rows before an alarm."""
OUTSIDE = 3.0
"""Spreads from which a sample is outside what is expected."""
FOLLOW = 5e-3
"""How fast the expected range follows, spreads per row."""
SLOW = 0.1
THREADS = "process.threads"
BEYOND = 1e30
"""The most that counts, of a sample, a score or a blame."""
MOST_PROGRAMS = 256
"""Programs whose learnt state is kept in memory, where there is no directory for it."""
MOST_CATALOGUES = 1000
"""Programs whose episodes are known here; beyond so many, those that are watched no more are forgotten."""

logger = get_logger()


class _Life(SlotArrays):
    """What the engine itself keeps of each series."""

    name = "life"

    def __init__(self, metrics: int, rows: int) -> None:
        super().__init__()
        self.history = self.declare_for_some("history", (rows, metrics), np.float32)
        self.declare("seen", (), np.int64)
        self.declare("learnt", (), np.int64)
        self.declare("due", (), np.bool_)
        self.declare("ready", (), np.bool_)
        self.declare("last", (metrics,))
        self.declare("last_ns", (), np.int64)
        self.declare("settle", (), np.int64)
        self.declare("left_ns", (metrics,), np.int64)


class Engine:
    """Detection for any number of processes that share one set of metrics.

    Parameters
    ----------
    settings
        What to use and how quiet to be.
    metrics
        Columns of every frame.
    interval_s
        Seconds between frames.
    state_dir
        Where learnt state is kept over restarts; none keeps it in memory only.

    Where none of the evidences that are on can run here, nothing is ever learnt or judged.
    """

    def __init__(
        self, settings: Settings, metrics: tuple[Metric, ...], interval_s: float, state_dir: Path | None = None
    ) -> None:
        self._settings, self._metrics, self._interval_s = settings, metrics, interval_s
        self._store = Store(state_dir) if state_dir is not None else None
        self._warmup = max(30, round(settings.warmup_s / interval_s))
        self._history = max(HISTORY_ROWS, self._warmup)
        self._evidences, self.evidences = _make(settings, len(metrics), interval_s)
        slow = interval_s >= SLOW_INTERVAL_S
        self._scale = Scale(len(metrics), slow)
        names = tuple(evidence.name for evidence in self._evidences)
        self._calibration = Calibration([e.typical for e in self._evidences], 24.0, 1 / 2000 if slow else 1 / 600)
        self._fusion = Fusion(names, slow)
        self._commotion = None if slow else Commotion()
        self._threshold = _threshold(settings, interval_s)
        self._life = _Life(len(metrics), self._history)
        self._shares = np.flatnonzero([metric.sample_unit == "s/s" for metric in metrics])
        self._threads = next((at for at, metric in enumerate(metrics) if metric.name == THREADS), None)
        self._episodes = Episodes(tuple(metric.name for metric in metrics), names, 6 if slow else 15)
        self._slot_of: dict[int, int] = {}
        self._program: dict[int, str] = {}
        self._free: list[int] = []
        self._catalogues: dict[str, Catalogue] = {}
        self._learnt: dict[str, dict[str, NDArray[Any]]] = {}

    def add(self, series: int, program: str) -> None:
        """Watch one more series; what was learnt of ``program`` before makes it start warm."""
        if series in self._slot_of:
            return
        if not self._free:
            old = len(self._life["seen"])
            self._resize(old + min(max(4, old), CHUNK))
        slot = heappop(self._free)
        self._slot_of[series], self._program[series] = slot, program
        self._start_warm(slot, series, program)

    def remove(self, series: int) -> None:
        """Watch a series no more; what it taught about its program is kept."""
        if series in self._slot_of:
            if series == self._eldest()[self._program[series]]:
                self._keep(series)
            self._episodes.drop(series)
            slot = self._slot_of.pop(series)
            heappush(self._free, slot)
            del self._program[series]
            self._forget_catalogues()
            for part in self._parts():
                part.clear(np.array([slot]))
            used = max(self._slot_of.values(), default=-1) + 1
            if len(self._life["seen"]) >= used + 2 * CHUNK:
                self._resize(used + CHUNK)

    def _resize(self, capacity: int) -> None:
        for part in self._parts():
            part.resize(capacity)
        self._free = sorted(set(range(capacity)).difference(self._slot_of.values()))

    def mark(self, episode: int, useful: bool | None) -> None:
        """Take the user's word on an episode: its like stay quiet if it was not useful, and never if it was.

        None takes the word back.
        """
        catalogues = {series: self._catalogue(program) for series, program in self._program.items()}
        if not self._episodes.mark(episode, useful, catalogues):
            logger.info("no such episode to mark", episode=episode)

    def save(self) -> None:
        """Write what was learnt of every watched program to the state directory."""
        for series in sorted(self._eldest().values()):
            self._keep(series)

    def step(self, frame: Frame) -> Verdict:
        """Take one row of samples and say what it means for the series that are watched.

        Raises
        ------
        ShapeError
            If the frame's metrics are not this engine's.
        """
        if frame.metrics != self._metrics:
            raise ShapeError(f"frame has other metrics than the engine: {len(frame.metrics)}, {len(self._metrics)}")
        slots = np.array([self._slot_of.get(number, -1) for number in frame.series.tolist()], np.intp)
        watched = slots >= 0
        if not watched.all():
            # a row that waited while its series was removed
            frame = replace(frame, series=frame.series[watched], values=frame.values[watched])
            slots = slots[watched]
        life, count = self._life, len(slots)
        known = np.isfinite(frame.values)
        here = known.any(axis=1)
        x = np.where(known, np.clip(frame.values, -BEYOND, BEYOND), life["last"][slots])
        fresh = np.abs(frame.time_ns - life["last_ns"][slots]) > GAP_INTERVALS * self._interval_s * 1e9
        life["last"][slots[here]], life["last_ns"][slots[here]] = x[here], frame.time_ns

        score, p_value, alarm = np.zeros(count), np.ones(count), np.zeros(count, bool)
        low, high = np.full((2, count, len(self._metrics)), np.nan)
        ready = life["ready"][slots] & here
        episodes: list[Episode] = []
        if ready.any():
            at = slots[ready]
            now = x[ready]
            self._settle(at, now, fresh[ready])
            rows = Rows(at, now, self._scale.z(at, now), self._scale.load(at, now), fresh[ready])
            low[ready], high[ready] = self._expected(at, now)
            score[ready], p_value[ready], alarm[ready], u = self._judge(rows, frame.time_ns)
            episodes = self._narrate(frame, np.flatnonzero(ready), rows, score, p_value, alarm, u, low, high)
        quiet = here & (~ready | ~self._threshold.suspicious(slots, score))
        self._threshold.grow(slots[here & ~ready])
        if self._evidences:
            self._learn(slots[quiet], x[quiet])
        # one that waits for its turn to learn has seen more than it needs
        progress = np.where(life["ready"][slots], 1.0, np.minimum(life["seen"][slots] / self._warmup, 1.0))
        return Verdict(frame.series, score, p_value, progress, alarm, low, high, tuple(episodes))

    def _expected(self, slots: Slots, x: Floats) -> tuple[Floats, Floats]:
        """Return the expected range; no thread, if they are counted, spends more than all of its time on anything."""
        low, high = self._scale.expected(slots, x)
        if self._threads is None:
            return low, high
        most = np.maximum(1.0, x[:, [self._threads]])
        for end in (low, high):
            end[:, self._shares] = np.minimum(end[:, self._shares], most)
        return low, high

    def _parts(self) -> list[SlotArrays]:
        common = [self._commotion] if self._commotion is not None else []
        return [
            self._life,
            *self._scale.parts(),
            self._calibration,
            *common,
            *self._threshold.parts(),
            *self._evidences,
        ]

    def _settle(self, slots: Slots, x: Floats, fresh: Bools) -> None:
        """After a gap or a restart let staircases start where they are, and hold alarms for a while."""
        settle = self._life["settle"]
        settle[slots] = np.where(fresh, SETTLE_ROWS, np.maximum(settle[slots] - 1, 0))
        young = settle[slots] > 0
        if young.any():
            self._scale.restart(slots[young], x[young], fresh[young])

    def _judge(self, rows: Rows, time_ns: int) -> tuple[Floats, Floats, Bools, Floats]:
        raw = np.stack([evidence.score(rows) for evidence in self._evidences], axis=1)
        u = self._calibration.u(rows.slots, raw)
        combined, telling = self._fusion.combine(u)
        if self._commotion is not None:
            telling = np.minimum(telling, combined - self._commotion.common(rows, combined))
        held = self._life["settle"][rows.slots] > 0
        score, p_value, alarm = self._threshold.judge(rows.slots, combined, telling, held)
        rate = np.where(self._threshold.suspicious(rows.slots, score), SLOW, 1.0)
        for evidence in self._evidences:
            evidence.update(rows, rate)
        self._calibration.update(rows.slots, u, rate)
        self._scale.follow(rows.slots, rows.x, rate * FOLLOW)
        left = self._life["left_ns"]
        outside = np.abs(self._scale.deviation(rows.slots, rows.x)) > OUTSIDE
        left[rows.slots] = np.where(outside, np.where(left[rows.slots] > 0, left[rows.slots], time_ns), 0)
        return score, p_value, alarm, u

    def _narrate(
        self,
        frame: Frame,
        places: NDArray[np.intp],
        rows: Rows,
        score: Floats,
        p_value: Floats,
        alarm: Bools,
        u: Floats,
        low: Floats,
        high: Floats,
    ) -> list[Episode]:
        """Turn alarms into episodes; takes the user's silence into account in ``alarm``."""
        concerned = self._episodes.concerned()
        if not concerned and not alarm.any():
            return []
        numbers = frame.series.tolist()
        pick = [k for k, i in enumerate(places) if alarm[i] or numbers[i] in concerned]
        if not pick:
            return []
        some = rows.pick(np.array(pick))
        blame = self._blame(some, u[pick])
        deviation = self._scale.deviation(some.slots, some.x)
        lasting = self._threshold.lasting(some.slots)
        learnt = self._threshold.learnt(some.slots)[:, None] & self._scale.elsewhere(some.slots, some.x)
        stays = np.where(lasting[:, None], self._scale.moved(some.slots), learnt)
        told: list[Episode] = []
        for n, k in enumerate(pick):
            i, slot = int(places[k]), int(some.slots[n])
            series, catalogue = numbers[i], self._catalogue(self._program[numbers[i]])
            look = Look(
                time_ns=frame.time_ns,
                alarm=bool(alarm[i]),
                score=float(score[i]),
                p_value=float(p_value[i]),
                u=np.nan_to_num(u[k]),
                blame=blame[n],
                deviation=deviation[n],
                x=some.x[n],
                low=low[i],
                high=high[i],
                left_ns=self._life["left_ns"][slot],
            )
            told += self._episodes.look(series, look, catalogue)
            if self._episodes.silent(series):
                alarm[i] = False
            if lasting[n] or stays[n].any():
                told += self._episodes.accept(series, frame.time_ns, catalogue)
                self._scale.accept(some.slots[n : n + 1], stays[n : n + 1])
                self._threshold.calm(some.slots[n : n + 1])
        return told

    def _blame(self, rows: Rows, u: Floats) -> Floats:
        """Return shape ``(K, M)``: each metric's part in what the evidences say, weighted by how loud they are."""
        total = np.zeros(rows.z.shape)
        for e, evidence in enumerate(self._evidences):
            # what is beyond all numbers counts as the most there is, so that the rest keep their shares
            part = np.nan_to_num(evidence.blame(rows).astype(np.float64), posinf=BEYOND)
            loud = np.clip(np.nan_to_num(u[:, e]), 0.0, BEYOND)
            total += loud[:, None] * (part / np.maximum(part.sum(axis=1), 1e-300)[:, None])
        total *= self._scale.telling(rows.slots, rows.z)
        share: Floats = total / np.maximum(total.sum(axis=1), 1e-300)[:, None]
        return share

    def _learn(self, slots: Slots, x: Floats) -> None:
        """Take rows into the past, and learn again where it has doubled, of so many series at most in one frame."""
        life = self._life
        young = life["seen"][slots] < self._history
        slots, x = slots[young], x[young]
        place = life.history.lend(slots)
        life.history.rows[place, life["seen"][slots]] = x
        life["seen"][slots] += 1
        life["due"][slots] |= life["seen"][slots] >= np.where(
            life["ready"][slots], 2 * life["learnt"][slots], self._warmup
        )
        due = np.flatnonzero(life["due"])
        if len(due):
            length = int(life["seen"][due[0]])
            self._fit(due[life["seen"][due] == length][:MOST_FITS], length)

    def _fit(self, slots: Slots, length: int) -> None:
        past_x = self._life.history.rows[self._life.history.at(slots), :length].astype(np.float64)
        self._scale.learn(slots, past_x)
        past_z = self._scale.past_z(slots, past_x)
        past = Past(slots, past_x, past_z, self._scale.past_load(slots, past_z))
        for e, evidence in enumerate(self._evidences):
            if length >= evidence.min_rows:
                self._calibration.learn(slots, e, evidence.fit(past))
        self._life["ready"][slots], self._life["due"][slots] = True, False
        self._life["learnt"][slots] = length
        if 2 * length > self._history:
            # it was the last time: the past takes more room than all that was learnt from it
            self._life["seen"][slots] = self._history
            self._life.history.take_back(slots)

    def _catalogue(self, program: str) -> Catalogue:
        # those that were used last stand last
        self._catalogues[program] = self._catalogues.pop(program, Catalogue())
        return self._catalogues[program]

    def _forget_catalogues(self) -> None:
        if len(self._catalogues) > MOST_CATALOGUES:
            watched = set(self._program.values())
            unused = [program for program in self._catalogues if program not in watched]
            for program in unused[: len(self._catalogues) - MOST_CATALOGUES]:
                del self._catalogues[program]

    def _eldest(self) -> dict[str, int]:
        """Return which process of each program has been known longest: it speaks for the program."""
        eldest: dict[str, int] = {}
        for series in sorted(self._slot_of, key=lambda series: (-self._threshold.age(self._slot_of[series]), series)):
            eldest.setdefault(self._program[series], series)
        return eldest

    def _keep(self, series: int) -> None:
        """Keep what a series taught about its program."""
        slot, program = self._slot_of[series], self._program[series]
        if not self._life["ready"][slot]:
            return
        state = {f"{part.name}/{name}": a for part in self._parts() for name, a in part.state(slot).items()}
        state.update(self._catalogue(program).arrays(len(self._metrics)))
        if self._store is None:
            self._learnt.pop(program, None)
            self._learnt[program] = state
            if len(self._learnt) > MOST_PROGRAMS:
                del self._learnt[next(iter(self._learnt))]
            return
        try:
            self._store.write(program, self._meta(), state)
        except OSError as error:
            logger.warning("cannot save what was learnt", program=program, error=str(error))

    def _start_warm(self, slot: int, series: int, program: str) -> None:
        """Take over what is known of a program, if anything that fits."""
        state = self._learnt.get(program)
        if self._store is not None:
            found = self._store.read(program)
            if found is None or found[0] != {**self._meta(), "program": program}:
                return
            state = found[1]
        if state is None:
            return
        parts = self._parts()
        states = {part.name: _below(part.name, state) for part in parts}
        try:
            for part in parts:
                part.check(states[part.name])
            catalogue = Catalogue.from_arrays(state)
        except (ShapeError, KeyError, ValueError) as error:
            logger.info("learnt state does not fit, learning anew", program=program, reason=str(error))
            return
        for part in parts:
            part.restore(slot, states[part.name])
        self._catalogues.setdefault(program, catalogue)
        one = np.array([slot])
        self._threshold.calm(one)
        self._life["last_ns"][one] = np.iinfo(np.int64).min // 2
        self._life["left_ns"][one] = 0

    def _meta(self) -> dict[str, Any]:
        return {"metrics": [metric.name for metric in self._metrics], "interval_s": self._interval_s}


def _below(name: str, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {key[len(name) + 1 :]: array for key, array in state.items() if key.startswith(name + "/")}


def _threshold(settings: Settings, interval_s: float) -> Threshold:
    if settings.threshold == THRESHOLDS[0]:
        return Threshold(settings.budget, interval_s)
    return SpotThreshold(settings.budget, interval_s, drifts=settings.threshold == "dspot")


def _make(settings: Settings, metrics: int, interval_s: float) -> tuple[list[Evidence], tuple[EvidenceState, ...]]:
    """Return the evidences that are on, and the state of all."""
    made: list[Evidence] = []
    states: list[EvidenceState] = []
    memory_rows = round(settings.memory_s / interval_s)
    for name in REGISTRY:
        if name not in settings.evidences:
            why = "switched off in the settings" if name in DEFAULT_ON else "not switched on in the settings"
            states.append(EvidenceState(name, "off", why))
            continue
        cls = evidence_class(name)
        why = cls.absent()
        states.append(EvidenceState(name, "absent" if why else "on", why))
        if not why:
            made.append(cls(Setup(metrics, interval_s, memory_rows, settings.evidences[name])))
    return made, tuple(states)
