"""Where a probe goes, as people write it: ``BINARY:SYMBOL`` or ``BINARY:0xADDRESS``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from osdetectord.errors import InvalidArgument

MAX_LENGTH = 4096

EXPECTED = "expected BINARY:SYMBOL or BINARY:0xADDRESS"

# a colon that is not one of C++'s two
SINGLE_COLON = re.compile(r"(?<!:):(?!:)")


@dataclass(frozen=True, slots=True)
class Location:
    """A function of a binary.

    Parameters
    ----------
    binary
        An absolute path as the process sees it; or the name of a library that it maps, ``libc``, ``c`` or
        ``libc.so.6``; or the name of its executable; or nothing for its executable.
    symbol
        A symbol as the linker knows it, or a C++ function's name with or without its parameters; empty where
        there is an address.
    address
        Virtual address as ``nm`` and ``objdump`` print it, None where there is a symbol.
    """

    binary: str
    symbol: str
    address: int | None = None

    @classmethod
    def parse(cls, text: str) -> Location:
        """Read a location; raises InvalidArgument."""
        if not text or len(text) > MAX_LENGTH or not text.isprintable():
            raise InvalidArgument(f"location {text[:80]!r}, {EXPECTED}")
        colon = SINGLE_COLON.search(text)
        if colon is None:
            raise InvalidArgument(f"location {text!r} has no colon, {EXPECTED}")
        binary, function = text[: colon.start()].strip(), text[colon.end() :].strip()
        if not function:
            raise InvalidArgument(f"location {text!r} names no function, {EXPECTED}")
        if "/" in binary and not binary.startswith("/"):
            raise InvalidArgument(f"location {text!r}: {binary} is neither an absolute path nor a name")
        if function[:2].lower() != "0x":
            return cls(binary, function)
        try:
            address = int(function, 16)
        except ValueError:
            raise InvalidArgument(f"location {text!r}: {function} is not a hexadecimal address") from None
        if address >= 1 << 63:
            raise InvalidArgument(f"location {text!r}: address {function} is beyond user memory")
        return cls(binary, "", address)

    def __str__(self) -> str:
        return f"{self.binary}:{self.symbol if self.address is None else hex(self.address)}"
