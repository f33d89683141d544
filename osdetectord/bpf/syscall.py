"""The bpf(2) system call: what the daemon does with the descriptors that the loader handed over.

Layouts are those of ``union bpf_attr`` in include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

NUMBER = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 280)

CREATE, LOOKUP, UPDATE, DELETE = range(4)
PROG_TEST_RUN = 10
PROG_GET_NEXT_ID = 11
RAW_TRACEPOINT_OPEN = 17
LOOKUP_BATCH, DELETE_BATCH = 24, 27

TEST_RUN_ON_CPU = 1
RINGBUF = 27

_libc = ctypes.CDLL(None, use_errno=True)
_call = _libc.syscall
_call.restype = ctypes.c_long
_call.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long)


def bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    """Call bpf(2); raises OSError."""
    result = int(_call(NUMBER, command, ctypes.addressof(attributes), len(attributes)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _attributes(layout: str, size: int, *values: int) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.pack(layout, *values), size)


def possible_cpus() -> int:
    """Copies of a value that a per-CPU map holds."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        return int(file.read().strip().split("-")[-1].split(",")[-1]) + 1


def online_cpus() -> tuple[int, ...]:
    """Numbers of the CPUs that run."""
    with open("/sys/devices/system/cpu/online", encoding="ascii") as file:
        text = file.read().strip()
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)


def open_raw_tracepoint(program: int, name: str) -> int:
    """Attach a program; the link lives as long as the descriptor returned."""
    text = ctypes.create_string_buffer(name.encode())
    return bpf(RAW_TRACEPOINT_OPEN, _attributes("<QI", 16, ctypes.addressof(text), program))


def create_ring(size: int) -> int:
    """Descriptor of a new ring buffer of so many bytes, a power of two; raises OSError."""
    # map_type key_size value_size max_entries map_flags
    return bpf(CREATE, _attributes("<IIIII", 72, RINGBUF, 0, 0, size, 0))


class Program:
    """A loaded raw tracepoint program that is run on demand."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def run(self, *arguments: int, cpu: int | None = None) -> int:
        """Run with up to 12 arguments, here or on a CPU; returns what it returns.  Raises OSError."""
        context = ctypes.create_string_buffer(struct.pack("<12Q", *arguments, *(0,) * (12 - len(arguments))))
        # prog_fd retval data_size_in data_size_out data_in data_out repeat duration ctx_size_in ctx_size_out
        # ctx_in ctx_out flags cpu batch_size
        attributes = _attributes(
            "<IIIIQQIIIIQQIII",
            80,
            *(self.fd, 0, 0, 0, 0, 0, 0, 0, 96, 0, ctypes.addressof(context), 0),
            *(0 if cpu is None else TEST_RUN_ON_CPU, cpu or 0, 0),
        )
        bpf(PROG_TEST_RUN, attributes)
        return int(struct.unpack_from("<i", attributes, 4)[0])


class Map:
    """A hash or array map; a per-CPU value is seen as one row for each CPU.

    Parameters
    ----------
    fd
        Descriptor, owned.
    key, value
        Layouts; sizes are the map's.
    capacity
        ``max_entries``.
    per_cpu
        Whether it holds a value per possible CPU.
    """

    def __init__(self, fd: int, key: DTypeLike, value: DTypeLike, capacity: int, per_cpu: bool) -> None:
        self.fd = fd
        self.capacity = capacity
        self.key = np.dtype(key)
        self.value = np.dtype(value)
        self._copies = possible_cpus() if per_cpu else 1
        self._per_cpu = per_cpu

    def _shape(self, count: int) -> tuple[int, ...]:
        return (count, self._copies) if self._per_cpu else (count,)

    def get(self, key: bytes) -> Any:
        """The value, a numpy record (per CPU: an array of them), or None."""
        value = np.zeros(self._shape(1), dtype=self.value)
        held = ctypes.create_string_buffer(key, self.key.itemsize)
        try:
            bpf(LOOKUP, _attributes("<IIQQQ", 32, self.fd, 0, ctypes.addressof(held), value.ctypes.data, 0))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return value[0]

    def set(self, key: bytes, value: bytes) -> None:
        """Insert or replace, in a map that is not per CPU."""
        held = ctypes.create_string_buffer(key, self.key.itemsize)
        data = ctypes.create_string_buffer(value, self.value.itemsize)
        bpf(UPDATE, _attributes("<IIQQQ", 32, self.fd, 0, ctypes.addressof(held), ctypes.addressof(data), 0))

    def delete(self, keys: NDArray[Any]) -> None:
        """Delete those of the keys that are there."""
        keys = np.ascontiguousarray(keys, dtype=self.key)
        size, at, index = self.key.itemsize, keys.ctypes.data, 0
        while index < len(keys):
            attributes = _attributes("<QQQQIIQQ", 56, 0, 0, at + index * size, 0, len(keys) - index, self.fd, 0, 0)
            try:
                bpf(DELETE_BATCH, attributes)
                return
            except OSError as error:
                if error.errno == errno.ENOENT:
                    # it stopped at the first that is not there
                    index += struct.unpack_from("<I", attributes, 32)[0] + 1
                elif error.errno != errno.EINTR:
                    break
        for rest in range(index, len(keys)):
            # a kind of map that has no batches
            try:
                bpf(DELETE, _attributes("<IIQQQ", 32, self.fd, 0, at + rest * size, 0, 0))
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise

    def batches(self, chunk: int = 2048) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Read all that is there, some thousands at a time; the arrays are good until the next step.

        An entry that is there all the while is read once.  One that comes or goes meanwhile may be missed.
        """
        token, following = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
        keys = np.zeros(chunk, dtype=self.key)
        values = np.zeros(self._shape(chunk), dtype=self.value)
        first = True
        # every step but a growing one passes at least one bucket
        for _ in range(self.capacity + 64):
            # in_batch out_batch keys values count map_fd elem_flags flags
            attributes = _attributes(
                "<QQQQIIQQ",
                56,
                *(0 if first else ctypes.addressof(token), ctypes.addressof(following)),
                *(keys.ctypes.data, values.ctypes.data, len(keys), self.fd, 0, 0),
            )
            last = False
            try:
                bpf(LOOKUP_BATCH, attributes)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    # a bucket holds more than there is room for
                    keys = np.zeros(2 * len(keys), dtype=self.key)
                    values = np.zeros(self._shape(len(keys)), dtype=self.value)
                    continue
                if error.errno == errno.EINTR:
                    continue
                if error.errno != errno.ENOENT:
                    raise
                last = True
            count = struct.unpack_from("<I", attributes, 32)[0]
            if count:
                yield keys[:count], values[:count]
            if last:
                return
            first = False
            token, following = following, token

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """All that is there, as keys and values; numbers of a per-CPU value are summed over the CPUs."""
        # as bytes, which are joined several times faster than records
        keys, values = bytearray(), bytearray()
        for some, held in self.batches():
            keys += some.tobytes()
            values += (self.summed(held) if self._per_cpu else held).tobytes()
        return np.frombuffer(keys, dtype=self.key), np.frombuffer(values, dtype=self.value)

    def summed(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum a per-CPU value of 64-bit numbers over the CPUs; a field named ``longest_ns`` gives its maximum."""
        numbers = np.ascontiguousarray(values).view("<u8").reshape(len(values), self._copies, -1)
        out = numbers[:, 0].copy()
        # whole rows, CPU by CPU: several times faster than field by field
        for cpu in range(1, self._copies):
            out += numbers[:, cpu]
        if self.value.fields and "longest_ns" in self.value.fields:
            at = self.value.fields["longest_ns"][1] // 8
            out[:, at] = numbers[:, :, at].max(axis=1)
        return out.view(self.value).reshape(len(values))

    def close(self) -> None:
        os.close(self.fd)


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors, whatever happens to single ones."""
    for fd in descriptors:
        try:
            os.close(fd)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
