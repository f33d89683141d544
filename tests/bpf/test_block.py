"""Requests to this machine's own disk, against what was read and written there.

Every test runs twice: with the hooks where requests tell when they start, and with what is used where they do not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from osdetectord.collectors.block import BlockCollector
from osdetectord.errors import NoSuchTarget
from osdetectord.sampler import Sampler
from tests.bpf.conftest import served, tick, until
from tests.bpf.obedient import Scripted

# primes
REQUESTS, FEW = 211, 13
BLOCK = 4096


class Storage(Scripted):
    """A process that uses storage as it is told; see storage.py."""

    def __init__(self) -> None:
        super().__init__("storage.py")


@pytest.fixture(scope="module", params=[0, 1], ids=["starts are told", "issues are told"])
def shared(request, shared) -> Iterator[Sampler]:
    with served(shared, BlockCollector, request.param) as sampler:
        yield sampler


@pytest.fixture
def storage() -> Iterator[Storage]:
    process = Storage()
    yield process
    process.end()


@pytest.fixture
def file() -> Iterator[Path]:
    """A file on a disk, with its blocks there: the writes of a test are all of data."""
    directory = Path(f"/var/tmp/osdetectord-test-{os.getpid()}")
    directory.mkdir()
    path = directory / "file"
    with path.open("wb") as out:
        out.write(bytes(8 << 20))
        os.fsync(out.fileno())
    yield path
    shutil.rmtree(directory)


def readings(sampler: Sampler, series: int, group: str = "block") -> dict[str, float]:
    seen = tick(sampler)
    row = seen.readings[list(seen.frame.series).index(series)]
    values = zip((metric.name for metric in sampler.metrics), row, strict=True)
    return {name.removeprefix(f"{group}."): value for name, value in values if name.startswith(f"{group}.")}


def test_every_write_past_the_cache_is_a_request_of_the_process(sampler, storage, file):
    watched = sampler.add(storage.pid).series
    storage.do(f"direct {file} {REQUESTS} {BLOCK}")
    counted = readings(sampler, watched)

    assert (counted["write_requests"], counted["write_bytes"]) == (REQUESTS, REQUESTS * BLOCK)
    assert (counted["read_requests"], counted["read_bytes"]) == (0, 0)
    assert counted["write_bytes"] == readings(sampler, watched, "io")["write_bytes"]


def test_every_read_past_the_cache_is_a_request_of_the_process(sampler, storage, file):
    watched = sampler.add(storage.pid).series
    storage.do(f"read {file} {REQUESTS} {2 * BLOCK}")
    counted = readings(sampler, watched)

    assert (counted["read_requests"], counted["read_bytes"]) == (REQUESTS, REQUESTS * 2 * BLOCK)
    assert (counted["write_requests"], counted["write_bytes"]) == (0, 0)


def test_a_large_write_is_counted_in_full_however_it_is_cut_and_merged(sampler, storage, file):
    watched = sampler.add(storage.pid).series
    storage.do(f"direct {file} 7 {1 << 20}")
    counted = readings(sampler, watched)

    assert counted["write_bytes"] == 7 << 20
    assert 7 <= counted["write_requests"] <= 7 * 256


def test_what_is_synced_is_the_process_own_and_what_is_not_is_nobodys(sampler, storage, file):
    watched = sampler.add(storage.pid).series
    storage.do(f"buffered {file} {1 << 20}")
    quiet = readings(sampler, watched)
    storage.do(f"fsync {file} {FEW} {BLOCK}")
    synced = readings(sampler, watched)

    assert quiet["write_bytes"] == 0
    # the first fsync also writes what was written before
    assert synced["write_bytes"] >= (FEW - 1) * BLOCK
    assert synced["write_requests"] >= FEW


def test_requests_of_strangers_are_not_counted(sampler, storage, file):
    stranger = Storage()
    watched = sampler.add(storage.pid).series
    stranger.do(f"direct {file} {REQUESTS} {BLOCK}")
    stranger.end()

    assert set(readings(sampler, watched).values()) == {0}
    assert not len(sampler._kernel.maps["requests"].read()[0])


def test_a_child_that_writes_and_ends_at_once_is_accounted(sampler, storage, file):
    sampler.add(storage.pid)
    children = {int(storage.do(f"child {file} {FEW} {BLOCK}")) for _ in range(5)}
    ticks = until(sampler, lambda ticks: sum(len(one.exited) for one in ticks) == 5)
    ended = [exited for one in ticks for exited in one.exited]

    assert {exited.process.pid for exited in ended} == children
    assert {exited.totals["block.write_requests"] for exited in ended} == {FEW}
    assert {exited.totals["block.write_bytes"] for exited in ended} == {FEW * BLOCK}


def test_latencies_are_counted_one_by_one_and_summed(sampler, storage, file):
    watched = sampler.add(storage.pid).series
    storage.do(f"direct {file} {REQUESTS} {BLOCK}")
    storage.do(f"read {file} {FEW} {BLOCK}")
    counted = readings(sampler, watched)
    latency = sampler.block_latency(watched)

    assert (latency.writes.total, latency.reads.total) == (REQUESTS, FEW)
    for histogram, seconds in ((latency.writes, counted["write_time"]), (latency.reads, counted["read_time"])):
        floor = sum(count * 2.0**power for power, count in enumerate(histogram.counts) if power) * 1.024e-6
        ceiling = sum(count * 2.0 ** (power + 1) for power, count in enumerate(histogram.counts)) * 1.024e-6
        assert seconds > 0
        assert floor <= seconds <= ceiling
        assert histogram.quantile(0.5) <= histogram.quantile(0.99)


def test_a_process_without_requests_has_no_latency(sampler, storage):
    watched = sampler.add(storage.pid).series

    assert sampler.block_latency(watched).reads.total == 0
    with pytest.raises(NoSuchTarget, match="no series 4711"):
        sampler.block_latency(4711)


def test_nothing_is_left_of_a_process_and_its_requests(sampler, storage, file):
    watched = sampler.add(storage.pid).series
    storage.do(f"direct {file} {FEW} {BLOCK}")
    storage.end()
    until(sampler, lambda ticks: watched in {exited.series for one in ticks for exited in one.exited})

    assert [len(sampler._kernel.maps[name].read()[0]) for name in ("block", "requests")] == [0, 0]
    assert sampler.lost()["requests"] == 0


def test_memory_mapped_and_given_back_is_counted_in_whole_pages(sampler, storage):
    watched = sampler.add(storage.pid).series
    before = readings(sampler, watched, "memory")
    storage.do(f"map {REQUESTS} 5000")
    storage.do(f"unmap {FEW} 5000")
    storage.do(f"remap {1 << 20} {3 << 20}")
    storage.do(f"remap {5 << 20} {1 << 20}")
    storage.do(f"refused {FEW}")
    after = readings(sampler, watched, "memory")

    mapped = REQUESTS * 8192 + (3 << 20) + (5 << 20)
    unmapped = FEW * 8192 + (4 << 20)
    assert after["mapped_bytes"] - before["mapped_bytes"] - mapped == 0
    assert after["unmapped_bytes"] - before["unmapped_bytes"] - unmapped == 0
    assert after["virtual"] - before["virtual"] == mapped - unmapped


def test_the_heap_is_counted_to_the_byte(sampler, storage):
    watched = sampler.add(storage.pid).series
    before = readings(sampler, watched, "memory")
    storage.do("break 1000003")
    storage.do("break -500009")
    after = readings(sampler, watched, "memory")

    assert after["heap_grown_bytes"] - before["heap_grown_bytes"] == 1_000_003
    assert after["heap_shrunk_bytes"] - before["heap_shrunk_bytes"] == 500_009
