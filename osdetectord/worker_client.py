"""The daemon's end of the detector's socket: connects, keeps connected, and never holds collection up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from osdetectord import messages
from osdetectord.errors import WireError
from osdetectord.logger import get_logger
from osdetectord.metric import Metric
from osdetectord.sample import Frame
from osdetectord.verdict import EvidenceState, Verdict
from osdetectord.wire import Decoder, Message

MAX_WAITING_FRAMES = 30
_READ_BYTES = 1 << 20
_RETRY_FIRST_S, _RETRY_LAST_S = 0.5, 10.0
_SILENCE_S = 60.0
"""A detector that owes verdicts for so long is given up and reached anew."""

logger = get_logger()


class WorkerListener(Protocol):
    """What the daemon hears of its detector."""

    def worker_ready(self, evidences: tuple[EvidenceState, ...]) -> None: ...
    def worker_verdict(self, verdict: Verdict, group: str) -> None: ...
    def worker_lost(self, why: str, asked: bool) -> None:
        """The detector is gone, with all that it had open; ``asked`` where we let it go ourselves."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a detector must know before the first frame.

    ``groups`` are the metrics of each group of series; the one without a name are the processes.
    """

    groups: Mapping[str, tuple[Metric, ...]]
    interval_s: float
    detection: Mapping[str, Any]


class WorkerClient:
    """Keeps one detector reachable and fed.

    Frames wait in a queue of :data:`MAX_WAITING_FRAMES`; when it is full the oldest is dropped and counted.
    What is watched is told anew at each connection, so a new detector lacks nothing but its memory.

    Parameters
    ----------
    path
        The detector's socket, or None to run it as a child of this process.
    state_dir
        Where a child keeps what it learns.
    """

    def __init__(self, path: str | None, state_dir: str | None, setup: Setup, listener: WorkerListener) -> None:
        self._path, self._state_dir, self._setup, self._listener = path, state_dir, setup, listener
        self._programs: dict[int, tuple[str, str]] = {}
        self._control: deque[bytes] = deque()
        self._frames: deque[bytes] = deque()
        self._owed: deque[float] = deque()
        self._wake = asyncio.Event()
        self._connected = False
        self._restart = False
        self.dropped_frames = 0
        self.state = "connecting"
        self.progress_s = time.monotonic()
        """CLOCK_MONOTONIC seconds at which the link last got on, whether or not a detector answers."""
        self.pid = 0
        self.rss_bytes = self.cpu_s = 0.0
        """What the detector says that it uses."""

    def add(self, series: int, program: str, group: str = "") -> None:
        """Have the detector watch a series of a group."""
        self._programs[series] = (program, group)
        self._tell(messages.add(series, program, group))

    def remove(self, series: int) -> None:
        """Have the detector forget a series."""
        self._programs.pop(series, None)
        self._tell(messages.remove(series))

    def mark(self, episode: int, useful: bool | None) -> None:
        """Hand on the user's word; None takes it back."""
        self._tell(messages.mark(episode, useful))

    def send(self, frame: Frame, group: str = "") -> None:
        """Queue one frame of a group; never waits."""
        if not self._connected:
            self.dropped_frames += 1
            return
        if len(self._frames) >= MAX_WAITING_FRAMES:
            self._frames.popleft()
            self.dropped_frames += 1
        self._frames.append(messages.frame(frame, group))
        self._wake.set()

    def reconfigure(self, setup: Setup) -> None:
        """Take new settings; the detector starts over with what it has saved."""
        self._setup = setup
        self._restart = True
        self._wake.set()

    async def run(self) -> None:
        """Connect and stay connected until cancelled."""
        pause_s = _RETRY_FIRST_S
        while True:
            began_s = time.monotonic()
            try:
                why = await self._session()
            except (OSError, WireError) as error:
                why = str(error)
            was_connected, self._connected = self._connected, False
            self._control.clear()
            self._frames.clear()
            self._owed.clear()
            asked, self._restart = self._restart, False
            self.state = "connecting" if asked else why
            if was_connected:
                self._listener.worker_lost(why, asked)
            if asked:
                continue
            if time.monotonic() - began_s > _RETRY_LAST_S:
                pause_s = _RETRY_FIRST_S
            end_s = time.monotonic() + pause_s
            while time.monotonic() < end_s:
                self.progress_s = time.monotonic()
                await asyncio.sleep(min(1.0, pause_s))
            pause_s = min(2 * pause_s, _RETRY_LAST_S)

    def _tell(self, data: bytes) -> None:
        if self._connected:
            self._control.append(data)
            self._wake.set()

    async def _session(self) -> str:
        if self._path is not None:
            reader, writer = await asyncio.wait_for(asyncio.open_unix_connection(self._path), _RETRY_LAST_S)
            return await self._serve(reader, writer)
        ours, theirs = socket.socketpair()
        with theirs:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "osdetectord.worker",
                *self._child_args(theirs.fileno()),
                pass_fds=[theirs.fileno()],
            )
        self.pid = child.pid
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            why = await self._serve(reader, writer)
        finally:
            self.pid = 0
            writer.close()
            await _end(child)
        code = child.returncode or 0
        return f"detector killed by {signal.Signals(-code).name}" if code < 0 else why

    def _child_args(self, descriptor: int) -> list[str]:
        state = ["--state", self._state_dir] if self._state_dir else []
        return ["--fd", str(descriptor), *state]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        setup = self._setup
        writer.write(messages.start(setup.groups, setup.interval_s, setup.detection))
        for series, (program, group) in self._programs.items():
            writer.write(messages.add(series, program, group))
        self._connected = True
        receiving = asyncio.ensure_future(self._receive(reader, setup.groups))
        try:
            while not receiving.done() and not self._restart:
                self.progress_s = time.monotonic()
                self._check_silence()
                while self._control:
                    writer.write(self._control.popleft())
                if self._frames and not self._owed:
                    # one frame is under way at a time: what waits may be dropped, what is sent may not
                    self._owed.append(time.monotonic())
                    writer.write(self._frames.popleft())
                drained = asyncio.ensure_future(writer.drain())
                await asyncio.wait({drained, receiving}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                drained.cancel()
                self._wake.clear()
                if self._control or (self._frames and not self._owed):
                    continue
                woken = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait({woken, receiving}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
            return receiving.result() if receiving.done() else "settings changed"
        finally:
            receiving.cancel()
            writer.close()

    def _check_silence(self) -> None:
        if self._owed and time.monotonic() - self._owed[0] > _SILENCE_S:
            raise WireError(f"no verdict for {_SILENCE_S:.0f} s")

    async def _receive(self, reader: asyncio.StreamReader, groups: Mapping[str, tuple[Metric, ...]]) -> str:
        decoder = Decoder()
        while data := await reader.read(_READ_BYTES):
            for message in decoder.feed(data):
                self._handle(message, groups)
        return "connection closed by the detector"

    def _handle(self, message: Message, groups: Mapping[str, tuple[Metric, ...]]) -> None:
        if message.type == "verdict":
            group, verdict = messages.read_verdict(message, groups)
            if self._owed:
                self._owed.popleft()
            self._wake.set()
            self._listener.worker_verdict(verdict, group)
        elif message.type == "ready":
            self.state = "connected"
            self._listener.worker_ready(messages.read_ready(message))
        elif message.type == "cost":
            self.rss_bytes, self.cpu_s = messages.read_cost(message)
        elif message.type == "refused":
            raise WireError(f"settings refused: {messages.read_refused(message)}")
        else:
            raise WireError(f"unknown message {message.type!r} from the detector")


async def _end(child: asyncio.subprocess.Process) -> None:
    """Let the child save and go; force it if it does not."""
    try:
        await asyncio.wait_for(child.wait(), 5.0)
    except TimeoutError:
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
