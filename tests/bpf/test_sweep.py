"""Sweeping the kernel's tables: what belongs to nobody goes, what was born meanwhile stays."""

from __future__ import annotations

import numpy as np

from tests.bpf.conftest import count_of, leftovers, tick

NOBODY = np.zeros(0, dtype=np.uint64)
CALLS = 997


def test_a_process_born_after_the_list_of_processes_was_read_loses_nothing(sampler, workload):
    watched = sampler.add(workload.pid)
    workload.do(f"count {CALLS}")
    sampler._kernel.sweep(NOBODY)
    workload.do(f"count {CALLS}")

    assert count_of(sampler, watched, "sched_yield") == 2 * CALLS


def test_what_belonged_to_nobody_at_two_sweeps_is_deleted(sampler, workload):
    watched = sampler.add(workload.pid)
    workload.do(f"count {CALLS}")
    stale = np.array([watched.series + 4711], dtype=np.uint64)
    for name in ("waits", "block"):
        table = sampler._kernel.maps[name]
        table.set(stale.tobytes(), bytes(table.value.itemsize))
    serials, _ = sampler._kernel.maps["processes"].read()
    sampler._kernel.sweep(serials)
    assert stale[0] in sampler._kernel.maps["waits"].read()[0]
    sampler._kernel.sweep(serials)

    for name in ("waits", "block"):
        assert stale[0] not in sampler._kernel.maps[name].read()[0]
    assert count_of(sampler, watched, "sched_yield") == CALLS
    sampler.remove(watched.series)
    tick(sampler)
    assert leftovers(sampler) == {}
