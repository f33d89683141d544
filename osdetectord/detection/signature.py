"""Signature: which metrics an episode moved, which way and how far; like signatures recur."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from osdetectord.detection.slots import Floats

QUIET = 2.0
"""Deviations below two spreads are noise and not part of a signature."""
ALIKE = 0.8
"""Cosine from which two signatures are like each other."""
LOUDER = 1.5
"""A signature so much longer than a known one is news, whatever its direction."""
MOST_KNOWN = 64


@dataclass(slots=True, eq=False)
class Known:
    """An episode of the past; equal to itself only, since arrays cannot say in one word whether they are alike.

    Parameters
    ----------
    direction
        Shape ``(M,)``: mean signed deviation, in spreads.
    count
        How often it was seen.
    word
        What the user said of it: 1 useful, -1 false, 0 nothing.
    """

    direction: Floats
    count: int = 1
    word: int = 0


def signature(deviation: Floats) -> Floats:
    """Return the signature of a mean deviation of shape ``(M,)``: zero where it is within noise."""
    return np.where(np.abs(deviation) >= QUIET, deviation, 0.0)


def alike(one: Floats, other: Floats) -> float:
    """Return the cosine of two signatures, in ``[-1, 1]``; 0 where one is empty."""
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length > 0.0 else 0.0


class Catalogue:
    """What is known of the episodes of one program."""

    def __init__(self) -> None:
        self.known: list[Known] = []

    def find(self, direction: Floats) -> Known | None:
        """Return the likest known episode, or nothing where none is like it."""
        likest = max(self.known, key=lambda known: alike(known.direction, direction), default=None)
        return likest if likest is not None and alike(likest.direction, direction) >= ALIKE else None

    def silenced(self, direction: Floats) -> bool:
        """Return whether the user called such an episode false, and it is not much stronger now."""
        known = self.find(direction)
        if known is None or known.word >= 0:
            return False
        return float(np.linalg.norm(direction)) <= LOUDER * float(np.linalg.norm(known.direction))

    def note(self, direction: Floats) -> Known | None:
        """Count an episode that ended; returns what it is remembered as, nothing if it left no signature."""
        if not direction.any():
            return None
        known = self.find(direction)
        if known is not None:
            known.direction = known.direction + (direction - known.direction) / (known.count + 1)
            known.count += 1
            return known
        known = Known(direction)
        self.known.append(known)
        if len(self.known) > MOST_KNOWN:
            # the newcomer stays, or nothing that is seen rarely would ever be seen twice
            others = self.known[:-1]
            unjudged = [k for k in others if k.word == 0] or others
            self.known.remove(min(unjudged, key=lambda k: k.count))
        return known

    def arrays(self, metrics: int) -> dict[str, Floats]:
        """Return all as arrays, to be saved."""
        return {
            "known.direction": np.array([k.direction for k in self.known]).reshape(-1, metrics),
            "known.count": np.array([k.count for k in self.known], np.float64),
            "known.word": np.array([k.word for k in self.known], np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, Floats]) -> Catalogue:
        """Return what :meth:`arrays` gave."""
        catalogue = cls()
        columns = (arrays["known.direction"], arrays["known.count"], arrays["known.word"])
        for direction, count, word in zip(*columns, strict=True):
            catalogue.known.append(Known(direction.copy(), int(count), int(word)))
        return catalogue
