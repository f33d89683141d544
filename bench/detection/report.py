"""What became of a recording: by program, fault and hour since the watch began, and how rare its p-values are.

    python3 -m bench.detection.report DIR

All processes of the recording are watched side by side, from their first row, as the daemon would.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402

from bench.detection.metrics import ANOMALY, DONT_CARE, KINDS, NORMAL, Tally, tally, vus_pr  # noqa: E402
from bench.detection.recording.events import Event, labels, read_events  # noqa: E402
from osdetectord import offline  # noqa: E402
from osdetectord.detection.settings import Settings  # noqa: E402

KIND = KINDS["process"]
HOUR_ROWS = 3600
WARMUP_S = 60.0
RARE = (0.1, 0.01, 0.001)


def report(directory: Path) -> None:
    """Print how well the recording's faults were found, and how often there was a false alarm."""
    events, tables = read_events(directory), [offline.read(path)[0] for path in offline.files([str(directory)])]
    outcomes = offline.detect(tables, Settings(warmup_s=WARMUP_S), KIND.interval_s)
    total, lingering, normal = Tally(), 0, []
    ranks: defaultdict[str, list[float]] = defaultdict(list)
    by_program: defaultdict[str, Tally] = defaultdict(Tally)
    by_hour: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    by_fault: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for table, outcome in zip(tables, outcomes, strict=True):
        label = np.array(labels(table.name, len(table.values), events))
        program = table.name.rstrip("0123456789")
        tally(total, label, outcome.alarm, KIND)
        tally(by_program[program], label, outcome.alarm, KIND)
        if (label == ANOMALY).any():
            care = label != DONT_CARE
            ranks[program].append(vus_pr(label[care] == ANOMALY, outcome.score[care], KIND.buffer))
        for hour in range(-(-len(label) // HOUR_ROWS)):
            part, one = slice(hour * HOUR_ROWS, (hour + 1) * HOUR_ROWS), Tally()
            tally(one, label[part], outcome.alarm[part], KIND)
            by_hour[hour][0] += one.false
            by_hour[hour][1] += one.normal_rows
        for event in _faults(events, table.name):
            by_fault[event.name][0] += bool(outcome.alarm[event.first : event.last].any())
            by_fault[event.name][1] += 1
        normal.append(outcome.p_value[(label == NORMAL) & (outcome.score > 0.0).cumsum().astype(bool)])
        for began, ended in offline.runs(outcome.alarm):
            for first, last in offline.runs((outcome.alarm & (label == NORMAL))[began : ended + 1]):
                lingers = bool((label[began : began + first] == ANOMALY).any())
                lingering += lingers
                what, cause = "goes on" if lingers else "false alarm", _cause(events, table.name, began + first)
                print(f"{what:11}  {table.name:14} {began + first:6d} .. {began + last:6d}  {cause}")
    if ranks:
        delay = np.median(total.delays) if total.delays else np.nan
        mean = np.mean([value for values in ranks.values() for value in values])
        print(f"VUS-PR {mean:.3f}  recall {total.recall:.2f}  precision {total.precision:.2f}  ", end="")
        print(f"F1 {total.f1:.3f}  median delay {delay:.0f} s")
        print(f"{lingering} of the false alarms are alarms of a fault that went on after its label's end")
    for program, one in sorted(by_program.items()):
        found = (
            f"VUS-PR {np.mean(ranks[program]):.3f}, {one.found} of {one.events} faults found, " if one.events else ""
        )
        print(f"{program:20} {found}{one.false} false alarms")
    for name, (told, number) in sorted(by_fault.items(), key=lambda item: item[1][0] / item[1][1]):
        print(f"{name:20} {told:3d} of {number:3d} found")
    quiet = np.concatenate(normal)
    shares = ", ".join(f"{np.mean(quiet <= p):.2g} have p <= {p:g}" for p in RARE)
    print(f"of {len(quiet)} rows that were judged and without a fault {shares}")
    for hour, (false, rows) in sorted(by_hour.items()):
        hours = rows / HOUR_ROWS
        print(
            f"hour {hour + 1} since watch: {false:3d} false alarms in {hours:.1f} process-hours, "
            f"{false / max(hours, 1e-9):.2f} an hour, {24 * false / max(hours, 1e-9):.1f} a day"
        )


def _faults(events: list[Event], process: str) -> list[Event]:
    return [event for event in events if event.process == process and not event.job]


def _cause(events: list[Event], process: str, row: int) -> str:
    near = [event.name for event in events if event.process == process and event.first - 2 <= row <= event.last + 90]
    return f"after {near[-1]}" if near else ""


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    report(Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
