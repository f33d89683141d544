"""The frames that the daemon and its detector exchange: a JSON header and a block of float64.

A frame is two little-endian ``uint32`` (bytes of header, bytes of block), the header as JSON in UTF-8 (an
object with the string ``type``, and ``shape`` where a block follows) and the block, little-endian float64 in
row order.  Nothing is pickled; whoever reads trusts nothing: sizes are bounded and shapes must agree.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.errors import WireError

_PREFIX = struct.Struct("<II")
MAX_HEADER_BYTES = 8 << 20
MAX_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Message:
    """One frame: its type, the other fields of its header, and its block, shape ``(0, 0)`` where there is none."""

    type: str
    fields: Mapping[str, Any]
    block: NDArray[np.float64]


def encode(kind: str, fields: Mapping[str, object], block: NDArray[np.float64] | None = None) -> bytes:
    """Return one frame as bytes; ``fields`` must be JSON, without NaN."""
    header: dict[str, object] = {**fields, "type": kind}
    body = b""
    if block is not None:
        header["shape"] = list(block.shape)
        body = np.ascontiguousarray(block, dtype="<f8").tobytes()
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return _PREFIX.pack(len(text), len(body)) + text + body


class Decoder:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield each message that ``data`` completes.

        Raises
        ------
        WireError
            If the stream is not one of frames; nothing more can be read from it then.
        """
        self._buffer += data
        while len(self._buffer) >= _PREFIX.size:
            header_bytes, block_bytes = _PREFIX.unpack_from(self._buffer)
            if header_bytes > MAX_HEADER_BYTES or block_bytes > MAX_BLOCK_BYTES:
                raise WireError(f"frame of {header_bytes} + {block_bytes} bytes is over the bound")
            end = _PREFIX.size + header_bytes + block_bytes
            if len(self._buffer) < end:
                return
            text = bytes(self._buffer[_PREFIX.size : _PREFIX.size + header_bytes])
            body = bytes(self._buffer[_PREFIX.size + header_bytes : end])
            del self._buffer[:end]
            yield _message(text, body)


def _message(text: bytes, body: bytes) -> Message:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"header is not JSON: {error}") from None
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise WireError("header has no type")
    kind = header.pop("type")
    shape = header.pop("shape", [0, 0])
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) and n >= 0 for n in shape)):
        raise WireError(f"shape of {kind} is {shape!r}")
    if shape[0] * shape[1] * 8 != len(body):
        raise WireError(f"block of {kind} has {len(body)} bytes for shape {shape}")
    return Message(kind, header, np.frombuffer(body, dtype="<f8").reshape(shape).astype(np.float64))
