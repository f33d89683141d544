"""The packages, built from this tree, and boxes in which they are installed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import ROOT, Box

# The shortest warm-up that the configuration allows: a test waits for it in earnest.
QUICK = "detection:\n  warmup_s: 30\n"


@pytest.fixture(scope="session")
def debs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The binary packages by name."""
    out = tmp_path_factory.mktemp("debs")
    done = subprocess.run([ROOT / "packaging/build-deb.sh", out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return {path.name.split("_")[0]: path for path in out.glob("*.deb")}


@pytest.fixture(scope="session")
def bare_box() -> Iterator[Box]:
    """A box without osdetectord, for one test to install and purge in."""
    box = Box("osd-bare")
    box.up()
    yield box
    box.down()


@pytest.fixture(scope="session")
def box(debs: dict[str, Path]) -> Iterator[Box]:
    """A box in which the packages are installed and nothing else was done."""
    box = Box("osd")
    box.up(f"--bind-ro={debs['osdetectord'].parent}", f"--bind={ROOT}")
    try:
        box.run("dpkg", "--install", *(str(path) for path in debs.values()), timeout_s=120)
        box.write("/etc/osdetectord/conf.d/50-quick.yml", QUICK)
        yield box
    finally:
        box.down()
