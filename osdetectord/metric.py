"""A metric: what is measured, in which unit, and how its numbers behave."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How a metric's readings relate to time."""

    COUNTER = "counter"
    """A total that never falls while the process lives; a sample of it is a rate per second."""
    GAUGE = "gauge"
    """A level; a sample of it is the reading itself."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity of a process.

    Parameters
    ----------
    name
        ``group.quantity``, lower case, for example ``cpu.on_cpu``.
    unit
        Unit of a *reading*, for example ``s``, ``calls``, ``bytes``.  A counter's sample is in this
        unit per second.
    kind
        Counter or gauge.
    help
        One line for people.
    """

    name: str
    unit: str
    kind: Kind
    help: str = ""

    @property
    def sample_unit(self) -> str:
        """Unit of a sample: per second for a counter."""
        return f"{self.unit}/s" if self.kind is Kind.COUNTER else self.unit
