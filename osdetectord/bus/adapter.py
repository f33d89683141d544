"""The only importer of dbus-next: its codec and its addresses, with their faults cured.

Of dbus-next 0.2.3 (the last release, and what Debian 12 and 13 have) only the translation between Python values and
bytes is used.  Its connection, reader, writer and dispatcher are not, because

* one EAGAIN on write drops the connection (python-dbus-next issue 153), and what waits to be written has no bound;
* the reader never yields while messages come, so that a flood stops every timer, the watchdog's too;
* file descriptors that arrive with a message are never closed: any user can exhaust the service's;
* signatures are cached for ever, those that strangers send too: any user can fill the memory;
* a message that the library cannot read ends the connection;
* an exception's traceback goes to the caller, and every refused call fills the log with one;
* methods learn neither the sender nor its user;
* ``InterfacesAdded`` is emitted from the new object instead of from the object manager.

:mod:`osdetectord.bus.connection` does that part.  The library is pinned: other versions are refused, and a test holds
each private name that is used here against the installed one.
"""

# dbus-next has no types
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from osdetectord.errors import InvalidArgument, Unsupported
from osdetectord.lean import without

# dbus-next would offer GLib's loop too: 3 MB
with without("gi"):
    from dbus_next.__version__ import __version__ as _version
    from dbus_next._private.address import parse_address
    from dbus_next._private.marshaller import Marshaller
    from dbus_next._private.unmarshaller import Unmarshaller
    from dbus_next.errors import InvalidAddressError, InvalidSignatureError, SignatureBodyMismatchError
    from dbus_next.signature import SignatureTree, Variant

PINNED = "0.2.3"
# Types of the variants that we read: every other signature would stay in dbus-next's cache for ever.
_READABLE_VARIANTS = frozenset({*"ybnqiuxtdsog", "ay", "au", "as", "ao"})
_LITTLE, _BIG = ord("l"), ord("B")

__all__ = ["Undecodable", "Variant", "check_version", "complete_types", "decode", "encode", "unix_address"]


class Undecodable(Exception):
    """A body does not hold what its signature says, or holds a variant of a type that is never read here."""


def check_version() -> None:
    """Raise Unsupported unless the installed dbus-next is the one whose faults are known."""
    if _version != PINNED:
        raise Unsupported(f"dbus-next {_version} is installed, {PINNED} is needed")


def complete_types(signature: str) -> tuple[str, ...]:
    """Split one of *our* signatures into its complete types: ``sa{sv}`` is ``s`` and ``a{sv}``.

    Raises
    ------
    ValueError
        If it is not a signature.
    """
    try:
        return tuple(type_.signature for type_ in SignatureTree(signature).types)
    except InvalidSignatureError as error:
        raise ValueError(f"not a signature: {signature}") from error


def encode(signature: str, values: Sequence[object]) -> bytes:
    """Return ``values`` as the body of a little-endian message of one of *our* signatures.

    Raises
    ------
    ValueError
        If the values are not of the types of the signature.
    """
    if not signature:
        return b""
    try:
        return bytes(Marshaller(signature, list(values)).marshall())
    except (SignatureBodyMismatchError, InvalidSignatureError) as error:
        raise ValueError(f"{values!r:.200} is not of signature {signature}: {error}") from error


class _Unmarshaller(Unmarshaller):
    """Reads one body that is already in memory."""

    def __init__(self, body: bytes, big_endian: bool) -> None:
        super().__init__(io.BytesIO())
        self.buf = bytearray(body)
        self.endian = _BIG if big_endian else _LITTLE
        self.readers["v"] = self._read_known_variant

    def _read_known_variant(self, _type: object = None) -> Any:
        signature = self.read_signature()
        if signature not in _READABLE_VARIANTS:
            raise Undecodable(f"a value of type {signature:.20} is not expected here")
        type_ = SignatureTree._get(signature).types[0]
        return Variant(type_, self.read_argument(type_))


def decode(signature: str, body: bytes, *, big_endian: bool = False) -> list[Any]:
    """Return the values in ``body``; ``signature`` is one that we expect, never one that merely arrived.

    Raises
    ------
    Undecodable
        See there.
    """
    if not signature:
        return []
    reader = _Unmarshaller(body, big_endian)
    try:
        return [reader.read_argument(type_) for type_ in SignatureTree._get(signature).types]
    except Undecodable:
        raise
    except Exception as error:  # the library raises what its steps happen to raise
        raise Undecodable(f"the arguments are not of signature {signature}") from error


def unix_address(address: str) -> list[str]:
    """Return the socket names, as :func:`socket.connect` takes them, of a D-Bus address.

    Raises
    ------
    InvalidArgument
        If it is no address, or names no UNIX socket.
    """
    try:
        parsed = parse_address(address)
    except InvalidAddressError as error:
        raise InvalidArgument(f"not a bus address: {address!r}: {error}") from error
    names = []
    for transport, options in parsed:
        if transport == "unix" and "path" in options:
            names.append(options["path"])
        elif transport == "unix" and "abstract" in options:
            names.append("\0" + options["abstract"])
    if not names:
        raise InvalidArgument(f"no UNIX socket in the bus address {address!r}")
    return names
