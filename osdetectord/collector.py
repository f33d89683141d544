"""What a collector of kernel totals promises: which hooks can serve it, and how its tables become readings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from osdetectord.metric import Metric


class AttachKind(Enum):
    """To what a program can be attached."""

    RAW_TRACEPOINT = "raw_tracepoint"
    TRACEPOINT = "tracepoint"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program of a collector's source and the event that runs it, ``group:name`` for a tracepoint."""

    program: str
    kind: AttachKind
    event: str


@dataclass(frozen=True, slots=True)
class Hook:
    """One way to serve a collector: all of its attachments, or none for a hook that is no BPF program."""

    name: str
    attachments: tuple[Attachment, ...]


class Tables(Protocol):
    """The kernel's tables at one instant; a test may give arrays of its own."""

    now_ns: int
    """CLOCK_MONOTONIC of the instant."""

    def read(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Keys and values of a table, summed over the CPUs; read at most once for each instant."""

    def batches(self, name: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """The same in pieces, for a table that may be large."""


class Collector(Protocol):
    """One ``.bpf.c`` and what its tables mean."""

    name: str
    source: str
    """The ``.bpf.c`` beside it."""
    hooks: tuple[Hook, ...]
    """Best first."""
    metrics: tuple[Metric, ...]

    def read(self, tables: Tables, serials: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Readings, shape ``(len(serials), len(metrics))``, in each metric's unit, NaN where missing.

        ``serials`` are the kernel's numbers of processes, rising.
        """
