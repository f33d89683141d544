"""The collectors' truth tests on the kernels that Debian 12 and 13 come with, in a machine of software.

Each test that runs in there is a test here, under the same name.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
import subprocess
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import image
import machine
import pytest

ROOT = Path(__file__).resolve().parents[2]

GROUPS = (("test_truth.py", "test_syscall_log.py", "test_block.py"), ("test_probes.py", "test_network.py"))
"""Of tests/bpf: what the kernel part counts, against what is known to have happened; a group for each processor."""

ELSEWHERE = frozenset(
    {
        "test_the_probe_ends_with_its_descriptors",
        "test_without_a_way_nothing_can_be_added",
        "test_the_capabilities_of_the_service_are_enough_for_links",
        "test_the_perf_way_says_what_it_lacks_in_the_service",
        "test_loses_nothing_while_it_is_read_all_the_time",
    }
)
"""Tests that compile once more, half a minute each in there, for what is alike on all kernels or is checked here."""

SERVICE = "setpriv --bounding-set=-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search --inh-caps=-all --no-new-privs"

TIMEOUT_S = 1000
"""Enough for a machine whose cores others use too."""

PYTEST = ("/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider")

SOURCES = ("osdetectord", "tests/conftest.py", "tests/bpf", "tests/bus", "tests/kernels", "pyproject.toml")

BEGIN = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export PYTHONPATH=/tmp/source/tests/kernels:/tmp/source
results=/run/results
cp -r $results/source /tmp && cd /tmp/source
uname -r >$results/release
"""
CHECKS = f"""{{
/usr/bin/python3 -m patience osdetectord.bpf.check >$results/check-root 2>$results/said-root
{SERVICE} /usr/bin/python3 -m patience osdetectord.bpf.check >$results/check-service 2>$results/said-service
}} &
"""
GROUP = (
    f"{shlex.join(PYTEST)} -v -p patience -o timeout=600 --durations=10 --basetemp=/tmp/tests-%(group)d "
    "--junit-xml=$results/tests-%(group)d.xml %(names)s >$results/tests-%(group)d 2>&1 &\n"
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a release's kernel is known to have.

    Parameters
    ----------
    suite
        The release.
    hooks
        By collector: which of its hooks serves, and what the better ones lack.
    denied
        What nothing serves with the capabilities of the service, and what it would need.
    besides
        Parameters of tests of ways that it does not go: what it lacks, and what it needs no fallback for.
    """

    suite: str
    hooks: Mapping[str, tuple[int, str]]
    denied: Mapping[str, str]
    besides: frozenset[str]


EVERYWHERE = {"lifecycle": (0, ""), "cpu": (0, ""), "syscalls": (0, "")}

KERNELS = {
    "6.1": Expected(
        "bookworm",
        {
            **EVERYWHERE,
            # 6e6eda44b939 (6.3), 5a80bd075f3b (6.5) and 89ae89f53d20 (6.6)
            "network": (1, "sock_send_length: no such event"),
            "block": (1, "block_io_start: no such event"),
            "packets": (1, "sock_send_length: no such event"),
            "functions": (1, "no uprobe_multi links"),
        },
        {"functions": "CAP_SYS_ADMIN"},
        frozenset({"sockets tell", "starts are told", "multi"}),
    ),
    "6.12": Expected(
        "trixie",
        {**EVERYWHERE, "network": (0, ""), "block": (0, ""), "packets": (0, ""), "functions": (0, "")},
        {},
        frozenset({"system calls tell", "issues are told", "perf"}),
    ),
}


Hooks = Mapping[str, Mapping[str, Any]]
"""What the check says, by collector."""


Said = tuple[str, str]
"""What a test said, nothing where it passed; and what it had said in a first try that failed."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came out of a machine: its release, what serves root and the service, what each test said."""

    release: str
    root: Hooks
    service: Hooks
    said: Mapping[str, Said]


Reports = Callable[[str], Report | str]


@functools.cache
def collected(files: tuple[str, ...]) -> list[str]:
    """Names of the tests there are."""
    paths = [f"tests/bpf/{name}" for name in files]
    done = subprocess.run(
        [*PYTEST, "--collect-only", "-q", *paths], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


def wanted(files: tuple[str, ...], besides: frozenset[str]) -> list[str]:
    """Names of those that are about ways that a kernel goes."""
    other = re.compile(rf"(::|\[|-)({'|'.join(besides | ELSEWHERE)})(\[|\]|-|$)")
    return [name for name in collected(files) if not other.search(name)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "truth" in metafunc.fixturenames:
        pairs = [
            (version, name)
            for version, expected in KERNELS.items()
            for files in GROUPS
            for name in wanted(files, expected.besides)
        ]
        ids = [f"{version} {name.removeprefix('tests/bpf/')}" for version, name in pairs]
        metafunc.parametrize(("version", "truth"), pairs, ids=ids)
    elif "version" in metafunc.fixturenames:
        metafunc.parametrize("version", KERNELS)


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """What came out for a version, or why nothing did; one machine for all its tests."""
    return functools.cache(lambda version: try_out(KERNELS[version], tmp_path_factory.mktemp("machine")))


def try_out(expected: Expected, directory: Path) -> Report | str:
    """Run all in a machine; gives why not, where there is no report.

    Two emulated processors have crashed a kernel once; a second machine tells whether it was the emulation, and
    the crash is told as a warning.
    """
    try:
        try:
            return run_in_machine(expected, directory / "first")
        except machine.EndedEarly as error:
            warnings.warn(str(error), stacklevel=1)
            return run_in_machine(expected, directory / "second")
    except AssertionError as error:
        # enough to know for all the tests
        return str(error)


def run_in_machine(expected: Expected, directory: Path) -> Report:
    """Run all in one machine."""
    results = directory / "results"
    copy_sources(results / "source")
    groups = [wanted(files, expected.besides) for files in GROUPS]
    command = (
        BEGIN
        + CHECKS
        + "".join(GROUP % {"group": number, "names": shlex.join(names)} for number, names in enumerate(groups))
    )
    machine.run(image.fetch(expected.suite), f"{command}wait\n", directory, TIMEOUT_S)
    said: dict[str, Said] = {}
    for number in range(len(groups)):
        told = results / f"tests-{number}.xml"
        assert told.exists(), (results / f"tests-{number}").read_text(errors="replace")[-3000:]
        said.update(map(outcome, ElementTree.parse(told).iter("testcase")))
    release = (results / "release").read_text().strip()
    return Report(release, checked(results, "root"), checked(results, "service"), said)


@pytest.fixture
def report(reports: Reports, version: str) -> Report:
    found = reports(version)
    assert isinstance(found, Report), found
    return found


def checked(results: Path, who: str) -> Hooks:
    """What the check said for somebody."""
    check = (results / f"check-{who}").read_text()
    assert check, (results / f"said-{who}").read_text()
    return {hook["collector"]: hook for hook in json.loads(check)["hooks"]}


def copy_sources(to: Path) -> None:
    """As they are now, whoever edits them meanwhile."""
    for name in SOURCES:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to / name)


def outcome(case: ElementTree.Element) -> tuple[str, Said]:
    """A test's name, and what it said."""
    path = case.attrib["classname"].replace(".", "/")
    parts = [part for part in case if part.tag in ("failure", "error", "skipped")]
    said = "\n".join(f"{part.tag}: {part.attrib.get('message', '')}\n{part.text or ''}" for part in parts)
    before = [each.attrib["value"] for each in case.iter("property") if each.attrib["name"] == "before"]
    return f"{path}.py::{case.attrib['name']}", (said, "\n".join(before))


pytestmark = pytest.mark.timeout(2 * TIMEOUT_S + 300)


def test_is_the_kernel_it_should_be(report: Report, version: str):
    assert report.release.startswith(f"{version}.")


def test_each_collector_is_served_by_the_best_that_the_kernel_has(report: Report, version: str):
    expected = KERNELS[version].hooks

    assert {name: hook["rank"] for name, hook in report.root.items()} == {
        name: rank for name, (rank, _) in expected.items()
    }
    assert [name for name, (_, lacking) in expected.items() if lacking not in report.root[name]["why"]] == []


def test_the_service_lacks_nothing_but_what_is_known(report: Report, version: str):
    expected = KERNELS[version]
    served = {name: (rank, "") for name, (rank, _) in expected.hooks.items()}
    denied = {name: (-1, needed) for name, needed in expected.denied.items()}

    assert {name: hook["rank"] for name, hook in report.service.items()} == {
        name: rank for name, (rank, _) in {**served, **denied}.items()
    }
    assert [name for name, needed in expected.denied.items() if needed not in report.service[name]["why"]] == []


def test_holds_there(report: Report, truth: str):
    assert truth in report.said, f"{report.release} did not run it"
    said, before = report.said[truth]
    if before:
        warnings.warn(f"held in a second try only: {before}", stacklevel=1)
    assert said == ""
