"""The daemon: puts collection, detection, the bus and the journal together, and keeps them going."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from osdetectord import __version__, log, record, wall
from osdetectord.allocating import Allocating
from osdetectord.anomalies import Anomalies
from osdetectord.bus.server import BusServer
from osdetectord.collectors.registry import ALWAYS
from osdetectord.config import Config, load
from osdetectord.core import AnomalyView, Caller, DetectorView, HookView, ManagerView, ProbeView, TargetView
from osdetectord.cost import Cost
from osdetectord.detection.settings import Settings
from osdetectord.errors import ConfigError, InvalidArgument, OsdetectorError
from osdetectord.evidence import Evidence
from osdetectord.happenings import Happenings
from osdetectord.history import History
from osdetectord.history_file import PARTS, HistoryFile, split
from osdetectord.inside import Inside
from osdetectord.instruments import Instruments
from osdetectord.journal import Journal
from osdetectord.keeping import Keeping
from osdetectord.logger import get_logger
from osdetectord.losses import Losses
from osdetectord.matching import Matcher
from osdetectord.measured import GROUPS
from osdetectord.notify import Notifier
from osdetectord.noting import Noting
from osdetectord.parts import Parts
from osdetectord.probing.allocations import Allocations
from osdetectord.probing.probes import Probes
from osdetectord.pulse import Pulse
from osdetectord.record import Record
from osdetectord.recording import Recording
from osdetectord.remembering import Remembering
from osdetectord.sample import Frame
from osdetectord.sampler import Exited, ProcessSeries, Sampler, Tick
from osdetectord.sharing import Share
from osdetectord.target import SpecKind
from osdetectord.ticker import Ticker
from osdetectord.trouble import Troubles
from osdetectord.verdict import EvidenceState, Verdict
from osdetectord.watching import Target, Watching
from osdetectord.worker_client import Setup, WorkerClient

TOLD_AFTER_S = 3.0
"""Age at which the detector is told of a process; younger ones are counted, not judged."""
CHORES_S = 10.0
HISTORY = "history.sqlite"

logger = get_logger()


@dataclass(frozen=True, slots=True)
class Options:
    """How the daemon was started.

    Parameters
    ----------
    config_dir
        Where the configuration stands.
    state_dir
        Where watches, history and what a child detector learns are kept; None keeps nothing.
    logs_dir
        Where samples are recorded as CSV files if the configuration wants that; None records nothing.
    bus_address
        The bus, or None for the system bus.
    detector_socket
        Where the detector listens, or None to run it as a child.
    """

    config_dir: Path
    state_dir: Path | None
    logs_dir: Path | None
    bus_address: str | None
    detector_socket: str | None


class Daemon:
    """The composition of everything; see :class:`osdetectord.core.Core` for what the bus may ask of it.

    Parameters
    ----------
    options
        How it was started.
    config
        The configuration at the start.
    sampler
        Collection, loaded and attached.
    journal
        Where records go.
    """

    def __init__(self, options: Options, config: Config, sampler: Sampler, journal: Journal) -> None:
        self._options, self._config, self._sampler, self._journal = options, config, sampler, journal
        self._notifier = Notifier()
        self._bus = BusServer(self, options.bus_address)
        names = tuple(metric.name for metric in sampler.metrics)
        self._units = {metric.name: metric.sample_unit for metric in sampler.metrics}
        """By name: of processes' metrics and, later, those of their parts."""
        path = options.state_dir / HISTORY if options.state_dir else None
        file, trouble = HistoryFile.open(path)
        self._history = History(file, names)
        if trouble:
            self._tell(Record(trouble, record.WARNING, {"MESSAGE_ID": record.LOSSES}))
        self._watching: Watching
        self.allocations: Allocating
        self._happenings = Happenings()
        attached = Noting(self._happenings, self._bus)
        # a process may be watched for a target, for a probe, for its allocations, or for all of them
        self.instruments = Instruments(
            Probes(sampler, time.monotonic_ns()),
            Share(sampler, lambda series: series in self._watching.members or self.allocations.holds(series)),
            self._pids,
            attached,
            self._tell,
        )
        self.allocations = Allocating(
            Allocations(sampler),
            Share(sampler, lambda series: series in self._watching.members or self.instruments.holds(series)),
            self._pids,
            attached,
            self._tell,
        )
        self._for_targets = Share(sampler, lambda one: self.instruments.holds(one) or self.allocations.holds(one))
        self._watching = Watching(self._for_targets, Matcher(), self._bus, names, config.max_targets)
        self.inside = Inside(sampler, self._watching.pids)
        self._evidence = Evidence(sampler, self._probes, self._happenings, self._evidence_of_parts)
        self._anomalies = Anomalies(self._history, self._units, self._tell, self._bus, self._evidence)
        state_dir = str(options.state_dir / "detector") if options.state_dir else None
        self._worker = WorkerClient(options.detector_socket, state_dir, self._setup(), self)
        self._parts = Parts(
            self._worker, self._units, self._anomalies.ended, lambda: self._bus.manager_changed(["Units"])
        )
        self._ticker = Ticker(sampler, config.interval_s, self._on_tick)
        self._untaken = Troubles("%s are not taken in", "%s are taken in again")
        self._untold = Troubles("what became of %s is not told", "what becomes of %s is told again")
        self._evidences: tuple[EvidenceState, ...] = ()
        self._status = ""
        self._stop = asyncio.Event()
        self._cost = Cost(self._parts_cost)
        # the disk may be slow; the loop and the caller of Watch are not to wait for it
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._recording = Recording(options.logs_dir / "csv", names) if options.logs_dir else None
        self._remembering = Remembering(options.state_dir, self._watching, self._disk, self._tell)
        self._pulse = Pulse(self._notifier, self._ticker, self._worker, self._bus.ping)
        self._keeping = Keeping(self._history, self._recording, self._disk)
        self._losses = Losses(
            sampler.lost,
            lambda: self._bus.lost,
            self.instruments.lost,
            self.allocations.lost,
            self._keeping.lost,
            lambda: {"detector.frames": self._worker.dropped_frames, "collector.ticks": self._ticker.skipped},
        )

    # ---- life

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises
        ------
        OsdetectorError
            If the bus can't be reached, or is lost.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(self._reload_by_signal()))
        for hook in self._hooks():
            if hook.rank != 0:
                logger.warning("%s is served by %s: %s", hook.collector, hook.hook or "nothing", hook.why)
        await self._bus.start()
        for view in self._history.close_open(wall.now_us()):
            self._tell(record.closed(view, "osdetectord was away at its end"))
        await self._remembering.restore()
        self._mind_strangers()
        self._tell_status()
        self._ticker.start()
        tasks = [
            asyncio.ensure_future(part)
            for part in (
                self._worker.run(),
                self._chores(),
                self._pulse.run(),
                self._bus_lost(),
                self._evidence.run(),
                self._anomalies.run(),
                self.instruments.run(),
                self.allocations.run(),
            )
        ]
        stopped = asyncio.ensure_future(self._stop.wait())
        self._cost.begin()
        self._notifier.ready(self._say_status())
        logger.info("ready: %s", self._say_status())
        try:
            done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()
        finally:
            self._notifier.stopping()
            self._ticker.stop()
            for task in (stopped, *tasks):
                task.cancel()
            await asyncio.gather(stopped, *tasks, return_exceptions=True)
            self.instruments.close()
            self._remembering.save()
            self._keeping.finish(self._config)
            self._disk.shutdown()
            self._history.close()
            await self._bus.stop()
            self._sampler.close()

    async def _bus_lost(self) -> None:
        await self._bus.wait_closed()
        if not self._stop.is_set():
            raise OsdetectorError("the connection to the bus is lost")

    async def _chores(self) -> None:
        while True:
            await asyncio.sleep(CHORES_S)
            try:
                await self._do_chores()
            except Exception:  # like a tick: what fails today is tried again in a moment, and collection goes on
                logger.exception("a chore failed")

    async def _do_chores(self) -> None:
        await self._watching.refresh_units()
        for target in self._watching.rescan():
            self._changed(target)
        self._remembering.save()
        self._keeping.tidy(self._config)
        lost = self._losses.news()
        if lost is not None:
            self._tell(lost)
            self._bus.manager_changed(["Lost"])
        self._cost.measure()
        self._bus.manager_changed(["SelfCost"])

    # ---- told by the collectors

    def _on_tick(self, tick: Tick) -> None:
        now_us = wall.now_us()
        # told once, however many processes came and went: a target's signal has all of its processes in it
        changed: dict[int, Target] = {}
        members = self._watching.members
        for child in tick.started:
            with self._untold.apart(f"process {child.info.process.pid}"):
                for target in self._watching.started(child):
                    self._happenings.note(now_us, "started", child.info.comm, child.info.process.pid, target.number)
                    changed[target.number] = target
        for now in tick.execed:
            with self._untold.apart(f"process {now.info.process.pid}"):
                self._execed(now, now_us)
        changed.update({target.number: target for target in self._watching.appeared(tick.strangers)})
        # who ended is told only once
        with self._untaken.apart("samples"):
            self._take(tick.frame)
        for end in tick.exited:
            with self._untold.apart(f"process {end.process.pid}"):
                changed.update({target.number: target for target in self._exited(end)})
        for target in changed.values():
            with self._untold.apart(str(target.spec)):
                if self._watching.is_over(target):
                    self._remove(target)
                else:
                    self._changed(target)
        self.instruments.ticked(tick)
        self.allocations.ticked(tick)
        # those that the kernel took in before their parents were let go
        strays = [child.series for child in tick.started if child.series not in members]
        self._for_targets.remove_all(strays)

    def _take(self, frame: Frame) -> None:
        members = self._watching.members
        now_s, now_us = time.monotonic(), wall.of_monotonic_us(frame.time_ns)
        judged, watched = [], []
        for at, series in enumerate(frame.series.tolist()):
            member = members.get(series)
            if member is None:
                continue
            member.row = frame.values[at]
            watched.append(at)
            if not member.told and now_s - member.since_s >= TOLD_AFTER_S:
                member.told = True
                self._worker.add(series, member.program)
            if member.told:
                judged.append(at)
                if self._recording and self._config.csv:
                    self._recording.add(member.process, member.comm, now_us, frame.values[at].tolist())
        watched_rows = np.array(watched, np.intp)
        self._evidence.take(
            now_us, replace(frame, series=frame.series[watched_rows], values=frame.values[watched_rows])
        )
        if judged:
            part = np.array(judged)
            self._worker.send(replace(frame, series=frame.series[part], values=frame.values[part]))
        self._parts.take(frame, now_us, (*self.instruments.measured(), *self.allocations.measured()), members)
        self._keeping.take(now_us, self._watching)

    def _execed(self, now: ProcessSeries, now_us: int) -> None:
        member = self._watching.execed(now)
        if member is None:
            return
        for target in self._watching.targets_of(now.series):
            self._happenings.note(now_us, "executed", now.info.comm, now.info.process.pid, target.number)
        if member.told:
            self._worker.remove(member.series)
            self._worker.add(member.series, member.program)

    def _exited(self, end: Exited) -> list[Target]:
        """Note the end of a process; returns the targets that it was of."""
        member = self._watching.members.get(end.series)
        for series in (end.series, *(member.parts if member is not None else ())):
            self._anomalies.ended(series, "process ended")
        how = f"{end.comm} {record.ending(end.code, end.signal, end.core)}"
        lost = self._watching.exited(end)
        for target, is_root in lost:
            self._happenings.note(wall.now_us(), "ended", how, end.process.pid, target.number)
            if is_root:
                spec = str(target.spec)
                self._tell(record.exited(spec, end.comm, end.process.pid, end.code, end.signal, end.core))
                details = {
                    "Pid": end.process.pid,
                    "Comm": end.comm,
                    "Code": end.code,
                    "Signal": end.signal,
                    "Spec": spec,
                }
                self._bus.target_exited(target.number, details)
        if member is not None and member.told:
            self._worker.remove(end.series)
        return [target for target, _ in lost]

    # ---- told by the detector

    def worker_ready(self, evidences: tuple[EvidenceState, ...]) -> None:
        """Note which evidences take part."""
        self._evidences = evidences
        self._bus.manager_changed(["Detectors", "Worker"])

    def worker_verdict(self, verdict: Verdict, group: str) -> None:
        """Note scores, and tell what began and ended."""
        if group:
            before = self._watching.states()
            self._parts.heard(verdict)
            changed = self._watching.changed_since(before)
        else:
            changed = self._watching.heard(verdict)
        for episode in verdict.episodes:
            whose = self._parts.whose(episode) if group else (self._watching.members.get(episode.series), episode)
            member, told = whose or (None, episode)
            targets = self._watching.targets_of(member.series) if member is not None else []
            if member is not None and targets:
                expected = (member.low, member.high) if member.low.size else None
                self._anomalies.heard(told, member, targets[0], expected)
        for number in changed:
            self._changed(self._watching.get(number))

    def worker_lost(self, why: str, asked: bool) -> None:
        """Close what is open, and say so where nobody asked for it."""
        self._evidences = ()
        self._anomalies.detector_lost("settings changed" if asked else "detector lost")
        self._happenings.note(wall.now_us(), "detector", "settings changed" if asked else f"lost: {why}")
        if not asked:
            text = f"the detector is lost ({why}); collection goes on, it is started again"
            self._tell(Record(text, record.WARNING, {"MESSAGE_ID": record.WORKER_LOST}))
        self._bus.manager_changed(["Detectors", "Worker"])

    # ---- asked by the bus (core.Core)

    def manager(self) -> ManagerView:
        """Return the daemon as a whole."""
        detectors = tuple(DetectorView(e.name, e.state, e.why) for e in self._evidences)
        return ManagerView(
            __version__,
            self._hooks(),
            detectors,
            self._losses.counts(),
            self._cost.values(),
            self._worker.state,
            dict(self._units),
        )

    def targets(self) -> Sequence[TargetView]:
        """Return all targets."""
        return [self._watching.view(target) for target in self._watching]

    def target(self, number: int) -> TargetView:
        """Return one target."""
        return self._watching.view(self._watching.get(number))

    def anomaly(self, number: int) -> AnomalyView:
        """Return one anomaly."""
        return self._anomalies.get(number)

    async def watch(self, spec: str, options: Mapping[str, object], asked_by: Caller) -> int:
        """Watch a target; one that is watched already is returned as it is."""
        unknown = sorted(set(options) - {"runtime", "children"})
        if unknown:
            raise InvalidArgument(f"unknown option {unknown[0]!r}, expected runtime or children")
        for key, value in options.items():
            if not isinstance(value, bool):
                raise InvalidArgument(f"option {key} is {value!r}, expected a boolean")
        follow = bool(options.get("children", self._config.follow_children))
        target, new = await self._watching.watch(spec, not options.get("runtime", False), follow)
        if new:
            logger.info("watching %s as target %d, asked by uid %d", target.spec, target.number, asked_by.uid)
            self._happenings.note(wall.now_us(), "watched", str(target.spec), 0, target.number)
            self._mind_strangers()
            self._remembering.save()
            self._bus.target_added(self._watching.view(target))
            self._bus.manager_changed(["Targets"])
            self._tell_status()
        return target.number

    async def unwatch(self, target: int, asked_by: Caller) -> None:
        """Watch a target no more."""
        found = self._watching.get(target)
        logger.info("watching %s no more, asked by uid %d", found.spec, asked_by.uid)
        self._happenings.note(wall.now_us(), "unwatched", str(found.spec), 0, target)
        self._remove(found)

    def list_anomalies(
        self, since_us: int, until_us: int, target: int | None, only_open: bool, limit: int
    ) -> Sequence[AnomalyView]:
        """Return anomalies, newest first."""
        return self._history.anomalies(since_us, until_us or 1 << 62, target, only_open, limit)

    async def series(
        self, target: int, metrics: Sequence[str], since_us: int, max_points: int
    ) -> Mapping[str, tuple[Sequence[int], Sequence[float]]]:
        """Return samples of a target, summed over its processes."""
        if not self._history.knows(target):
            self._watching.get(target)  # it has none yet, or there is no such target
        known = [metric.name for metric in self._sampler.metrics]
        for name in metrics:
            metric, part = split(name)
            if metric not in self._units and metric not in self._history.names():
                raise InvalidArgument(f"no metric {metric!r}")
            if part not in PARTS:
                raise InvalidArgument(f"{name!r} ends with {part!r}, expected one of {', '.join(filter(None, PARTS))}")
        return await self._keeping.series(target, metrics or known, since_us, max_points)

    async def evidence(self, anomaly: int) -> bytes:
        """Return what an anomaly rests on, as JSON."""
        return await self._anomalies.evidence(anomaly)

    async def mute(self, target: int, seconds: int, asked_by: Caller) -> None:
        """Tell nothing of a target for a while; 0 ends it."""
        found = self._watching.get(target)
        found.muted_until_us = wall.now_us() + seconds * 1_000_000 if seconds else 0
        logger.info("%s is muted for %d s, asked by uid %d", found.spec, seconds, asked_by.uid)
        self._remembering.save()
        self._bus.target_changed(self._watching.view(found), ["MutedUntil"])

    async def feedback(self, anomaly: int, useful: bool, asked_by: Caller) -> None:
        """Take the user's word on an anomaly."""
        self._judge(anomaly, useful)
        logger.info("anomaly %d is %s, says uid %d", anomaly, "useful" if useful else "a false alarm", asked_by.uid)

    async def forget_feedback(self, anomaly: int, asked_by: Caller) -> None:
        """Take the user's word on an anomaly back."""
        self._judge(anomaly, None)
        logger.info("what was said of anomaly %d is taken back by uid %d", anomaly, asked_by.uid)

    async def reload(self, asked_by: Caller) -> None:
        """Read the configuration anew; a wrong one leaves the old one in force."""
        self._notifier.reloading()
        try:
            config = load(self._options.config_dir, Settings.parse)
        except ConfigError as error:
            fields = {"MESSAGE_ID": record.CONFIG_REFUSED}
            self._tell(Record(f"configuration refused, the old one stays in force: {error}", record.ERROR, fields))
            raise
        finally:
            self._notifier.ready(self._say_status())
        old, self._config = self._config, config
        log.configure(self._journal, config.log_level)
        self._watching.max_targets = config.max_targets
        self._ticker.interval_s = config.interval_s
        if (old.detection, old.interval_s) != (config.detection, config.interval_s):
            self._worker.reconfigure(self._setup())
        self._happenings.note(wall.now_us(), "reloaded", "the configuration of osdetectord")
        logger.info("configuration reloaded, asked by uid %d", asked_by.uid)

    async def _reload_by_signal(self) -> None:
        with suppress(ConfigError):  # told in the journal
            await self.reload(Caller("SIGHUP", 0))

    # ---- within

    def _setup(self) -> Setup:
        return Setup({"": self._sampler.metrics, **GROUPS}, self._config.interval_s, self._config.detection)

    def _hooks(self) -> tuple[HookView, ...]:
        return (*self._sampler.hooks, self.instruments.hook())

    def _pids(self, target: int, children: bool) -> list[int]:
        """Return the pids of a target's processes, with or without those that are only children."""
        found = self._watching.get(target)
        return [self._watching.members[series].process.pid for series in (found.members if children else found.roots)]

    def _judge(self, anomaly: int, useful: bool | None) -> None:
        episode = self._anomalies.judge(anomaly, useful)
        if episode is not None:
            self._worker.mark(episode, useful)
        else:
            logger.info("the detector does not remember anomaly %d: the word on it changes no detection", anomaly)

    def _probes(self) -> list[ProbeView]:
        return [view for view in self.instruments.views() if isinstance(view, ProbeView)]

    def _parts_cost(self) -> dict[str, float]:
        run_time_ns = self._sampler.run_time_ns()
        return {
            "tick_s": self._ticker.tick_s,
            "worker_rss_bytes": self._worker.rss_bytes,
            "worker_cpu_s": self._worker.cpu_s,
            **({} if run_time_ns is None else {"bpf_s": run_time_ns / 1e9}),
        }

    def _tell(self, entry: Record) -> None:
        self._journal.send(entry.message, entry.priority, entry.fields)

    def _remove(self, target: Target) -> None:
        for series in self._watching.remove(target.number):
            self._anomalies.ended(series, "no longer watched")
            self._worker.remove(series)
        self._mind_strangers()
        self._remembering.save()
        self.instruments.target_removed(target.number)
        self.allocations.target_removed(target.number)
        self._bus.target_removed(target.number)
        self._bus.manager_changed(["Targets"])
        self._tell_status()

    def _changed(self, target: Target) -> None:
        self._bus.target_changed(self._watching.view(target), ["State", "Processes"])
        self._tell_status()

    def _evidence_of_parts(self, series: int, times_us: Sequence[int]) -> Mapping[str, Any]:
        """Return what the parts of a process did at these instants."""
        member = self._watching.members.get(series)
        return {} if member is None else self._parts.evidence(member, times_us)

    def _say_status(self) -> str:
        states = [self._watching.state(target) for target in self._watching]
        told = [
            f"{states.count(state)} {state}"
            for state in ("anomalous", "normal", "learning", "waiting")
            if state in states
        ]
        processes = len(self._watching.members)
        targets = f"{len(states)} target{'s' if len(states) != 1 else ''}"
        many = f"{processes} process{'es' if processes != 1 else ''}"
        return f"watching {targets} ({many}){': ' if told else ''}{', '.join(told)}"

    def _mind_strangers(self) -> None:
        """Have the kernel tell of new programs while a target may match one."""
        self._sampler.report_strangers(any(target.spec.kind is not SpecKind.PID for target in self._watching))

    def _tell_status(self) -> None:
        status = self._say_status()
        if status != self._status:
            self._status = status
            self._notifier.status(status)


async def serve(options: Options, config: Config, journal: Journal) -> None:
    """Load, attach, and serve until told to stop; raises :class:`OsdetectorError` where that can't be."""
    sampler = await asyncio.to_thread(
        lambda: Sampler.open(
            max_processes=config.max_processes,
            max_threads=config.max_threads,
            collectors=(*ALWAYS, *(["packets"] if config.packets else [])),
            cpu=config.cpu,
        )
    )
    daemon = Daemon(options, config, sampler, journal)
    await daemon.run()
