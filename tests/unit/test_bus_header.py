"""The header of a D-Bus message is written and read as the specification says."""

from __future__ import annotations

import io
import struct

import pytest
from dbus_next._private.unmarshaller import Unmarshaller

from osdetectord.bus import header
from osdetectord.bus.header import Kind, Malformed

PING = {
    "path": "/org/osdetector1",
    "interface": "org.freedesktop.DBus.Peer",
    "member": "Ping",
    "destination": "org.osdetector1",
}


def with_sender(data: bytes, sender: str, code: int = 7, type_: bytes = b"s") -> bytes:
    """Return a message with one more field at the end of its header, as the bus adds one."""
    (fields,) = struct.unpack_from("<I", data, 12)
    head = data[: 16 + fields]
    head += bytes(-len(head) % 8) + struct.pack("<BB2sI", code, 1, type_, len(sender)) + sender.encode() + b"\0"
    head = head[:12] + struct.pack("<I", len(head) - 16) + head[16:]
    return head + bytes(-len(head) % 8)


def test_what_is_written_is_read_by_the_library():
    data = header.encode(Kind.CALL, 47, signature="su", **PING, body_size=0)
    message = Unmarshaller(io.BytesIO(data)).unmarshall()

    assert (message.path, message.interface, message.member) == tuple(PING[k] for k in ("path", "interface", "member"))
    assert (message.destination, message.serial, message.signature) == ("org.osdetector1", 47, "su")


def test_what_is_written_is_read_again():
    read = header.parse(header.encode(Kind.ERROR, 3, error_name="a.b.C", reply_serial=7, signature="s", unix_fds=2))

    assert (read.kind, read.serial, read.error_name, read.reply_serial, read.signature) == (3, 3, "a.b.C", 7, "s")


def test_the_length_of_a_message_is_known_from_its_first_bytes():
    data = header.encode(Kind.CALL, 1, body_size=13, **PING) + bytes(13)

    assert header.lengths(data[: header.FIXED]) == (len(data) - 13, 13)


def test_a_big_endian_message_is_read():
    field = struct.pack(">BB2sI", 7, 1, b"s", 5) + b":1.42\0"
    data = struct.pack(">cBBBIII", b"B", 1, 0, 1, 0, 59, len(field)) + field

    read = header.parse(data + bytes(-len(data) % 8))

    assert (read.serial, read.sender, read.order) == (59, ":1.42", ">")


@pytest.mark.parametrize("type_", [b"s", b"o"])
def test_a_field_that_is_not_known_is_passed_over(type_):
    data = with_sender(header.encode(Kind.CALL, 1, **PING), "x" * 11, code=200, type_=type_)

    assert header.parse(with_sender(data, ":1.7")).sender == ":1.7"


@pytest.mark.parametrize("wants, flags", [(True, 0), (False, header.NO_REPLY_EXPECTED)])
def test_a_call_says_whether_it_wants_an_answer(wants, flags):
    assert header.parse(header.encode(Kind.CALL, 1, flags=flags, **PING)).wants_reply is wants


@pytest.mark.parametrize(
    "start",
    [
        b"x\1\0\1" + bytes(12),
        b"l\1\0\2" + bytes(12),
        struct.pack("<cBBBIII", b"l", 1, 0, 1, 0, 1, (1 << 26) + 1),
        struct.pack("<cBBBIII", b"l", 1, 0, 1, 1 << 27, 1, 8),
    ],
    ids=["byte order", "version", "too many fields", "too long"],
)
def test_what_is_no_message_is_refused(start):
    with pytest.raises(Malformed):
        header.lengths(start)


def test_a_header_cut_anywhere_is_malformed():
    whole = with_sender(header.encode(Kind.CALL, 1, signature="s", **PING), ":1.7")
    (fields,) = struct.unpack_from("<I", whole, 12)
    for size in range(header.FIXED, header.FIXED + fields):
        with pytest.raises(Malformed):
            header.parse(whole[:size])


def test_a_field_of_a_container_type_is_malformed():
    field = struct.pack("<BB3s", 77, 2, b"as")
    data = struct.pack("<cBBBIII", b"l", 1, 0, 1, 0, 1, len(field)) + field

    with pytest.raises(Malformed):
        header.parse(data + bytes(-len(data) % 8))
