"""From the fault in a real server to the record that its administrator reads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from box import ROOT, Box, until

from osdetectord import record

REDIS = "redis-server.service"
WORK = ROOT / "bench/redis_work.py"


@pytest.fixture
def loaded_redis(box: Box) -> Iterator[Box]:
    """The box with Debian's redis-server under a steady load."""
    box.run("systemctl", "start", REDIS)
    box.run("systemd-run", "--quiet", "--unit=redis-load", "/usr/bin/python3", str(WORK), "load")
    yield box
    box.run("systemctl", "stop", "redis-load.service", REDIS)


def opened(box: Box) -> list[dict[str, str]]:
    """Return the records of redis's anomalies as its own unit's log shows them."""
    return box.records("--unit", REDIS, f"MESSAGE_ID={record.ANOMALY_OPENED}")


@pytest.mark.timeout(300)
def test_an_anomaly_of_redis_is_in_the_log_of_redis_with_its_explanation(loaded_redis: Box) -> None:
    box = loaded_redis
    box.run("osdctl", "watch", f"unit:{REDIS}")
    until(
        "what is normal is learnt",
        lambda: box.osdctl_json("show", f"unit:{REDIS}")["state"] == "normal",
        timeout_s=120,
    )
    known = len(opened(box))

    box.run("systemd-run", "--quiet", "--unit=redis-leak", "/usr/bin/python3", str(WORK), "--seconds=60", "leak")
    told = until("the anomaly", lambda: opened(box)[known:], timeout_s=60)[0]
    box.run("systemctl", "stop", "redis-leak.service")

    pid = box.main_pid(REDIS)
    assert (told["OBJECT_PID"], told["PRIORITY"]) == (str(pid), "4")
    assert told["OSDETECTOR_TARGET"] == f"unit:{REDIS}"
    assert told["MESSAGE"].startswith(f"redis-server[{pid}]: ")
    assert told["_UID"] == "0"
    explained = box.run("journalctl", "--no-pager", "-x", "--unit", REDIS)
    assert told["MESSAGE"] in explained
    assert f"osdctl explain {told['OSDETECTOR_ANOMALY_ID']}" in explained
    assert f"most to blame:  {told['OSDETECTOR_METRICS']}" in explained
    shown = box.osdctl_json("anomalies", "--target", f"unit:{REDIS}")
    assert int(told["OSDETECTOR_ANOMALY_ID"]) in [anomaly["id"] for anomaly in shown]

    until(
        "the record of its end",
        lambda: [
            closed
            for closed in box.records("--unit", REDIS, f"MESSAGE_ID={record.ANOMALY_CLOSED}")
            if closed["OSDETECTOR_ANOMALY_ID"] == told["OSDETECTOR_ANOMALY_ID"]
        ],
        timeout_s=90,
    )
