"""Settings say what is wrong with them, and take the original's file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from osdetectord.detection.evidences import DEFAULT_ON, REGISTRY
from osdetectord.detection.settings import Settings
from osdetectord.errors import ConfigError

ORIGINAL = """
sample_score_method:
  lesinn: {phi: 20, t: 40}
  moving_average: {window: 120, stride: 5}
anomaly_scoring:
  anomaly_score_example: {percentage: 90, topn: 2}
global: {random_state: 42}
data:
  path: "../csv/service1.csv"
  header: null
  rec_windows_per_cycle: 24
  reconstruct: {window: 48, stride: 7}
  detect: {window: 12, stride: 2}
detector_arguments:
  workers: 6
  anomaly_scoring: anomaly_score_example
  cluster_threshold: 0.01
  sample_rate: 0.5
  without_grouping: null
  without_localize_sampling: false
"""


def test_what_is_named_is_on_with_its_tuning_though_it_was_off():
    given = {"lstm": False, "memory": {"on": False, "states": 64}, "sparse": None}
    settings = Settings.parse({"evidences": Settings.only(["lstm", "memory", "sparse"], given)})
    assert sorted(settings.evidences) == ["lstm", "memory", "sparse"]
    assert settings.evidences["memory"]["states"] == 64


def test_nothing_given_gives_the_defaults():
    assert Settings.parse({}) == Settings()
    assert tuple(Settings().evidences) == tuple(name for name in REGISTRY if name in DEFAULT_ON)
    assert Settings().budget == 1.0
    assert Settings().threshold == "blocks"


def test_an_evidence_is_switched_and_tuned():
    settings = Settings.parse({"evidences": {"level": False, "memory": {"states": 64}, "seasonal": {"on": False}}})
    assert "level" not in settings.evidences
    assert "seasonal" not in settings.evidences
    assert settings.evidences["memory"]["states"] == 64
    assert settings.evidences["memory"]["smoothing"] == 0.5


@pytest.mark.parametrize(
    ("values", "key", "expected"),
    [
        ({"budgte": 1}, "budgte", "budget"),
        ({"budget": "few"}, "budget", "number"),
        ({"budget": 0}, "budget", "0.0001"),
        ({"budget": True}, "budget", "number"),
        ({"budget": float("nan")}, "budget", "number"),
        ({"threshold": "spott"}, "threshold", "one of blocks, spot, dspot"),
        ({"threshold": True}, "threshold", "one of blocks, spot, dspot"),
        ({"threshold": ["spot"]}, "threshold", "one of blocks, spot, dspot"),
        ({"evidences": ["level"]}, "evidences", "mapping"),
        ({"evidences": {"levle": True}}, "evidences.levle", "level"),
        ({"evidences": {"level": 3}}, "evidences.level", "true"),
        ({"evidences": {"level": {"on": "yes"}}}, "evidences.level.on", "true"),
        ({"evidences": {"level": {"smothing": 1}}}, "evidences.level.smothing", "smoothing"),
        ({"evidences": {"level": {"smoothing": 7}}}, "evidences.level.smoothing", "0.01"),
        ({"evidences": dict.fromkeys(REGISTRY, False)}, "evidences", "at least one"),
        ({"data": {"reconstruct": {"window": "big"}}}, "data.reconstruct.window", "whole number"),
        ({"data": {"recnstruct": {}}}, "data.recnstruct", "reconstruct"),
        ({"detector_arguments": {"sample_rate": 7.0}}, "evidences.compressed_sensing.sample_rate", "0.9"),
    ],
)
def test_an_error_names_key_value_and_expectation(values, key, expected):
    with pytest.raises(ConfigError) as caught:
        Settings.parse(values)
    assert caught.value.key == key
    assert expected in caught.value.expected


def test_the_keys_of_the_original_tune_compressed_sensing():
    tuning = Settings.parse(yaml.safe_load(ORIGINAL)).evidences["compressed_sensing"]
    assert (tuning["window"], tuning["every"], tuning["sample_rate"]) == (48, 7, 0.5)


def test_our_own_key_wins_over_the_original_one():
    values = {**yaml.safe_load(ORIGINAL), "evidences": {"compressed_sensing": {"window": 32}}}
    tuning = Settings.parse(values).evidences["compressed_sensing"]
    assert (tuning["window"], tuning["every"]) == (32, 7)


def test_the_shipped_file_says_the_defaults():
    shipped = Path(__file__).parents[2] / "etc" / "detectors.yml"
    assert Settings.parse(yaml.safe_load(shipped.read_text())) == Settings()
