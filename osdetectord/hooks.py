"""Which hook serves each collector, as people are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from osdetectord.collector import Collector
from osdetectord.core import HookView


def hook_views(collectors: Iterable[Collector], ranks: Mapping[str, tuple[int, str]]) -> tuple[HookView, ...]:
    """Return a view of each of these collectors.

    Parameters
    ----------
    collectors
        Which.
    ranks
        By the collector's name, the position of the hook that serves it, -1 for none, and why no better one does.
    """
    views = []
    for collector in collectors:
        rank, why = ranks[collector.name]
        views.append(HookView(collector.name, collector.hooks[rank].name if rank >= 0 else "", rank, why))
    return tuple(views)
