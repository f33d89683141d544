"""Every ten seconds reads a part of its files; every minute writes a report."""

from __future__ import annotations

import hashlib
import json
import time

from misbehave import RANDOM, ROOM, load, work

FILES, SIZE = 40, 20000

files = [ROOM / f"part{number}" for number in range(FILES)]
for file in files:
    file.write_bytes(RANDOM.randbytes(SIZE))
second = 0
while True:
    second += 1
    if second % 10 == 0:
        for file in RANDOM.sample(files, min(FILES, int(20 * load()) + 1)):
            hashlib.md5(file.read_bytes()).hexdigest()
            work(50)
    if second % 60 == 0:
        (ROOM / "report").write_text(json.dumps({"second": second, "rows": list(range(5000))}))
    time.sleep(1.0)
