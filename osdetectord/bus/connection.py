"""One connection to a message bus that neither starves its event loop nor fills the memory.

Per turn of the loop at most :data:`READ_BYTES` are read and :data:`SLICE_S` is spent on serving, so that timers, the
watchdog's among them, get their turn in any flood.  Calls wait in a :class:`~osdetectord.bus.fair.FairQueue`; one that
is too much is refused after a look at its header only.  What waits to be written is bounded: above
:data:`WRITE_HIGH` nothing is read or served, above :data:`WRITE_MAX` signals are dropped and counted.  A caller that
does not read its answers is not served until it does (:mod:`osdetectord.bus.unread`).
"""

from __future__ import annotations

import array
import asyncio
import itertools
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from osdetectord.bus import adapter, header
from osdetectord.bus.fair import FairQueue
from osdetectord.bus.header import Header, Kind
from osdetectord.bus.unread import ASK, Unread
from osdetectord.errors import OsdetectorError

READ_BYTES = 1 << 16
SLICE_S = 0.004
MAX_MESSAGE = 1 << 20
"""Bytes of the largest message that is taken; the rest of a longer one is thrown away as it comes."""
WRITE_HIGH = 1 << 20
WRITE_LOW = 1 << 18
WRITE_MAX = 1 << 24
PER_SENDER = 64
IN_ALL = 4096
CONNECT_S = 10.0
ASK_S = 3600.0
_MAX_FDS = 253  # SCM_MAX_FD, include/net/scm.h
_IOV = 64
_UNIX_FD_GAP = array.array("i").itemsize * _MAX_FDS

BUS = "org.freedesktop.DBus"
BUS_PATH = "/org/freedesktop/DBus"
_GONE = {f"{BUS}.Error.{name}" for name in ("NameHasNoOwner", "NoReply", "ServiceUnknown")}
LIMITS_EXCEEDED = "org.freedesktop.DBus.Error.LimitsExceeded"


class BusGone(OsdetectorError):
    """There is no connection to the bus, or no longer."""


class CallError(Exception):
    """A call of ours was answered with an error.

    Parameters
    ----------
    name
        D-Bus name of the error.
    text
        Its message.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


@dataclass(slots=True)
class Call:
    """A call that arrived: its header, and the bytes of its arguments."""

    header: Header
    body: bytes


Serve = Callable[[Call], Coroutine[Any, Any, None] | None]
"""Answers a call, at once or in a coroutine; never raises."""


class Connection:
    """A connection on which a name is served.  Everything happens in the event loop; nothing blocks it."""

    def __init__(self, serve: Serve, signalled: Callable[[Header, bytes], None]) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._serve = serve
        self._signalled = signalled
        self._loop = asyncio.get_running_loop()
        self._serials = itertools.count(1)
        self._received = bytearray()
        self._skip = 0
        self._calls: FairQueue[Call] = FairQueue(PER_SENDER, IN_ALL)
        self._unread = Unread()
        self._asked: set[str] = set()
        self._serving = False
        self._reading = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: dict[int, tuple[asyncio.Future[list[Any]], str]] = {}
        self._out: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._out_bytes = 0
        self._flush_due = False
        self._writer_on = False
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.unique_name = ""
        self.refused_calls = 0
        self.dropped_signals = 0
        self.unreadable = 0

    async def open(self, address: str) -> None:
        """Connect, authenticate and say hello; once.

        Raises
        ------
        BusGone
            Where no bus answers at the address.
        InvalidArgument
            Where the address is none.
        """
        try:
            adapter.check_version()
            async with asyncio.timeout(CONNECT_S):
                await _connect(self._sock, adapter.unix_address(address))
                await _authenticate(self._sock)
                self._read_more()
                (self.unique_name,) = await self.call(BUS, BUS_PATH, BUS, "Hello", returns="s")
        except (OSError, CallError, TimeoutError) as error:
            reason = "it does not answer" if isinstance(error, TimeoutError) else str(error)
            self.lose(reason)
            raise BusGone(f"no message bus at {address}: {reason}") from error
        except BaseException:
            self.lose("it was given up")
            raise

    # --- our own calls and signals

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *values: object,
        returns: str = "",
        timeout_s: float = CONNECT_S,
        start: bool = True,
    ) -> list[Any]:
        """Call a method and return the values of its answer, which must be of signature ``returns``.

        ``start`` says whether the bus may start the service that is called.

        Raises
        ------
        CallError
            If an error, or something of another signature, is answered.
        TimeoutError
            If nothing is answered in time.
        BusGone
            If the connection is, or gets, lost.
        """
        self._check_open()
        serial = next(self._serials)
        body = adapter.encode(signature, values)
        head = header.encode(
            Kind.CALL,
            serial,
            flags=0 if start else header.NO_AUTO_START,
            path=path,
            interface=interface,
            member=member,
            destination=destination,
            signature=signature,
            body_size=len(body),
        )
        waiter: asyncio.Future[list[Any]] = self._loop.create_future()
        self._waiters[serial] = (waiter, returns)
        try:
            self._write(head + body)
            async with asyncio.timeout(timeout_s):
                return await waiter
        finally:
            self._waiters.pop(serial, None)

    def emit(self, path: str, interface: str, member: str, signature: str, body: bytes) -> None:
        """Broadcast a signal; it is dropped and counted while too much waits to be written."""
        if self._closed.done() or self._out_bytes > WRITE_MAX:
            self.dropped_signals += 1
            return
        head = header.encode(
            Kind.SIGNAL,
            next(self._serials),
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body_size=len(body),
        )
        self._write(head + body)

    # --- answers

    def reply(self, to: Header, signature: str = "", body: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        """Answer a call; the descriptors become the connection's, which closes them once sent."""
        if self._closed.done() or not to.wants_reply:
            _close(fds)
            return
        head = header.encode(
            Kind.RETURN,
            next(self._serials),
            flags=header.NO_REPLY_EXPECTED,
            reply_serial=to.serial,
            destination=to.sender,
            signature=signature,
            unix_fds=len(fds),
            body_size=len(body),
        )
        self._write(head + body, fds)
        self._count_answer(to.sender, len(head) + len(body))

    def refuse(self, to: Header, name: str, text: str) -> None:
        """Answer a call with an error."""
        if self._closed.done() or not to.wants_reply:
            return
        body = header.error_body(text)
        head = header.encode(
            Kind.ERROR,
            next(self._serials),
            flags=header.NO_REPLY_EXPECTED,
            error_name=name,
            reply_serial=to.serial,
            destination=to.sender,
            signature="s",
            body_size=len(body),
        )
        self._write(head + body)
        self._count_answer(to.sender, len(head) + len(body))

    # --- callers that do not read

    def _count_answer(self, caller: str, size: int) -> None:
        if caller == self.unique_name or not self._unread.sent(caller, size):
            return
        if self._unread.too_much(caller):
            self._calls.hold(caller)
        if caller not in self._asked:
            self._asked.add(caller)
            self._keep(self._loop.create_task(self._ask(caller)))

    async def _ask(self, caller: str) -> None:
        """Wait until the caller has read most of what it was sent, or is gone."""
        while (size := self._unread.of(caller)) > ASK:
            try:
                await self.call(caller, "/", "org.freedesktop.DBus.Peer", "Ping", timeout_s=ASK_S, start=False)
            except CallError as error:  # which is an answer too, unless the bus gives it for a caller that is gone
                if error.name in _GONE:
                    size = self._unread.of(caller)
                    self._calls.forget(caller)
            except TimeoutError:
                pass  # one that says nothing for an hour costs one more allowance at most
            except BusGone:
                return
            self._unread.read(caller, size)
            if not self._unread.too_much(caller):
                self._calls.let_go(caller)
                if self._calls.waiting:
                    self._serve_soon()
        self._asked.discard(caller)

    # --- the end

    @property
    def open_now(self) -> bool:
        """Whether the connection stands."""
        return not self._closed.done()

    async def wait_closed(self) -> None:
        """Return when the connection is closed or lost."""
        await asyncio.shield(self._closed)

    async def close(self) -> None:
        """Send what waits, for a second at most, and close."""
        deadline = self._loop.time() + 1
        while self._out and self.open_now and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        self.lose("it was closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _check_open(self) -> None:
        if self._closed.done():
            raise BusGone("the connection to the message bus is lost")

    def lose(self, reason: str) -> None:
        """Give the connection up, at once."""
        if self._closed.done():
            return
        self._closed.set_result(None)
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for _data, fds in self._out:
            _close(fds)
        self._out.clear()
        self._out_bytes = 0
        for waiter, _signature in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(BusGone(f"the connection to the message bus is lost: {reason}"))

    # --- reading

    def _read_more(self) -> None:
        if not self._reading and self.open_now:
            self._reading = True
            self._loop.add_reader(self._sock, self._readable)

    def _readable(self) -> None:
        try:
            data, ancillary, _flags, _address = self._sock.recvmsg(
                READ_BYTES, socket.CMSG_SPACE(_UNIX_FD_GAP), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.lose(str(error))
            return
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                # No method of ours takes a descriptor; whoever sends some anyway must not use ours up.
                fds = array.array("i")
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
                _close(fds)
        if not data:
            self.lose("the bus closed it")
            return
        self._received += data
        try:
            self._split()
        except header.Malformed as error:
            self.lose(f"the bus sent no message: {error}")
        if self._calls.waiting:
            self._serve_soon()

    def _split(self) -> None:
        received, at = self._received, 0
        while True:
            if self._skip:
                skipped = min(self._skip, len(received) - at)
                self._skip -= skipped
                at += skipped
            if len(received) - at < header.FIXED:
                break
            head, body = header.lengths(received[at : at + header.FIXED])
            if head + body > MAX_MESSAGE:
                if len(received) - at < min(head, MAX_MESSAGE):
                    break
                if head <= MAX_MESSAGE:
                    self._too_long(bytes(received[at : at + head]))
                self._skip = head + body
                continue
            if len(received) - at < head + body:
                break
            self._arrived(bytes(received[at : at + head + body]), head)
            at += head + body
        del received[:at]

    def _arrived(self, message: bytes, head: int) -> None:
        try:
            parsed = header.parse(message)
        except header.Malformed:
            self.unreadable += 1
            return
        if parsed.kind == Kind.CALL:
            call = Call(parsed, message[head:])
            if parsed.sender == self.unique_name:
                self._start(call)  # our own question whether we are reachable waits behind nobody
            elif not self._calls.offer(parsed.sender, call):
                self.refused_calls += 1
                if self._unread.too_much(parsed.sender):
                    return  # it would not read this either
                self.refuse(parsed, LIMITS_EXCEEDED, f"more than {PER_SENDER} calls of {parsed.sender} are waiting")
        elif parsed.kind in (Kind.RETURN, Kind.ERROR):
            self._answered(parsed, message[head:])
        elif parsed.kind == Kind.SIGNAL:
            self._signalled(parsed, message[head:])

    def _too_long(self, head: bytes) -> None:
        try:
            parsed = header.parse(head)
        except header.Malformed:
            self.unreadable += 1
            return
        self.refused_calls += 1
        self.refuse(parsed, LIMITS_EXCEEDED, f"a message is at most {MAX_MESSAGE} bytes long")
        waiter, _returns = self._waiters.get(parsed.reply_serial, (None, ""))
        if waiter and not waiter.done():
            waiter.set_exception(CallError(LIMITS_EXCEEDED, f"the answer is longer than {MAX_MESSAGE} bytes"))

    def _answered(self, parsed: Header, body: bytes) -> None:
        waiter, returns = self._waiters.get(parsed.reply_serial, (None, ""))
        if waiter is None or waiter.done():
            return
        big_endian = parsed.order == ">"
        try:
            if parsed.kind == Kind.ERROR:
                says = adapter.decode("s", body, big_endian=big_endian) if parsed.signature[:1] == "s" else [""]
                waiter.set_exception(CallError(parsed.error_name, says[0]))
            elif parsed.signature != returns:
                waiter.set_exception(
                    CallError(f"{BUS}.Error.InvalidSignature", f"{parsed.signature} was answered, not {returns}")
                )
            else:
                waiter.set_result(adapter.decode(returns, body, big_endian=big_endian))
        except adapter.Undecodable as error:
            waiter.set_exception(CallError(f"{BUS}.Error.InvalidArgs", str(error)))

    # --- serving

    def _serve_soon(self) -> None:
        if not self._serving:
            self._serving = True
            self._loop.call_soon(self._serve_slice)

    def _serve_slice(self) -> None:
        self._serving = False
        end = time.monotonic() + SLICE_S
        while self.open_now and self._out_bytes <= WRITE_HIGH and time.monotonic() < end:
            taken = self._calls.take()
            if taken is None:
                return
            sender, call = taken
            self._start(call, sender)
        if self._calls.waiting and self.open_now and self._out_bytes <= WRITE_HIGH:
            self._serve_soon()

    def _start(self, call: Call, sender: str | None = None) -> None:
        coroutine = self._serve(call)
        if coroutine is None:
            self._finished(sender)
            return
        task = self._loop.create_task(coroutine)
        self._keep(task)
        task.add_done_callback(lambda _task: self._finished(sender))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _finished(self, sender: str | None) -> None:
        if sender is not None:
            self._calls.done(sender)

    # --- writing

    def _write(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        self._out.append((memoryview(data), fds))
        self._out_bytes += len(data)
        if self._out_bytes > WRITE_HIGH and self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock)
        if not self._flush_due and not self._writer_on:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        while self._out:
            buffers, fds = self._next_buffers()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sent = self._sock.sendmsg(buffers, rights)
            except (BlockingIOError, InterruptedError):
                if not self._writer_on:
                    self._writer_on = True
                    self._loop.add_writer(self._sock, self._flush)
                return
            except OSError as error:
                self.lose(str(error))
                return
            self._written(sent)
        if self._writer_on:
            self._writer_on = False
            self._loop.remove_writer(self._sock)

    def _next_buffers(self) -> tuple[list[memoryview], tuple[int, ...]]:
        """Return what one system call may send: descriptors go with the first byte of their own message."""
        first, fds = self._out[0]
        if fds:
            return [first], fds
        plain = itertools.takewhile(lambda entry: not entry[1], itertools.islice(self._out, _IOV))
        return [data for data, _fds in plain], ()

    def _written(self, sent: int) -> None:
        self._out_bytes -= sent
        while self._out and sent >= len(self._out[0][0]):
            data, fds = self._out.popleft()
            sent -= len(data)
            _close(fds)
        if sent:
            data, fds = self._out[0]
            _close(fds)
            self._out[0] = (data[sent:], ())
        if self._out_bytes < WRITE_LOW:
            self._read_more()
            if self._calls.waiting:
                self._serve_soon()


async def _connect(sock: socket.socket, names: Sequence[str]) -> None:
    loop = asyncio.get_running_loop()
    for name in names[:-1]:
        with suppress(OSError):
            await loop.sock_connect(sock, name)
            return
    await loop.sock_connect(sock, names[-1])


async def _authenticate(sock: socket.socket) -> None:
    """Prove who we are by the socket's credentials, and agree on passing descriptors (specification, "EXTERNAL")."""
    await _say(sock, b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode(), b"OK ")
    await _say(sock, b"NEGOTIATE_UNIX_FD", b"AGREE_UNIX_FD")
    await asyncio.get_running_loop().sock_sendall(sock, b"BEGIN\r\n")


async def _say(sock: socket.socket, line: bytes, expected: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, line + b"\r\n")
    answer = b""
    while not answer.endswith(b"\r\n"):
        part = await loop.sock_recv(sock, 256)
        if not part or len(answer) > 1024:
            raise ConnectionError("it broke the authentication off")
        answer += part
    if not answer.startswith(expected):
        raise ConnectionError(f"it answered {answer.decode(errors='replace').strip()!r} to the authentication")


def _close(fds: Sequence[int] | array.array[int]) -> None:
    for fd in fds:
        os.close(fd)
