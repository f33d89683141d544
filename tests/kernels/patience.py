"""In a machine of software, where all takes thirty times as long: waits longer for the loader.

A plugin of pytest, and ``python3 -m patience MODULE`` for a program.
"""

from __future__ import annotations

import runpy
import sys

import osdetectord.bpf.kernel

osdetectord.bpf.kernel.LOADER_TIMEOUT_S = 600.0

if __name__ == "__main__":
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
