"""Trouble: what goes wrong again and again is said once, and once when it is over."""

from __future__ import annotations

from osdetectord.logger import get_logger

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
