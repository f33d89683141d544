"""The detector's own process: frames in, verdicts out; holds no privilege and knows no kernel.

Run as ``python3 -m osdetectord.worker``: socket-activated by the service manager (``LISTEN_FDS``), or with
``--fd N`` on a connected socket that the daemon passed.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType

from osdetectord import heap, log, messages, statm
from osdetectord.detection.engine import Engine
from osdetectord.detection.settings import Settings
from osdetectord.errors import ConfigError, WireError
from osdetectord.journal import Journal
from osdetectord.logger import get_logger
from osdetectord.metric import Metric
from osdetectord.notify import Notifier
from osdetectord.verdict import Verdict
from osdetectord.wire import Decoder, Message

_FIRST_PASSED = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
_READ_BYTES = 1 << 20
_SAVE_EVERY_S = 300.0
_COST_EVERY_S = 10.0
_IDLE_S = 5.0

logger = get_logger()


class Session:
    """One connection of the daemon: an engine for each group of series, from ``start`` until the connection ends."""

    def __init__(self, connection: socket.socket, state_dir: Path | None, alive: Callable[[], None]) -> None:
        self._connection = connection
        self._state_dir = state_dir
        self._alive = alive
        self._engines: dict[str, Engine] = {}
        self._make: Callable[[str], Engine] | None = None
        self._groups: Mapping[str, tuple[Metric, ...]] = {}
        self._saved_s = time.monotonic()
        self._told_s = 0.0

    def run(self) -> None:
        """Serve until the daemon goes away; learnt state is saved then and every few minutes."""
        decoder = Decoder()
        self._connection.settimeout(_IDLE_S)
        try:
            while True:
                self._alive()
                try:
                    data = self._connection.recv(_READ_BYTES)
                except TimeoutError:
                    continue
                if not data:
                    return
                for message in decoder.feed(data):
                    self._handle(message)
                    self._alive()
        except WireError as error:
            logger.error("what the daemon sent is no frame: %s", error)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self._save()

    def _handle(self, message: Message) -> None:
        if message.type == "start":
            self._start(message)
            return
        if self._make is None:
            raise WireError(f"{message.type} before start")
        if message.type == "frame":
            group, frame = messages.read_frame(message, self._groups)
            self._send(messages.verdict(self._numbered(group, self._engine(group).step(frame)), group))
            self._chores()
        elif message.type == "add":
            series, program, group = messages.read_add(message)
            self._engine(group).add(series, program)
        elif message.type == "remove":
            series = messages.read_remove(message)
            for engine in self._engines.values():
                engine.remove(series)
        elif message.type == "mark":
            episode, useful = messages.read_mark(message)
            own, at = divmod(episode, len(self._groups))
            self._engine(list(self._groups)[at]).mark(own, useful)
        else:
            raise WireError(f"unknown message {message.type!r}")

    def _start(self, message: Message) -> None:
        groups, interval_s, detection = messages.read_start(message)
        try:
            settings = Settings.parse(detection)
        except ConfigError as error:
            self._send(messages.refused(str(error)))
            return
        self._save()
        self._groups, self._engines = groups, {}

        def make(group: str) -> Engine:
            # what is learnt of a program as a whole stands at the top
            state_dir = self._state_dir / group if self._state_dir is not None else None
            return Engine(settings, groups[group], interval_s, state_dir)

        self._make = make
        evidences = self._engine("").evidences
        if all(evidence.state != "on" for evidence in evidences):
            lacking = ", ".join(f"{one.name} ({one.why})" for one in evidences if one.state == "absent")
            logger.warning("nothing is judged: none of the evidences that are on can run here: %s", lacking)
        self._send(messages.ready(evidences))

    def _engine(self, group: str) -> Engine:
        """Return the engine of a group; one that nobody needs is not made."""
        if group not in self._groups or self._make is None:
            raise WireError(f"unknown group {group!r}")
        if group not in self._engines:
            self._engines[group] = self._make(group)
        return self._engines[group]

    def _numbered(self, group: str, verdict: Verdict) -> Verdict:
        """Make the numbers of episodes, which each engine gives from 1 on, those of one sequence."""
        count, at = len(self._groups), list(self._groups).index(group)
        return replace(verdict, episodes=tuple(replace(e, number=e.number * count + at) for e in verdict.episodes))

    def _send(self, data: bytes) -> None:
        self._connection.settimeout(None)
        self._connection.sendall(data)
        self._connection.settimeout(_IDLE_S)

    def _chores(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s > _COST_EVERY_S:
            self._told_s = now_s
            self._send(messages.cost(statm.rss_bytes(os.getpid()), time.process_time()))
        if now_s - self._saved_s > _SAVE_EVERY_S:
            self._save()

    def _save(self) -> None:
        self._saved_s = time.monotonic()
        if self._state_dir is None:
            return
        try:
            for engine in self._engines.values():
                engine.save()
        except OSError as error:
            logger.warning("what was learnt can't be saved in %s: %s", self._state_dir, error)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _state_dir() -> Path | None:
    path = os.environ.get("STATE_DIRECTORY")
    return Path(path) if path else None


def main() -> int:
    """Run the detector; returns the exit status."""
    parser = argparse.ArgumentParser(prog="osdetectord.worker", description=__doc__.splitlines()[0])
    parser.add_argument("--fd", type=int, help="a connected socket to serve")
    parser.add_argument("--state", type=Path, default=_state_dir(), help="directory for what is learnt")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    log.configure(Journal(), "info")
    heap.settle()
    notifier = Notifier()
    if args.fd is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon; the socket's end stops us
        with socket.socket(fileno=args.fd) as connection:
            Session(connection, args.state, notifier.alive).run()
        return 0
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        print("osdetectord.worker: started neither by its socket unit nor with --fd", file=sys.stderr)
        return 2
    with socket.socket(fileno=_FIRST_PASSED) as listener:
        listener.settimeout(_IDLE_S)
        notifier.ready("waiting for the daemon")
        while True:
            notifier.alive()
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                notifier.status("serving the daemon")
                Session(connection, args.state, notifier.alive).run()
            notifier.status("waiting for the daemon")


if __name__ == "__main__":
    sys.exit(main())
