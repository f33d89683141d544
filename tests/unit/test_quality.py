"""The source keeps its own rules: lint, format, types, and imports that only point down."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PACKAGES = ("osdetectord", "osdctl")

# A module may import modules of its own floor and of those below.  The first pattern that fits counts.
FLOORS = {
    "osdetectord": 0,
    "osdetectord.errors": 0,
    "osdetectord.metric": 0,
    "osdetectord.process": 0,
    "osdetectord.sample": 0,
    "osdetectord.anomaly": 0,
    "osdetectord.verdict": 0,
    "osdetectord.quantity": 0,
    "osdetectord.core": 1,
    "osdetectord.wire": 1,
    "osdetectord.messages": 1,
    "osdetectord.target": 1,
    "osdetectord.config": 1,
    "osdetectord.series": 1,
    "osdetectord.collector": 1,
    "osdetectord.detection*": 2,
    "osdetectord.collectors*": 2,
    "osdetectord.bpf*": 3,
    "osdetectord.bus*": 3,
    "osdetectord.proc": 3,
    "osdetectord.journal": 3,
    "osdetectord.lean": 0,
    "osdetectord.heap": 0,
    "osdetectord.logger": 1,
    "osdetectord.trouble": 1,
    "osdetectord.probing.event": 1,
    "osdetectord.probing.location": 1,
    "osdetectord.probing.signature": 1,
    "osdetectord.probing.instruction": 1,
    "osdetectord.probing.mapping": 3,
    "osdetectord.probing.allocations": 3,
    "osdetectord.probing.probes": 3,
    "osdetectord.probing*": 2,
    "osdetectord.offline": 4,
    "osdetectord.snoop.table": 3,
    "osdetectord.snoop.program": 3,
    "osdetectord.snoop*": 4,
    "osdetectord.log": 3,
    "osdetectord.notify": 3,
    "osdetectord.wall": 0,
    "osdetectord.state_file": 3,
    "osdetectord.record": 1,
    "osdetectord.worker_client": 3,
    "osdetectord.history": 3,
    "osdetectord.history_file": 3,
    "osdetectord.thinning": 1,
    "osdetectord.recording": 3,
    "osdetectord.keeping": 4,
    "osdetectord.happenings": 0,
    "osdetectord.noting": 4,
    "osdetectord.evidence": 4,
    "osdetectord.cost": 4,
    "osdetectord.losses": 4,
    "osdetectord.pulse": 4,
    "osdetectord.remembering": 4,
    "osdetectord.statm": 2,
    "osdetectord.hooks": 1,
    "osdetectord.polling": 3,
    "osdetectord.matching": 3,
    "osdetectord.sampler": 3,
    "osdetectord.ticker": 4,
    "osdetectord.watching": 4,
    "osdetectord.follower": 3,
    "osdetectord.sharing": 4,
    "osdetectord.tending": 4,
    "osdetectord.instruments": 4,
    "osdetectord.allocating": 4,
    "osdetectord.inside": 4,
    "osdetectord.tasks": 3,
    "osdetectord.measured": 3,
    "osdetectord.parts": 4,
    "osdetectord.top": 3,
    "osdetectord.anomalies": 4,
    "osdetectord.worker": 4,
    "osdetectord.daemon": 4,
    "osdetectord.__main__": 4,
}

# What may be imported beyond the standard library and our own package, by the first pattern that fits.
# Each outside thing has one door.
LIBRARIES: dict[str, set[str]] = {
    "osdetectord.detection.evidences.lstm": {"numpy", "torch"},
    "osdetectord.detection*": {"numpy", "scipy"},
    "osdetectord.collectors*": {"numpy", "scipy"},
    "osdetectord.bpf.loader": {"bcc"},
    "osdetectord.bpf*": {"numpy"},
    "osdetectord.bus.adapter": {"dbus_next"},
    "osdetectord.bus*": set(),
    "osdetectord.config": {"yaml"},
    "osdetectord.logger": {"structlog"},
    "osdetectord.offline": {"numpy", "matplotlib"},
    "osdetectord.snoop.top": {"psutil"},
    "osdetectord.top": {"psutil"},
    "osdetectord.notify": {"sdnotify"},
    "osdetectord.*": {"numpy"},
    "osdctl.bus": {"dbus_next"},
    "osdctl.image": {"matplotlib"},
    "osdctl*": set(),
}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield name and path of each module."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the full name of each thing that is imported anywhere in the file, and its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def module_of(name: str) -> str:
    """Return the module that ``name`` is in, which is it or the nearest above it."""
    while name not in MODULES:
        assert "." in name, name
        name = name.rpartition(".")[0]
    return name


def first_fit(table: Mapping[str, T], name: str) -> T | None:
    """Return what the first pattern that fits ``name`` has."""
    return next((value for pattern, value in table.items() if fnmatchcase(name, pattern)), None)


def tool(name: str) -> str:
    """Return the path of a lint tool."""
    path = shutil.which(name, path=f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        pytest.fail(f"{name} is neither in .venv/bin nor in the path: ./run test installs it")
    return path


def passes(*command: str) -> None:
    """Run a tool in the checkout; what it prints is the failure."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_ruff_finds_nothing() -> None:
    passes(tool("ruff"), "check", "--quiet", ".")


def test_the_source_is_formatted() -> None:
    passes(tool("ruff"), "format", "--check", "--quiet", ".")


def test_types_hold_strictly() -> None:
    passes(tool("mypy"), "--strict", "--no-error-summary", *PACKAGES)


def test_every_module_has_a_floor() -> None:
    homeless = [name for name in MODULES if name.startswith("osdetectord") and first_fit(FLOORS, name) is None]
    assert not homeless, "\n".join(homeless)


def test_imports_point_down() -> None:
    upward = []
    for name in MODULES:
        floor = first_fit(FLOORS, name)
        for imported, line in imports(MODULES[name]):
            if floor is None or imported.split(".")[0] != "osdetectord":
                continue
            target = module_of(imported)
            above = first_fit(FLOORS, target)
            if above is not None and above > floor:
                upward.append(f"{name}:{line} on floor {floor} imports {target} of floor {above}")
    assert not upward, "\n".join(upward)


def test_the_client_knows_nothing_of_the_daemon() -> None:
    known = [
        f"{name}:{line} imports {imported}"
        for name in MODULES
        if name.startswith("osdctl")
        for imported, line in imports(MODULES[name])
        if imported.split(".")[0] == "osdetectord"
    ]
    assert not known, "\n".join(known)


def test_each_library_comes_in_by_its_door() -> None:
    others = []
    for name in MODULES:
        allowed = set(first_fit(LIBRARIES, name) or ())
        for imported, line in imports(MODULES[name]):
            top = imported.split(".")[0]
            if top not in sys.stdlib_module_names and top not in (*PACKAGES, *allowed):
                others.append(f"{name}:{line} imports {top}, allowed here: {', '.join(sorted(allowed)) or 'nothing'}")
    assert not others, "\n".join(others)


def test_each_module_opens_with_one_sentence() -> None:
    silent = []
    for name, path in MODULES.items():
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = docstring.split("\n\n")[0].split("\n")[0]
        if not first.endswith("."):
            silent.append(f"{name} opens with {first!r}")
    assert not silent, "\n".join(silent)


def test_no_line_of_the_tables_is_left_over() -> None:
    unused = [p for p in [*FLOORS, *LIBRARIES] if not any(fnmatchcase(name, p) for name in MODULES)]
    assert not unused, "\n".join(unused)
