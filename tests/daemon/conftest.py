"""The whole daemon, one for all tests that leave it as it was, and programs whose functions are known."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from private_bus import wait_until

from tests.bpf.obedient import PROBED, Probed
from tests.daemon.whole_daemon import Daemon, running

Run = Callable[..., Probed]


@pytest.fixture(scope="session")
def one_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon


@pytest.fixture
def daemon(one_daemon: Daemon) -> Iterator[Daemon]:
    """The one daemon, with nothing watched, probed or traced before and after each test."""
    yield one_daemon
    # some end by themselves meanwhile, with their processes
    for kind, number in one_daemon.objects():
        one_daemon.osdctl(*(("unwatch",) if kind == "target" else (kind, "remove")), number)
    wait_until(lambda: not one_daemon.objects())
    assert "Traceback" not in one_daemon.said()


@pytest.fixture
def own_daemon(tmp_path: Path) -> Iterator[Daemon]:
    """One that a test may stop, kill and configure."""
    with running(tmp_path) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probed") / "probed"
    subprocess.run(["gcc", "-O2", "-fno-omit-frame-pointer", "-o", path, PROBED, "-pthread"], check=True)
    return path


@pytest.fixture
def run(program: Path) -> Iterator[Run]:
    processes: list[Probed] = []

    def start(*arguments: str, path: Path = program) -> Probed:
        processes.append(Probed(path, *arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.end()
