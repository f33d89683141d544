"""C++ and Rust names as people write them, by the C++ runtime's own ``__cxa_demangle`` where it is installed."""

from __future__ import annotations

import ctypes
import functools


@functools.cache
def _library() -> tuple[ctypes.CDLL, ctypes.CDLL] | None:
    try:
        runtime, libc = ctypes.CDLL("libstdc++.so.6"), ctypes.CDLL(None)
    except OSError:
        return None
    # char *__cxa_demangle(const char *mangled, char *buffer, size_t *length, int *status)
    runtime.__cxa_demangle.restype = ctypes.c_void_p
    runtime.__cxa_demangle.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    libc.free.argtypes = (ctypes.c_void_p,)
    libc.free.restype = None
    return runtime, libc


def available() -> bool:
    """Whether names can be demangled here."""
    return _library() is not None


def demangled(name: bytes) -> str | None:
    """The name with its parameters, or None where it is not mangled, or there is no C++ runtime."""
    library = _library()
    if library is None or not name.startswith(b"_Z") or len(name) > 4096:
        return None
    runtime, libc = library
    status = ctypes.c_int()
    found = runtime.__cxa_demangle(name, None, None, ctypes.byref(status))
    if not found:
        return None
    try:
        return ctypes.string_at(found).decode(errors="replace")
    finally:
        libc.free(found)


def without_parameters(name: str) -> str:
    """``ns::f(int)`` as ``ns::f``; a name without parameters as it is."""
    depth = 0
    for at in range(len(name) - 1, -1, -1):
        if name[at] == ")":
            depth += 1
        elif name[at] == "(":
            depth -= 1
            if not depth:
                # what follows the parameters: const, a reference, a clone
                return name[:at] if not name[:at].endswith("operator") else name
        elif not depth and name[at] not in " abcdefghijklmnopqrstuvwxyz&[].0123456789":
            break
    return name


def spellings(name: str) -> frozenset[str]:
    """The ways in which people may write a demangled name, without blanks.

    With and without parameters, the result's type that templates have, and the last template arguments.
    """
    short = without_parameters(name)
    parameters = name[len(short) :]
    bare = short[_begin_of_name(short) :]
    written = {bare}
    if bare.endswith(">") and "operator" not in bare:
        written.add(bare[: _begin_of_arguments(bare)])
    out = {name, short} | written | {one + parameters for one in written}
    return frozenset(one.replace(" ", "") for one in out)


def plain(name: str) -> str:
    """The shortest of the spellings."""
    return min(spellings(name), key=len)


def _begin_of_name(short: str) -> int:
    """Where the name begins after the type of its result."""
    if "operator" in short:
        return 0
    depth = 0
    for at in range(len(short) - 1, -1, -1):
        depth += (short[at] in ">)") - (short[at] in "<(")
        if short[at] == " " and not depth:
            return at + 1
    return 0


def _begin_of_arguments(bare: str) -> int:
    """Where the last template arguments begin."""
    depth = 0
    for at in range(len(bare) - 1, -1, -1):
        depth += (bare[at] == ">") - (bare[at] == "<")
        if not depth:
            return at
    return len(bare)
