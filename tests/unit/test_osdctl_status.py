"""What status says of the daemon's parts."""

from __future__ import annotations

from osdctl.commands import status
from osdctl.model import Daemon, Detector

OFF = Detector("memory", "off", "switched off in the settings")
LACKS = Detector("lstm", "absent", "python3-torch is not installed")
ON = Detector("level", "on", "")


def daemon(*detectors: Detector) -> Daemon:
    return Daemon("0.1.0", (), detectors, {}, {}, "running", {})


def test_evidences_stand_by_state_and_reason():
    assert status.detectors(daemon(ON, LACKS)) == "on: level; absent: lstm (python3-torch is not installed)"


def test_where_no_evidence_takes_part_nothing_is_judged():
    assert status.detectors(daemon(OFF, LACKS)).startswith("nothing is judged; ")
    assert status.detectors(daemon()) == ""
