"""When faults and jobs happen."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

FIRST_S, APART_S, SPREAD_S = 300.0, 45.0, 50.0
SHORTEST_S, LONGEST_S, SLOW_LEAK_S = 15.0, 40.0, 50.0
JOB_FIRST_S, JOB_EVERY_S = 60.0, (400.0, 900.0)


@dataclass(frozen=True, slots=True)
class Span:
    """Something that happens from ``first`` to ``last`` seconds after the start."""

    first: float
    last: float
    program: int
    name: str


def faults(names: list[list[str]], seconds: float, random: Random) -> list[Span]:
    """Return faults of each program, one after the other, in any order, with quiet between them."""
    spans = []
    for program, mine in enumerate(names):
        at = FIRST_S + random.uniform(0.0, 60.0)
        left: list[str] = []
        while mine:
            left = left or random.sample(mine, len(mine))
            name = left.pop()
            last = at + (SLOW_LEAK_S if name == "slow_leak" else random.uniform(SHORTEST_S, LONGEST_S))
            if last > seconds - 20.0:
                break
            spans.append(Span(at, last, program, name))
            at = last + (60.0 if "leak" in name else 0.0) + APART_S + random.uniform(0.0, SPREAD_S)
    return sorted(spans, key=lambda span: span.first)


def jobs(names: list[list[str]], seconds: float, random: Random) -> list[Span]:
    """Return jobs of each program, at irregular times."""
    spans = []
    for program, mine in enumerate(names):
        at = JOB_FIRST_S + random.uniform(0.0, JOB_EVERY_S[1])
        while mine and at < seconds:
            spans.append(Span(at, at, program, random.choice(mine)))
            at += random.uniform(*JOB_EVERY_S)
    return sorted(spans, key=lambda span: span.first)
