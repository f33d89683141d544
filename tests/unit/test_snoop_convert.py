"""The original's configuration as ours: the daemon takes it, and no key is passed over in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from osdetectord import config
from osdetectord.detection.settings import Settings
from osdetectord.errors import ConfigError
from osdetectord.snoop.config import KEYS
from osdetectord.snoop.convert import converted, main

BASE = Path("/base")
EVERYTHING = {
    "snoop_cpu": "bcc",
    "cpu_output_file": "cpu.csv",
    "snoop_mem": "bcc",
    "mem_output_file": "mem.csv",
    "probes": {"event_name": ["./p:f"], "output_file": "probe_output", "spid": 10000},
    "trace": {"tracee_name": ["./p:f"], "output_file": "trace_output", "return_msg_format": ["R"]},
    "snoop_network": "bcc",
    "network_output_file": "net.csv",
    "snoop_syscall": "None",
    "syscall_output_file": "syscall.csv",
    "interval": 5,
    "trace_multiprocess": "true",
    "show_all_threads": True,
    "csvpath": "csv",
    "outcomepath": "outcome",
    "detect_interval": 60,
}
DETECTORS = {
    "data": {"reconstruct": {"window": 40, "stride": 8}, "path": "data.csv"},
    "detector_arguments": {"sample_rate": 0.5, "workers": 4},
}


def loaded(text: str, tmp_path: Path) -> config.Config:
    """As the daemon loads it."""
    (tmp_path / "osdetectord.yml").write_text(text)
    return config.load(tmp_path, Settings.parse)


def test_the_daemon_takes_what_was_meant(tmp_path):
    read = loaded(converted(json.dumps(EVERYTHING), DETECTORS, BASE), tmp_path)

    assert (read.interval_s, read.follow_children) == (5.0, True)
    tuning = Settings.parse(read.detection).evidences["compressed_sensing"]
    assert (tuning["window"], tuning["every"], tuning["sample_rate"]) == (40, 8, 0.5)


@pytest.mark.parametrize("detectors", [DETECTORS, {"global": {"random_state": 7}}])
def test_means_the_same_as_the_original_s_keys_do_by_themselves(detectors, tmp_path):
    read = loaded(converted("{}", detectors, BASE), tmp_path)

    assert Settings.parse(read.detection) == Settings.parse(detectors)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_its_remark(key):
    text = converted(json.dumps(EVERYTHING), {}, BASE)
    (line,) = [line for line in text.splitlines() if line.startswith(f"# {key}: ")]

    told, _, remark = line.partition(" - ")
    assert told == f"# {key}: {json.dumps(EVERYTHING[key])}"
    assert len(remark.split()) > 1


def test_what_is_missing_is_not_made_up(tmp_path):
    assert yaml.safe_load(converted('{"snoop_cpu": "stat"}', {}, BASE)) is None


def test_an_interval_beyond_ours_is_said(tmp_path):
    text = converted('{"interval": 7200}', {}, BASE)

    assert "# interval: 7200 - now interval_s, at most 3600" in text
    assert loaded(text, tmp_path).interval_s == 3600


@pytest.mark.parametrize(
    ("text", "detectors"),
    [('{"interval": "x"}', {}), ("{}", {"budget": 3}), ("{}", {"data": {"nonsense": 1}}), ("{}", {"data": 3})],
)
def test_what_is_wrong_is_refused(text, detectors):
    with pytest.raises(ConfigError):
        converted(text, detectors, BASE)


def test_an_error_names_file_line_and_key(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{\n"interval": 0}')
    (tmp_path / "good.json").write_text("{}")
    (tmp_path / "d.yml").write_text("data:\n  header: x\n")
    first, second = main([str(tmp_path / "config.json")]), main([str(tmp_path / "good.json"), str(tmp_path / "d.yml")])
    said = capsys.readouterr().err.splitlines()

    assert (first, second, len(said)) == (1, 1, 2)
    assert said[0].endswith("config.json:2: interval is 0, expected seconds, a number from 0.1 to 86400")
    assert "d.yml:2: data.header is 'x', expected a whole number or null" in said[1]
