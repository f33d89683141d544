"""Record real programs through the collectors, with faults at known times, and say how well they are found.

    python3 -m bench.detection.recording --minutes N [--clean] [--copies N] [--seed N] [--only NAME,...] DIR

As root.  DIR gets NAME.csv for each process (``t``, metrics, ``label``: 0 normal, 1 fault, 2 don't care) and
events.json.  With --clean there are jobs and no faults.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import Random

from bench.detection.recording import schedule
from bench.detection.recording.program import Program
from bench.detection.recording.programs import REGISTRY, program_class
from bench.detection.recording.recorder import Recorder
from bench.detection.report import report

SETTLE_S = 5.0


async def record(options: argparse.Namespace, room: Path) -> None:
    """Start the programs, record them, end them."""
    names = options.only.split(",") if options.only else list(REGISTRY)
    random, programs, pids = Random(options.seed), dict[str, Program](), list[int]()
    try:
        for copy in range(options.copies):
            for name in names:
                own = room / f"{name}{copy}"
                own.mkdir()
                program = programs[f"{name}{copy}"] = program_class(name)(own, Random(random.randrange(10**9)))
                pids.append(await program.start())
        await asyncio.sleep(SETTLE_S)
        recorder, seconds = Recorder(programs, pids), round(60 * options.minutes)
        faults = [] if options.clean else schedule.faults(recorder.faults, seconds, random)
        await recorder.run(seconds, faults, schedule.jobs(recorder.jobs, seconds, random))
        recorder.write(options.directory)
    finally:
        for program in programs.values():
            program.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m bench.detection.recording", description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=40.0, metavar="N")
    parser.add_argument("--clean", action="store_true", help="jobs, but no faults")
    parser.add_argument("--copies", type=int, default=1, metavar="N", help="processes of each program")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another one is another session")
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(REGISTRY)}")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    # or else the programs would outlive the recording
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    room = Path(tempfile.mkdtemp(prefix="recording"))
    room.chmod(0o755)
    try:
        asyncio.run(record(options, room))
    finally:
        shutil.rmtree(room)
    report(options.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
