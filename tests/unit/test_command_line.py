"""The daemon's command line: which directory is meant, and what can't be is said in one line."""

import re
from pathlib import Path

import pytest

from osdetectord import __main__
from osdetectord.config import DIRECTORY


def ran(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["osdetectord", *map(str, words)])
    status = __main__.main()
    return status, *capsys.readouterr()


@pytest.mark.parametrize("what", ["check", "show"])
def test_the_configuration_looked_at_is_the_one_that_is_named(monkeypatch, what):
    monkeypatch.delenv("CONFIGURATION_DIRECTORY", raising=False)
    name = f"{what}_config"

    assert getattr(__main__.parse([f"--{what}-config"]), name) == DIRECTORY
    assert getattr(__main__.parse([f"--{what}-config", "/a"]), name) == Path("/a")
    assert getattr(__main__.parse(["--config", "/b", f"--{what}-config"]), name) == Path("/b")
    assert getattr(__main__.parse(["--config", "/b", f"--{what}-config", "/a"]), name) == Path("/a")
    assert getattr(__main__.parse([]), name) is None
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", "/c")
    assert getattr(__main__.parse([f"--{what}-config"]), name) == Path("/c")


def test_a_configuration_is_right_or_wrong(monkeypatch, capsys, tmp_path):
    assert ran(monkeypatch, capsys, "--config", tmp_path, "--check-config") == (0, f"{tmp_path}: ok\n", "")
    (tmp_path / "osdetectord.yml").write_text("interval_s: 2026-13-45\n")
    status, out, said = ran(monkeypatch, capsys, "--config", tmp_path, "--check-config")

    assert (status, out) == (__main__.EX_CONFIG, "")
    assert said.startswith(f"osdetectord: {tmp_path}/osdetectord.yml:1: interval_s is ")


def test_a_state_that_has_no_place_is_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    state = tmp_path / "file/state"
    status, out, said = ran(monkeypatch, capsys, "--config", tmp_path, "--state", state)

    assert (status, out) == (1, "")
    assert said == f"osdetectord: the state can't be kept in {state}: not a directory\n"


def test_every_option_has_its_help(capsys):
    with pytest.raises(SystemExit):
        __main__.parse(["--help"])
    options = [line for line in capsys.readouterr().out.partition("options:")[2].splitlines() if line.startswith("  -")]

    assert len(options) >= 7
    assert all(re.search(r"--[a-z-]+( \S+)? {2,}\S", line) for line in options)
