"""A target's specification: what the user asked to watch, in one canonical string."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from osdetectord.errors import InvalidArgument

MAX_SPEC_CHARACTERS = 4096
PID_MAX = 4_194_304  # PID_MAX_LIMIT, include/linux/threads.h
COMM_BYTES = 15  # TASK_COMM_LEN, include/linux/sched.h, without the final NUL


class SpecKind(Enum):
    """How a specification picks processes."""

    PID = "pid"
    """One process; the only kind that ends with it."""
    UNIT = "unit"
    CGROUP = "cgroup"
    COMM = "comm"
    EXE = "exe"
    USER = "user"


_SUFFIXES = (".service", ".scope", ".slice", ".socket", ".mount", ".swap", ".timer", ".target", ".device", ".path")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}")


@dataclass(frozen=True, slots=True)
class Spec:
    """What to watch.

    Parameters
    ----------
    kind
        How processes are picked.
    value
        Decimal pid, unit name with suffix, absolute cgroup path, command name, absolute path of the
        executable, or user name.
    """

    kind: SpecKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.value}"

    @property
    def pid(self) -> int:
        """The pid of a ``pid:`` specification."""
        return int(self.value)


def parse_spec(text: str) -> Spec:
    """Return the specification that ``text`` means; a bare number is a pid.

    Raises
    ------
    InvalidArgument
        If it means none; the message says what would.
    """
    if len(text) > MAX_SPEC_CHARACTERS:
        raise InvalidArgument(f"a target of {len(text)} characters, at most {MAX_SPEC_CHARACTERS} are allowed")
    if not text.isprintable():
        raise InvalidArgument(f"target {text!r} has unprintable characters")
    head, colon, value = text.partition(":")
    if not colon:
        head, value = "pid", text
        if not text.isascii() or not text.isdigit():
            kinds = " ".join(f"{kind.value}:..." for kind in SpecKind)
            raise InvalidArgument(f"target {text!r} is neither a pid nor one of {kinds}")
    try:
        kind = SpecKind(head)
    except ValueError:
        kinds = ", ".join(kind.value for kind in SpecKind)
        raise InvalidArgument(f"target {text!r} begins with {head!r}, expected one of {kinds}") from None
    return Spec(kind, _CHECKS[kind](text, value))


def _pid(text: str, value: str) -> str:
    if not (value.isascii() and value.isdigit() and len(value) <= 7 and 1 <= int(value) <= PID_MAX):
        raise InvalidArgument(f"target {text!r} has no pid between 1 and {PID_MAX}")
    return str(int(value))


def _unit(text: str, value: str) -> str:
    if not _UNIT.fullmatch(value):
        raise InvalidArgument(f"target {text!r} has no unit name")
    return value if value.endswith(_SUFFIXES) else value + ".service"


def _absolute(text: str, value: str) -> str:
    if not value.startswith("/") or "/../" in value + "/":
        raise InvalidArgument(f"target {text!r} has no absolute path")
    return value.rstrip("/") or "/"


def _word(text: str, value: str) -> str:
    if not value:
        raise InvalidArgument(f"target {text!r} has nothing after the colon")
    return value


def _comm(text: str, value: str) -> str:
    # longer names are cut by the kernel, so cut ours to match; it may cut within a character, which is then left out
    return _word(text, value).encode()[:COMM_BYTES].decode(errors="ignore")


_CHECKS = {
    SpecKind.PID: _pid,
    SpecKind.UNIT: _unit,
    SpecKind.CGROUP: _absolute,
    SpecKind.COMM: _comm,
    SpecKind.EXE: _absolute,
    SpecKind.USER: _word,
}
