"""The units, the catalogue and the package's lists, without a machine to run them on."""

from __future__ import annotations

import inspect
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from osdctl.registry import COMMANDS
from osdetectord import record
from osdetectord.collectors import layout
from osdetectord.config import Config
from osdetectord.detection.evidences import REGISTRY
from osdetectord.detection.settings import Settings

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
CATALOG = (UNITS / "osdetectord.catalog").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^-- ([0-9a-f]{32})\n(.*?)(?=^-- |\Z)", CATALOG, re.MULTILINE | re.DOTALL))
MESSAGE_IDS = {
    name: value
    for name, value in vars(record).items()
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value)
}
KNOWN_FIELDS = set(re.findall(r'"(OSDETECTOR_[A-Z_]+)"', (ROOT / "osdetectord/record.py").read_text(encoding="utf-8")))


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, which needs no running systemd for these."""
    return subprocess.run(["/usr/bin/systemd-analyze", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("unit", "tenths"), [("osdetectord.service", 15), ("osdetectord-detector.service", 3)])
def test_a_unit_is_exposed_no_more_than(unit: str, tenths: int) -> None:
    done = analyze("security", "--offline=yes", "--no-pager", f"--threshold={tenths}", UNITS / unit)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_systemd_understands_every_line_of_the_units() -> None:
    done = analyze("verify", "--recursive-errors=no", *UNITS.glob("*.socket"), *UNITS.glob("*.service"))
    # on a machine without the package neither the program nor the manual is there
    foreign = ("is not executable: No such file", "Command 'man ")
    wrong = [line for line in done.stderr.splitlines() if not any(words in line for words in foreign)]
    assert not wrong


def test_each_kind_of_record_has_its_explanation() -> None:
    assert set(ENTRIES) == set(MESSAGE_IDS.values())


@pytest.mark.parametrize("name", MESSAGE_IDS)
def test_an_explanation_is_complete(name: str) -> None:
    head, _, body = ENTRIES[MESSAGE_IDS[name]].partition("\n\n")
    assert {line.split(":")[0] for line in head.splitlines()} == {"Subject", "Defined-By", "Support", "Documentation"}
    assert len(body.split()) > 30
    assert all(len(line) <= 80 for line in body.splitlines())


@pytest.mark.parametrize("name", MESSAGE_IDS)
def test_an_explanation_names_only_fields_that_are_sent(name: str) -> None:
    assert set(re.findall(r"@([A-Z_]+)@", ENTRIES[MESSAGE_IDS[name]])) <= KNOWN_FIELDS


def test_the_catalogue_names_only_commands_that_exist() -> None:
    named = set(re.findall(r"\bosdctl ([a-z]+)", CATALOG))
    assert named, "the catalogue tells nobody what to do"
    assert named <= {command.NAME for command in COMMANDS}


def test_journalctl_reads_the_catalogue(tmp_path: Path) -> None:
    for directory in ("usr/lib/systemd/catalog", "var/lib/systemd/catalog"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/catalog/osdetectord.catalog").write_text(CATALOG, encoding="utf-8")
    subprocess.run(["/usr/bin/journalctl", f"--root={tmp_path}", "--update-catalog"], check=True)
    listed = subprocess.run(
        ["/usr/bin/journalctl", f"--root={tmp_path}", "--list-catalog"], capture_output=True, text=True, check=True
    )
    assert {line.split()[0] for line in listed.stdout.splitlines()} == set(ENTRIES)


def test_the_manual_names_every_key_of_the_configuration() -> None:
    manual = (ROOT / "docs/man/osdetectord.yml.5").read_text(encoding="utf-8")
    keys = {field.name for type_ in (Config, Settings) for field in fields(type_)} | set(REGISTRY)
    assert {key for key in keys if not re.search(rf"^\.B {key}$", manual, re.MULTILINE)} == set()


def test_the_manual_names_every_cause_of_a_loss() -> None:
    manual = (ROOT / "docs/man/osdetectord.8").read_text(encoding="utf-8")
    section = manual.partition(".SH LOSSES AND COST")[2].partition(".SH ")[0]
    words = set(re.findall(r"[a-z.]+", section))
    assert {*layout.LOST, "runs", "files", "collector.ticks", "detector.frames"} <= words
    assert "bpf_s" in section


def test_the_manual_names_every_kind_of_record() -> None:
    manual = (ROOT / "docs/man/osdetectord.8").read_text(encoding="utf-8")
    assert set(re.findall(r"^([0-9a-f]{32})@", manual, re.MULTILINE)) == set(MESSAGE_IDS.values())


def test_the_manual_names_every_field_of_an_anomaly() -> None:
    manual = (ROOT / "docs/man/osdetectord.8").read_text(encoding="utf-8")
    named = set(re.findall(r"\bOSDETECTOR_\w+", manual.partition(".SH JOURNAL")[2].partition(".SH ")[0]))
    assert named == set(re.findall(r"\bOSDETECTOR_\w+", inspect.getsource(record._fields)))


@pytest.mark.parametrize("page", sorted((ROOT / "docs/man").glob("*")), ids=lambda page: page.name)
def test_man_shows_the_manual_without_complaint(page: Path) -> None:
    done = subprocess.run(
        ["/usr/bin/man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_everything_that_the_package_lists_is_in_the_tree() -> None:
    for path in (ROOT / "packaging/debian").glob("*"):
        if path.suffix in (".install", ".manpages", ".docs", ".bash-completion"):
            for line in path.read_text(encoding="utf-8").splitlines():
                # what debian/rules writes comes with the build
                listed = line.split()[0]
                assert listed.startswith("debian/") or list(ROOT.glob(listed)), f"{path.name} lists {listed}"
