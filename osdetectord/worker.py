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
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from osdetectord import log, messages, statm
from osdetectord.detection.engine import Engine
from osdetectord.detection.settings import Settings
from osdetectord.errors import ConfigError, WireError
from osdetectord.journal import Journal
from osdetectord.logger import get_logger
from osdetectord.metric import Metric
from osdetectord.notify import Notifier
from osdetectord.wire import Decoder, Message

_FIRST_PASSED = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
_READ_BYTES = 1 << 20
_SAVE_EVERY_S = 300.0
_COST_EVERY_S = 10.0
_IDLE_S = 5.0

logger = get_logger()


class Session:
    """One connection of the daemon: an engine, from ``start`` until the connection ends."""

    def __init__(self, connection: socket.socket, state_dir: Path | None, alive: Callable[[], None]) -> None:
        self._connection = connection
        self._state_dir = state_dir
        self._alive = alive
        self._engine: Engine | None = None
        self._metrics: tuple[Metric, ...] = ()
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
        engine = self._engine
        if engine is None:
            raise WireError(f"{message.type} before start")
        if message.type == "frame":
            self._send(messages.verdict(engine.step(messages.read_frame(message, self._metrics))))
            self._chores()
        elif message.type == "add":
            engine.add(*messages.read_add(message))
        elif message.type == "remove":
            engine.remove(messages.read_remove(message))
        elif message.type == "mark":
            engine.mark(*messages.read_mark(message))
        else:
            raise WireError(f"unknown message {message.type!r}")

    def _start(self, message: Message) -> None:
        self._metrics, interval_s, detection = messages.read_start(message)
        try:
            settings = Settings.parse(detection)
        except ConfigError as error:
            self._send(messages.refused(str(error)))
            return
        self._save()
        self._engine = Engine(settings, self._metrics, interval_s, self._state_dir)
        self._send(messages.ready(self._engine.evidences))

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
        if self._engine is not None and self._state_dir is not None:
            try:
                self._engine.save()
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
