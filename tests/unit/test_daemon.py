"""What the daemon makes of a tick, whatever goes wrong with a part of it."""

from __future__ import annotations

from unittest.mock import MagicMock

import numpy as np
from structlog.testing import capture_logs

from osdetectord.daemon import Daemon
from osdetectord.process import Process
from osdetectord.sample import Frame
from osdetectord.sampler import Exited, Tick
from osdetectord.trouble import Troubles

ENDED = Exited(series=7, process=Process(4711, 13), comm="sh", code=0, signal=0, core=False, totals={})


def test_who_ended_is_told_also_where_the_samples_of_that_tick_cannot_be_taken_in():
    daemon = MagicMock()
    daemon._untaken = Troubles("%s are not taken in", "%s are taken in again")
    daemon._untold = Troubles("%s", "%s")
    daemon._exited.return_value = []
    daemon._take.side_effect = [OSError, OSError, None]
    nothing = np.zeros((0, 0))
    tick = Tick(Frame(1, 1.0, np.zeros(0, np.uint64), (), nothing), nothing, (), (), (ENDED,), ())
    with capture_logs() as logs:
        for _ in range(3):
            Daemon._on_tick(daemon, tick)
    assert [call.args for call in daemon._exited.call_args_list] == [(ENDED,)] * 3
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
