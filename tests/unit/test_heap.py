"""What arrays leave behind is given back to the system."""

from __future__ import annotations

import subprocess
import sys
import textwrap

MIB = 1 << 20


def test_large_arrays_are_given_back_whatever_lies_above_them():
    # a larger array that was freed teaches glibc to keep the next ones in its heap, below what is allocated later
    code = """
        import os
        import numpy as np
        from osdetectord import heap, statm
        heap.settle()
        first = np.ones(20 << 17)
        del first
        before = statm.rss_bytes(os.getpid())
        large, small = [], []
        for _ in range(7):
            large.append(np.ones(5 << 17))
            small.append(np.ones(1 << 13))
        amid = statm.rss_bytes(os.getpid())
        large.clear()
        print(amid - before, statm.rss_bytes(os.getpid()) - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=60
    )
    taken, left = map(int, done.stdout.split())
    assert taken > 35 * MIB
    assert left < 5 * MIB
