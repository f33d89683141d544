"""What a caller may send is turned into what the daemon can hold, or refused with a word on it."""

import asyncio

import pytest

from osdetectord.bus.adapter import Variant
from osdetectord.bus.interface import LARGEST, ROOT, TARGETS, Manager, number_at
from osdetectord.errors import NoSuchTarget

FOREVER = 2**64 - 1


class Core:
    """Says what it was asked."""

    def __init__(self):
        self.asked = []

    def list_anomalies(self, since_us, until_us, target, only_open, limit):
        self.asked.append((since_us, until_us))
        return []

    async def series(self, target, metrics, since_us, max_points):
        self.asked.append((target, since_us))
        return {}


def test_the_path_of_an_object_has_its_number():
    assert [number_at(f"{TARGETS}/{number}", TARGETS) for number in (0, 7, LARGEST)] == [0, 7, LARGEST]


@pytest.mark.parametrize("last", ["", "07", "x", "-1", "٣", str(LARGEST + 1), "9" * 19, "9" * 5000])
def test_what_is_no_number_of_an_object_names_none(last):
    with pytest.raises(NoSuchTarget):
        number_at(f"{TARGETS}/{last}", TARGETS)
    with pytest.raises(NoSuchTarget):
        number_at(f"{ROOT}/7", TARGETS)


def test_a_time_beyond_all_is_the_last_that_there_is():
    core = Core()
    manager = Manager(core)
    manager.ListAnomalies({"since_us": Variant("t", FOREVER), "until_us": Variant("t", FOREVER)})
    asyncio.run(manager.GetSeries(f"{TARGETS}/1", ["cpu.on_cpu"], FOREVER, 10))

    assert core.asked == [(LARGEST, LARGEST), (1, LARGEST)]
