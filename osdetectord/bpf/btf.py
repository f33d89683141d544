"""The kernel's own type information (BTF): where the fields of its structures are.

Format: Documentation/bpf/btf.rst of the kernel.  Only what offsets need is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from osdetectord.errors import LoadError

KERNEL = Path("/sys/kernel/btf/vmlinux")

MAGIC = 0xEB9F
PTR, ARRAY, STRUCT, UNION, ENUM, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC_PROTO, TYPE_TAG, ENUM64 = (
    2,
    3,
    4,
    5,
    6,
    8,
    9,
    10,
    11,
    13,
    18,
    19,
)
MODIFIERS = frozenset({TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG})

# Bytes that follow the 12 of struct btf_type: fixed, and per vlen; index is the kind.
EXTRA = (0, 4, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 4, 0, 0)
PER_ITEM = (0, 0, 0, 0, 12, 12, 8, 0, 0, 0, 0, 0, 0, 8, 0, 12, 0, 0, 0, 12)

_TYPE = struct.Struct("<III")


@dataclass(frozen=True, slots=True)
class Field:
    """A field's place: offset and size in bytes from the start of the outermost structure."""

    offset: int
    size: int


class Btf:
    """The types in a BTF blob.

    Raises
    ------
    LoadError
        If it is not BTF, or of a version with kinds of type that are not known here.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < 24:
            raise LoadError("the kernel's type information is empty")
        magic, _version, _flags, header, type_at, type_len, string_at, _ = struct.unpack_from("<HBBIIIII", data, 0)
        if magic != MAGIC:
            raise LoadError(f"the kernel's type information starts with {magic:#x}, not {MAGIC:#x}")
        self._data = data
        self._strings = header + string_at
        self._offsets = [0]
        self._structs: dict[int, int] = {}
        self._typedefs: dict[int, int] = {}
        position, end = header + type_at, header + type_at + type_len
        unpack, append, structs = _TYPE.unpack_from, self._offsets.append, self._structs
        typedefs = self._typedefs
        number = 1
        while position < end:
            name, info, _ = unpack(data, position)
            kind = info >> 24 & 0x1F
            if kind >= len(EXTRA):
                raise LoadError(f"the kernel's type information has a kind of type {kind} that is not known here")
            append(position)
            if kind in (STRUCT, UNION):
                structs.setdefault(name, number)
            elif kind == TYPEDEF:
                typedefs.setdefault(name, number)
            position += 12 + EXTRA[kind] + PER_ITEM[kind] * (info & 0xFFFF)
            number += 1

    @classmethod
    def of_kernel(cls, path: Path = KERNEL) -> Btf:
        """Read the running kernel's."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise LoadError(f"the kernel tells no types: {path}: {error.strerror}") from None

    def field(self, struct_name: str, path: str) -> Field | None:
        """Where ``path`` (dotted; anonymous members are looked through) is in a structure, or None."""
        number = self._named(struct_name, self._structs)
        if number is None:
            return None
        found = self._find(number, path.split("."), 0)
        return None if found is None else Field(found[0], self._size(found[1]))

    def size(self, struct_name: str) -> int | None:
        """Bytes of a structure, or None."""
        number = self._named(struct_name, self._structs)
        return None if number is None else self._size(number)

    def arguments(self, event: str) -> int | None:
        """How many arguments a raw tracepoint has, or None where there is no such."""
        number = self._named(f"btf_trace_{event}", self._typedefs)
        if number is None:
            return None
        # a typedef of a pointer to a function, whose own first argument is the tracepoint's
        _, kind, function = self._type(self._plain(number))
        if kind != PTR:
            return None
        info, kind, _ = self._type(self._plain(function))
        return (info & 0xFFFF) - 1 if kind == FUNC_PROTO else None

    def _named(self, name: str, among: dict[int, int]) -> int | None:
        pattern = b"\0" + name.encode() + b"\0"
        position = self._strings
        while (position := self._data.find(pattern, position)) >= 0:
            number = among.get(position + 1 - self._strings)
            if number is not None:
                return number
            position += 1
        return None

    def _type(self, number: int) -> tuple[int, int, int]:
        _, info, size = _TYPE.unpack_from(self._data, self._offsets[number])
        return info, info >> 24 & 0x1F, size

    def _plain(self, number: int) -> int:
        while number:
            _, kind, target = self._type(number)
            if kind not in MODIFIERS:
                break
            number = target
        return number

    def _members(self, number: int) -> Iterator[tuple[str, int, int]]:
        info, _, _ = self._type(number)
        at = self._offsets[number] + 12
        for item in range(info & 0xFFFF):
            name, target, bits = _TYPE.unpack_from(self._data, at + 12 * item)
            # with kind_flag the upper eight bits are a bit-field's width
            yield self._string(name), target, (bits & 0xFFFFFF if info >> 31 else bits) // 8

    def _string(self, offset: int) -> str:
        at = self._strings + offset
        return self._data[at : self._data.index(b"\0", at)].decode()

    def _size(self, number: int) -> int:
        number = self._plain(number)
        if not number:
            return 0
        _, kind, size = self._type(number)
        if kind == PTR:
            return 8
        if kind == ARRAY:
            element, _, count = _TYPE.unpack_from(self._data, self._offsets[number] + 12)
            return int(count) * self._size(element)
        return size

    def _find(self, number: int, path: list[str], base: int) -> tuple[int, int] | None:
        for name, target, offset in self._members(number):
            plain = self._plain(target)
            if name == path[0]:
                return (base + offset, target) if len(path) == 1 else self._find(plain, path[1:], base + offset)
            if not name and plain and self._type(plain)[1] in (STRUCT, UNION):
                found = self._find(plain, path, base + offset)
                if found is not None:
                    return found
        return None
