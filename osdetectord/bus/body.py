"""Large bodies put together from parts that were encoded before.

An entry of a dictionary begins at a multiple of 8 wherever it stands, so that its bytes may be kept and copied: an
answer with a thousand rows then costs a copy, not a second of marshalling.  Numbers are copied as arrays.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence

from osdetectord.bus.adapter import Variant, encode


def pair(path: str, interfaces: Mapping[str, Mapping[str, Variant]]) -> bytes:
    """Return one entry of an ``a{oa{sa{sv}}}``; a structure of one path and its interfaces is the same bytes."""
    return encode("(oa{sa{sv}})", [[path, interfaces]])


def join_pairs(pairs: Iterable[bytes]) -> bytes:
    """Return an array of dictionary entries."""
    parts = bytearray(8)  # the length, and padding to the first entry that is not counted
    for each in pairs:
        parts += bytes(-len(parts) % 8)
        parts += each
    struct.pack_into("<I", parts, 0, len(parts) - 8)
    return bytes(parts)


def row(values: Mapping[str, Variant]) -> bytes:
    """Return the entries of one ``a{sv}``, without its length."""
    return encode("a{sv}", [values])[8:]


def join_rows(rows: Iterable[bytes]) -> bytes:
    """Return an ``aa{sv}`` of rows."""
    parts = bytearray(4)
    for each in rows:
        parts += bytes(-len(parts) % 4)
        parts += struct.pack("<I", len(each))
        parts += bytes(-len(parts) % 8)
        parts += each
    struct.pack_into("<I", parts, 0, len(parts) - 4)
    return bytes(parts)


def series(by_metric: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> bytes:
    """Return an ``a{s(atad)}``: by metric, times and values."""
    parts = bytearray(8)
    for metric, (times, values) in by_metric.items():
        name = metric.encode()
        parts += bytes(-len(parts) % 8) + struct.pack("<I", len(name)) + name + bytes(1)
        parts += bytes(-len(parts) % 8)  # a structure
        for numbers in (array("Q", times), array("d", values)):
            if sys.byteorder == "big":
                numbers.byteswap()
            data = numbers.tobytes()
            parts += bytes(-len(parts) % 4) + struct.pack("<I", len(data))
            parts += bytes(-len(parts) % 8) + data
    struct.pack_into("<I", parts, 0, len(parts) - 8)
    return bytes(parts)
