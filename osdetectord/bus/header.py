"""The header of a D-Bus message: read and written without a library, so that a flood is refused cheaply."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

FIXED = 16
"""Bytes that must have arrived before the length of a message is known."""
NO_REPLY_EXPECTED = 0x1
NO_AUTO_START = 0x2
ALLOW_INTERACTION = 0x4

# D-Bus specification, "Header Fields".
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE, _UNIX_FDS = range(1, 10)
# Fields of later versions of the protocol have any basic type; these are the bytes of those of fixed size.
_FIXED_SIZE = {"y": 1, "n": 2, "q": 2, "b": 4, "i": 4, "u": 4, "h": 4, "x": 8, "t": 8, "d": 8}


class Malformed(Exception):
    """These bytes are not a D-Bus message."""


class Kind(IntEnum):
    """What a message is."""

    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


@dataclass(slots=True)  # not frozen: made once per message of a flood, and freezing triples the price
class Header:
    """The header of one message; what a message does not say is empty or 0."""

    kind: int
    flags: int
    serial: int
    order: str
    """Byte order as :mod:`struct` writes it."""
    reply_serial: int = 0
    path: str = ""
    interface: str = ""
    member: str = ""
    error_name: str = ""
    sender: str = ""
    signature: str = ""

    @property
    def wants_reply(self) -> bool:
        """Whether somebody waits for an answer."""
        return self.kind == Kind.CALL and not self.flags & NO_REPLY_EXPECTED


def lengths(start: bytes | bytearray) -> tuple[int, int]:
    """Return the bytes of the header (with its padding) and of the body, from the first :data:`FIXED` bytes.

    Raises
    ------
    Malformed
        Where no message begins; nothing after it can be read either.
    """
    order = _order(start[0])
    if start[3] != 1:
        raise Malformed(f"protocol version {start[3]}")
    body, _serial, fields = struct.unpack_from(order + "III", start, 4)
    # The specification's bounds: 64 MiB for an array, 128 MiB for a message.
    if fields > 1 << 26 or body + fields > 1 << 27:
        raise Malformed(f"a message of {body + fields} bytes")
    return (FIXED + fields + 7) & ~7, body


def parse(message: bytes) -> Header:
    """Read the header at the start of ``message``.

    Raises
    ------
    Malformed
        If the fields are not what the specification says.
    """
    order = _order(message[0])
    _body, serial, fields = struct.unpack_from(order + "III", message, 4)
    if FIXED + fields > len(message):
        raise Malformed("a header that is cut off")
    header = Header(message[1], message[2], serial, order)
    u32 = struct.Struct(order + "I").unpack_from
    at, end = FIXED, FIXED + fields
    try:
        while at < end:
            at = (at + 7) & ~7
            code = message[at]
            kind = message[at + 2 : at + 2 + message[at + 1]].decode("ascii")
            at += 3 + len(kind)
            if kind in ("s", "o"):
                at = (at + 3) & ~3
                (size,) = u32(message, at)
                at += 4
                text = message[at : at + size]
                at += size + 1
                if code == _SENDER:
                    header.sender = text.decode()
                elif code == _PATH:
                    header.path = text.decode()
                elif code == _INTERFACE:
                    header.interface = text.decode()
                elif code == _MEMBER:
                    header.member = text.decode()
                elif code == _ERROR_NAME:
                    header.error_name = text.decode()
            elif kind == "g":
                size = message[at]
                if code == _SIGNATURE:
                    header.signature = message[at + 1 : at + 1 + size].decode("ascii")
                at += size + 2
            elif kind in _FIXED_SIZE:
                size = _FIXED_SIZE[kind]
                at = (at + size - 1) & -size
                if code == _REPLY_SERIAL and kind == "u":
                    (header.reply_serial,) = u32(message, at)
                at += size
            else:
                raise Malformed(f"header field {code} of type {kind!r}")
    except (IndexError, UnicodeDecodeError, struct.error) as error:
        raise Malformed(str(error)) from error
    if at > end:
        raise Malformed("a header field beyond the header")
    return header


def encode(
    kind: Kind,
    serial: int,
    *,
    flags: int = 0,
    path: str = "",
    interface: str = "",
    member: str = "",
    error_name: str = "",
    reply_serial: int = 0,
    destination: str = "",
    signature: str = "",
    unix_fds: int = 0,
    body_size: int = 0,
) -> bytes:
    """Return the header, padded, of a little-endian message; fields that are empty or 0 are left out."""
    fields = bytearray()
    for code, type_, text in (
        (_PATH, b"o", path),
        (_INTERFACE, b"s", interface),
        (_MEMBER, b"s", member),
        (_ERROR_NAME, b"s", error_name),
        (_DESTINATION, b"s", destination),
    ):
        if text:
            data = text.encode()
            # the padding goes before a field: that after the last one does not belong to the array
            fields += bytes(-len(fields) % 8) + struct.pack("<BB2sI", code, 1, type_, len(data)) + data + bytes(1)
    for code, number in ((_REPLY_SERIAL, reply_serial), (_UNIX_FDS, unix_fds)):
        if number:
            fields += bytes(-len(fields) % 8) + struct.pack("<BB2sI", code, 1, b"u", number)
    if signature:
        data = signature.encode()
        fields += bytes(-len(fields) % 8) + struct.pack("<BB2sB", _SIGNATURE, 1, b"g", len(data)) + data + bytes(1)
    head = struct.pack("<cBBBIII", b"l", kind, flags, 1, body_size, serial, len(fields)) + fields
    return head + bytes(-len(head) % 8)


def error_body(text: str) -> bytes:
    """Return the body, of signature ``s``, that goes with an error."""
    data = text.encode()
    return struct.pack("<I", len(data)) + data + bytes(1)


def _order(mark: int) -> str:
    if mark == 0x6C:  # l
        return "<"
    if mark == 0x42:  # B
        return ">"
    raise Malformed(f"byte order {mark}")
