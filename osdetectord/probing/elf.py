"""Functions of an ELF file: where a name stands in it, and which name an address has.

Symbol tables are read as arrays: a function among the 35 000 of ``libLLVM-14`` is found in 50 ms, while pyelftools,
which makes an object of each symbol, takes 2.9 s (``bench/uprobe_cost.py elf``).  Files are read, not mapped: a
mapped file that is cut short kills its reader.
"""

from __future__ import annotations

import difflib
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osdetectord.errors import InvalidArgument, NoSuchSymbol, Unsupported
from osdetectord.probing import demangle

MAX_TABLE = 192 << 20
"""Largest symbol or string table that is read, bytes."""

MAX_LISTED = 12

DEBUG_FILES = Path("/usr/lib/debug/.build-id")

HEADER = np.dtype(
    [
        ("magic", "S4"),
        ("bits", "u1"),
        ("order", "u1"),
        ("rest", "V10"),
        ("type", "<u2"),
        ("machine", "<u2"),
        ("version", "<u4"),
        ("entry", "<u8"),
        ("segments_at", "<u8"),
        ("sections_at", "<u8"),
        ("flags", "<u4"),
        ("size", "<u2"),
        ("segment_size", "<u2"),
        ("segments", "<u2"),
        ("section_size", "<u2"),
        ("sections", "<u2"),
        ("names", "<u2"),
    ]
)

SEGMENT = np.dtype(
    [
        ("type", "<u4"),
        ("flags", "<u4"),
        ("offset", "<u8"),
        ("address", "<u8"),
        ("physical", "<u8"),
        ("file_size", "<u8"),
        ("size", "<u8"),
        ("align", "<u8"),
    ]
)

SECTION = np.dtype(
    [
        ("name", "<u4"),
        ("type", "<u4"),
        ("flags", "<u8"),
        ("address", "<u8"),
        ("offset", "<u8"),
        ("size", "<u8"),
        ("link", "<u4"),
        ("info", "<u4"),
        ("align", "<u8"),
        ("entry", "<u8"),
    ]
)

SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("address", "<u8"), ("size", "<u8")]
)

MACHINE = {"x86_64": 62, "aarch64": 183}.get(platform.machine(), 0)

PT_LOAD, PF_X = 1, 1
SHT_SYMTAB, SHT_NOBITS, SHT_DYNSYM, SHT_GNU_VERSYM = 2, 8, 11, 0x6FFFFFFF
STT_FUNC, STT_GNU_IFUNC = 2, 10
HIDDEN_VERSION = 0x8000

GO_SECTIONS = {b".gopclntab", b".go.buildinfo", b".note.go.buildid"}

# copies that the compiler made of parts of functions
CLONE = re.compile(rb"\.(cold|part|isra|constprop|lto_priv)\b")

WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Function:
    """A function: its symbol, what it is called, and where it begins as virtual address."""

    symbol: str
    name: str
    address: int
    size: int
    chosen_at_run_time: bool


@dataclass(frozen=True, slots=True)
class _Table:
    symbols: NDArray[np.void]
    names: bytes
    hidden: NDArray[np.bool_]


class Elf:
    """An ELF file, open for reading.

    Parameters
    ----------
    fd
        Its descriptor; stays the caller's.
    path
        What it is called in errors.

    Raises
    ------
    InvalidArgument
        If it is not an ELF file, or a broken one.
    Unsupported
        If it is for another machine.
    """

    def __init__(self, fd: int, path: str) -> None:
        self._fd, self.path = fd, path
        self._length = os.fstat(fd).st_size
        header = self._array(HEADER, 0, 1, "header")[0] if self._length >= HEADER.itemsize else None
        if header is None or header["magic"] != b"\x7fELF":
            raise InvalidArgument(f"{path} is not an ELF file")
        if header["bits"] != 2 or header["order"] != 1 or header["machine"] != MACHINE:
            raise Unsupported(f"{path} is for another machine than {platform.machine()}")
        if header["segment_size"] != SEGMENT.itemsize or header["section_size"] not in (0, SECTION.itemsize):
            raise InvalidArgument(f"{path} is a broken ELF file")
        self._segments = self._array(SEGMENT, int(header["segments_at"]), int(header["segments"]), "segments")
        self._sections = self._array(SECTION, int(header["sections_at"]), int(header["sections"]), "sections")
        names = int(header["names"])
        self._section_names = (
            self._bytes(self._sections[names], "section names") if names < len(self._sections) else b""
        )

    def _array(self, kind: np.dtype[np.void], offset: int, count: int, what: str) -> NDArray[np.void]:
        size = kind.itemsize * count
        if size > MAX_TABLE or offset + size > self._length:
            raise InvalidArgument(f"{self.path} is a broken ELF file: its {what} are beyond its end")
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise InvalidArgument(f"{self.path} was cut short while it was read")
        return np.frombuffer(data, kind)

    def _bytes(self, section: np.void, what: str) -> bytes:
        if section["type"] == SHT_NOBITS:
            return b""
        data = self._array(np.dtype("V1"), int(section["offset"]), int(section["size"]), what)
        return data.tobytes()

    def _section_name(self, section: np.void) -> bytes:
        at = int(section["name"])
        return self._section_names[at : self._section_names.find(b"\0", at)]

    @cached_property
    def is_go(self) -> bool:
        """Whether the Go compiler made it."""
        return any(self._section_name(section) in GO_SECTIONS for section in self._sections)

    @cached_property
    def build_id(self) -> str:
        """The linker's checksum in hexadecimal digits, empty where there is none."""
        for section in self._sections:
            if self._section_name(section) == b".note.gnu.build-id":
                # header of 12 bytes and the name GNU
                return self._bytes(section, "build id")[16:].hex()
        return ""

    def offset_of(self, address: int) -> int:
        """Place in the file of a virtual address of code; raises InvalidArgument."""
        for segment in self._segments:
            inside = address - int(segment["address"])
            if segment["type"] == PT_LOAD and segment["flags"] & PF_X and 0 <= inside < int(segment["file_size"]):
                return int(segment["offset"]) + inside
        raise InvalidArgument(f"{self.path} has no code at address {address:#x}")

    def address_of(self, offset: int) -> int | None:
        """Virtual address of a place in the file, None where it is not loaded."""
        for segment in self._segments:
            inside = offset - int(segment["offset"])
            if segment["type"] == PT_LOAD and 0 <= inside < int(segment["file_size"]):
                return int(segment["address"]) + inside
        return None

    def code(self, address: int, size: int) -> bytes:
        """Instructions at an address, fewer at the file's end."""
        return os.pread(self._fd, size, self.offset_of(address))

    # ---- symbols

    @cached_property
    def _tables(self) -> list[_Table]:
        """Its own tables; where they name no static functions, those of its separate debug file too."""
        tables = list(self._read_tables())
        if not (self._sections["type"] == SHT_SYMTAB).any() and self.build_id:
            path = DEBUG_FILES / self.build_id[:2] / f"{self.build_id[2:]}.debug"
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return tables
            try:
                debug = Elf(fd, str(path))
                if debug.build_id == self.build_id:
                    tables += debug._read_tables()
            except (InvalidArgument, Unsupported):
                # then it is no debug file of this
                return tables
            finally:
                os.close(fd)
        return tables

    def _read_tables(self) -> Iterator[_Table]:
        for section in self._sections:
            if section["type"] not in (SHT_SYMTAB, SHT_DYNSYM) or int(section["link"]) >= len(self._sections):
                continue
            count = int(section["size"]) // SYMBOL.itemsize
            symbols = self._array(SYMBOL, int(section["offset"]), count, "symbols")
            kind = symbols["info"] & 15
            wanted = ((kind == STT_FUNC) | (kind == STT_GNU_IFUNC)) & (symbols["section"] != 0)
            hidden = self._hidden(section, count)
            names = self._bytes(self._sections[int(section["link"])], "names of symbols")
            yield _Table(symbols[wanted], names, hidden[wanted])

    def _hidden(self, section: np.void, count: int) -> NDArray[np.bool_]:
        """Which symbols are of a version that nothing new is linked with (name@VERSION)."""
        if section["type"] == SHT_DYNSYM:
            for versions in self._sections[self._sections["type"] == SHT_GNU_VERSYM]:
                data = self._bytes(versions, "versions")
                held = np.frombuffer(data[: len(data) & ~1], "<u2")
                if len(held) == count:
                    return np.asarray(held & HIDDEN_VERSION, dtype=np.bool_)
        return np.zeros(count, dtype=np.bool_)

    def find(self, name: str) -> Function:
        """The one function of that name: a symbol, or a C++ name with or without parameters.

        Raises
        ------
        NoSuchSymbol
            If there is none; offers names like it.
        InvalidArgument
            If there are several; lists them.
        """
        found = self._by_symbol(os.fsencode(name)) or self._by_name(name)
        addresses = {function.address for function in found}
        if len(addresses) == 1:
            return found[0]
        if not found:
            raise NoSuchSymbol(f"{self.path} has no function {name}{self._hint(name)}")
        listed = sorted({f"{function.name} ({function.address:#x})" for function in found})
        more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
        raise InvalidArgument(
            f"{self.path} has {len(addresses)} functions {name}, name one with its parameters or its address: "
            f"{', '.join(listed[:MAX_LISTED])}{more}"
        )

    def _by_symbol(self, name: bytes) -> list[Function]:
        old: list[Function] = []
        new: list[Function] = []
        for table in self._tables:
            # the linker lets a name be the end of a longer one
            ends = [found.start() for found in re.finditer(re.escape(name) + b"\0", table.names)]
            for index in np.flatnonzero(np.isin(table.symbols["name"], ends)):
                function = _function(table.symbols[index], name)
                (old if table.hidden[index] else new).append(function)
        return new or old

    def _by_name(self, name: str) -> list[Function]:
        if not demangle.available():
            return []
        plain = name.replace(" ", "")
        found: dict[tuple[str, int], Function] = {}
        for table in self._tables:
            for symbol, index in self._mangled(table, name):
                full = demangle.demangled(symbol)
                if full is None or CLONE.search(symbol):
                    continue
                if plain in demangle.spellings(full):
                    function = _function(table.symbols[index], symbol, full)
                    found[function.symbol, function.address] = function
        return list(found.values())

    def _mangled(self, table: _Table, name: str) -> Iterator[tuple[bytes, int]]:
        """Mangled symbols that may be of that name, with their positions in the table."""
        words = [] if "operator" in name else WORD.findall(demangle.plain(name))
        # an identifier stands in a mangled name with its length before it
        needle = re.escape(f"{len(words[-1])}{words[-1]}".encode()) if words else b""
        starts: dict[int, bytes] = {}
        for found in re.finditer(rb"_Z[^\0]*?" + needle + rb"[^\0]*", table.names):
            starts[found.start()] = found[0]
        for index in np.flatnonzero(np.isin(table.symbols["name"], list(starts))):
            yield starts[int(table.symbols["name"][index])], int(index)

    def _hint(self, name: str) -> str:
        if not sum(len(table.symbols) for table in self._tables):
            return ": it has no symbols, give an address as 0x..."
        word = WORD.findall(demangle.plain(name))
        like = difflib.get_close_matches(name, self._names_near(word[-1] if word else name), 3, 0.7)
        hint = f"; there is {', '.join(like)}" if like else ""
        if "::" in name and not demangle.available():
            hint += " (C++ names can't be read here: libstdc++6 is not installed)"
        return hint

    def _names_near(self, word: str) -> list[str]:
        """Names of about that length, so that a hundred thousand need not be compared."""
        out: set[str] = set()
        plain = re.compile(rb"(?<=\0)[^\0]{%d,%d}(?=\0)" % (max(1, len(word) - 3), len(word) + 3))
        mangled = re.compile(rb"(?<=\0)_Z[^\0]*" + re.escape(word[:4].encode()) + rb"[^\0]*")
        for table in self._tables:
            starts = {found.start(): found[0] for found in plain.finditer(table.names)}
            starts |= {found.start(): found[0] for found in mangled.finditer(table.names)}
            known = np.isin(list(starts), table.symbols["name"])
            for symbol in [symbol for symbol, is_function in zip(starts.values(), known, strict=True) if is_function]:
                full = demangle.demangled(symbol)
                out.add(os.fsdecode(symbol) if full is None else demangle.plain(full))
        return sorted(out)

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.intp], NDArray[np.intp]]:
        """Of all functions by address: address, size, and table and row where they stand."""
        lengths = [len(table.symbols) for table in self._tables]
        address = np.concatenate([np.zeros(0, "<u8"), *(table.symbols["address"] for table in self._tables)])
        size = np.concatenate([np.zeros(0, "<u8"), *(table.symbols["size"] for table in self._tables)])
        table = np.repeat(np.arange(len(lengths)), lengths)
        row = np.concatenate([np.zeros(0, np.intp), *(np.arange(length) for length in lengths)])
        order = np.argsort(address, kind="stable")
        return address[order], size[order], table[order], row[order]

    def name_at(self, address: int) -> tuple[str, int] | None:
        """Name of the function that an address is in, and the distance to its begin; None where there is none."""
        addresses, sizes, tables, rows = self._sorted
        index = int(np.searchsorted(addresses, address, side="right")) - 1
        if index < 0:
            return None
        begin = int(addresses[index])
        first = int(np.searchsorted(addresses, begin))
        inside = [i for i in range(first, index + 1) if address - begin < int(sizes[i]) or not sizes[i]]
        if not inside:
            return None
        table = self._tables[tables[inside[0]]]
        start = int(table.symbols["name"][rows[inside[0]]])
        symbol = table.names[start : table.names.find(b"\0", start)]
        return demangle.demangled(symbol) or os.fsdecode(symbol), address - begin


def _function(symbol: np.void, name: bytes, full: str | None = None) -> Function:
    return Function(
        symbol=os.fsdecode(name),
        name=full or os.fsdecode(name),
        address=int(symbol["address"]),
        size=int(symbol["size"]),
        chosen_at_run_time=int(symbol["info"]) & 15 == STT_GNU_IFUNC,
    )
