"""What could serve each collector and the probes here, tried without a daemon: ``python3 -m osdetectord.bpf.check``.

Prints JSON: ``{"error": "" or why the kernel part can't be loaded, "hooks": [{collector, hook, rank, why}]}``.
Exit status 1 where it can't be loaded.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from osdetectord.bpf.kernel import Kernel, Sizes
from osdetectord.bpf.uprobe import Uprobes
from osdetectord.errors import LoadError
from osdetectord.polling import Polling

PROCESSES = 64
"""Room enough for a trial."""


def main() -> int:
    """Load, tell, unload."""
    served: Kernel | Polling
    try:
        served, error = Kernel(Sizes.of(PROCESSES)), ""
        uprobes = served.uprobes
    except LoadError as reason:
        served, error = Polling(str(reason)), str(reason)
        uprobes = Uprobes("", error)
    hooks = [asdict(view) for view in (*served.hook_views(), uprobes.hook_view())]
    served.close()
    json.dump({"error": error, "hooks": hooks}, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main())
