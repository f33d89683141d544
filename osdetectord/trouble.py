"""Trouble: what goes wrong again and again is said once, and once when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from osdetectord.logger import get_logger

MOST_LASTING = 65_536
"""Troubles of one kind that are remembered, no fewer than processes can be watched; the one that was met longest ago is
forgotten first, and may be said again."""

logger = get_logger()


class Trouble:
    """One thing that may go wrong for a while.

    Parameters
    ----------
    over
        What is said when it goes well again.
    """

    def __init__(self, over: str) -> None:
        self._over = over
        self._lasts = False

    def met(self, text: str, *values: object) -> None:
        """Note that it went wrong; said as an error, unless it did before."""
        if not self._lasts:
            logger.error(text, *values)
        self._lasts = True

    def passed(self) -> None:
        """Note that it went well."""
        if self._lasts:
            logger.info(self._over)
        self._lasts = False


class Troubles:
    """Many things, of which each may go wrong without the others.

    Parameters
    ----------
    wrong, over
        What is said of one, by its name for ``%s``.
    """

    def __init__(self, wrong: str, over: str) -> None:
        self._wrong, self._over = wrong, over
        self._lasting: dict[str, None] = {}

    @contextmanager
    def apart(self, name: str) -> Iterator[None]:
        """Let what goes wrong within go no further."""
        try:
            yield
        except Exception:  # whatever it is, it is not the others'
            if name not in self._lasting:
                logger.error(self._wrong, name, exc_info=True)
            # those that were met last stand last
            self._lasting.pop(name, None)
            self._lasting[name] = None
            if len(self._lasting) > MOST_LASTING:
                del self._lasting[next(iter(self._lasting))]
        else:
            if name in self._lasting:
                del self._lasting[name]
                logger.info(self._over, name)
