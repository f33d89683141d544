"""A configuration is read in order, and every wrong value is named with file, line, key, value and expectation."""

import pytest

from osdetectord.config import Config, load, problems, show
from osdetectord.detection.settings import Settings
from osdetectord.errors import ConfigError


def write(directory, **files):
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_yml", ".yml")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return directory


def refused(directory):
    with pytest.raises(ConfigError) as caught:
        load(directory, Settings.parse)
    return str(caught.value)


def test_an_empty_directory_is_the_defaults(tmp_path):
    assert load(tmp_path, Settings.parse) == Config()


def test_later_files_win_key_by_key(tmp_path):
    write(
        tmp_path,
        osdetectord_yml="interval_s: 2\nmax_targets: 3\n",
        detectors_yml="budget: 5\nwarmup_s: 90\n",
        **{"conf.d__10_yml": "interval_s: 4\ndetection:\n  budget: 7\n", "conf.d__11_yml": "interval_s: 5\n"},
    )
    config = load(tmp_path, Settings.parse)
    assert (config.interval_s, config.max_targets) == (5.0, 3)
    assert config.detection == {"budget": 7, "warmup_s": 90}


def test_a_size_is_a_number_of_bytes_or_has_a_unit(tmp_path):
    for text, size in (("2097152", 2 << 20), ("2MiB", 2 << 20), ("1.5 GiB", 3 << 29)):
        write(tmp_path, osdetectord_yml=f"history_bytes: {text}\n")
        assert load(tmp_path, Settings.parse).history_bytes == size


def test_what_is_shown_reads_back_as_the_same(tmp_path):
    write(tmp_path, osdetectord_yml="interval_s: 0.5\nlog_level: debug\n", detectors_yml="budget: 3\n")
    config = load(tmp_path, Settings.parse)
    again = tmp_path / "again"
    again.mkdir()
    (again / "osdetectord.yml").write_text(show(config))
    assert load(again, Settings.parse) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("interval: 2\n", "osdetectord.yml:1: interval is 2, expected one of the keys interval_s,"),
        ("\n\ninterval_s: fast\n", "osdetectord.yml:3: interval_s is 'fast', expected a number from 0.1 to 3600"),
        ("interval_s: 0\n", "interval_s is 0, expected a number from 0.1"),
        ("interval_s: .nan\n", "interval_s is nan, expected a number"),
        ("max_targets: 1.5\n", "max_targets is 1.5, expected a whole number from 1 to 100000"),
        ("history_bytes: 64 MB\n", "history_bytes is '64 MB', expected a size from 1 MiB to 1 TiB, like 256 MiB"),
        ("history_bytes: 1000\n", "history_bytes is 1000, expected a size"),
        ("max_targets: yes\n", "max_targets is True, expected a whole number"),
        ("follow_children: 1\n", "follow_children is 1, expected yes or no"),
        ("cpu: perf\n", "osdetectord.yml:1: cpu is 'perf', expected one of bcc, stat, top"),
        ("log_level: loud\n", "log_level is 'loud', expected one of debug, info, warning, error"),
        ("interval_s: [1\n", "expected valid YAML"),
        ("- a\n", "osdetectord.yml:1: not a mapping, expected KEY: VALUE lines"),
        ("interval_s: 1\ninterval_s: 2\n", "osdetectord.yml:2: interval_s given twice"),
        ("a: &x [*x]\n", "expected"),
        ("1: 2\n", "key is 1, expected a name as key"),
        ("interval_s: !!python/object/apply:os.system [id]\n", "expected valid YAML"),
        ("detection:\n  budget: -1\n", "osdetectord.yml:2: budget is -1, expected a number"),
        ("detection: 5\n", "detection is 5, expected a mapping"),
        ("detection: no\n", "detection is False, expected a mapping"),
        ("interval_s: 2026-13-45\n", "osdetectord.yml:1: interval_s is '2026-13-45', expected a value that YAML knows"),
        ("\ninterval_s: 0x_\n", "osdetectord.yml:2: interval_s is '0x_', expected a value"),
        ("interval_s: !!int fast\n", "interval_s is 'fast', expected a value"),
        ("interval_s: !!float ''\n", "interval_s is '', expected a value"),
        ("csv: !!bool perhaps\n", "csv is 'perhaps', expected a value"),
        ("interval_s: !!timestamp soon\n", "interval_s is 'soon', expected a value"),
        ("detection: &d\n  evidences: *d\n", "osdetectord.yml: nested too deeply, or within itself, expected KEY"),
        (f"cpu: {'[' * 2000}{']' * 2000}\n", "osdetectord.yml: nested too deeply"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path, text, said):
    write(tmp_path, osdetectord_yml=text)
    message = refused(tmp_path)
    assert said in message
    assert str(tmp_path) in message and "\n" not in message


def test_everything_that_is_wrong_is_told_at_once_each_with_its_place(tmp_path):
    write(
        tmp_path,
        osdetectord_yml="interval: 2\nlog_level: loud\nmax_targets: 7\n",
        detectors_yml="budget: -1\nevidences:\n  crystal_ball: on\n  level: 5\n",
        **{"conf.d__10_yml": "interval_s: [1\n", "conf.d__11_yml": "history_s: 1\n"},
    )
    found = [str(error) for error in problems(tmp_path, Settings.parse)]
    for said in (
        "10.yml:2: ",
        "osdetectord.yml:1: interval is 2",
        "osdetectord.yml:2: log_level is 'loud'",
        "11.yml:1: history_s is 1",
        "detectors.yml:1: budget is -1",
        "detectors.yml:3: evidences.crystal_ball is True",
        "detectors.yml:4: evidences.level is 5",
    ):
        assert sum(said in text for text in found) == 1, (said, found)
    assert len(found) == 7
    assert problems(write(tmp_path / "right", osdetectord_yml="max_targets: 7\n"), Settings.parse) == []
    assert "no such directory" in str(problems(tmp_path / "none", Settings.parse)[0])


def test_a_key_that_is_wrong_for_detection_is_told_once_where_another_of_that_name_is_right(tmp_path):
    write(tmp_path, osdetectord_yml="csv: yes\n", detectors_yml="csv: 3\nbudget: -1\n")
    found = [str(error) for error in problems(tmp_path, Settings.parse)]
    assert [text.partition(" is ")[0].rpartition("/")[2] for text in found] == [
        "detectors.yml:1: csv",
        "detectors.yml:2: budget",
    ]


def test_a_key_that_yaml_takes_for_a_truth_is_its_word(tmp_path):
    write(tmp_path, detectors_yml="evidences:\n  level:\n    on: false\n")
    assert load(tmp_path, Settings.parse).detection == {"evidences": {"level": {"on": False}}}
    assert "detectors.yml:1: yes is 1, expected one of the keys" in refused(write(tmp_path, detectors_yml="yes: 1\n"))


def test_a_wrong_value_of_the_detectors_is_named_in_their_own_file(tmp_path):
    write(tmp_path, detectors_yml="# one\nbudget: 1\nevidences:\n  crystal_ball: on\n")
    assert "detectors.yml:4: evidences.crystal_ball is True, expected one of the evidences" in refused(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "osdetectord.yml").write_bytes(b"interval_s: \xff\n")
    assert "byte 12 is not UTF-8" in refused(tmp_path)


def test_a_directory_that_cannot_be_looked_at_is_refused(tmp_path):
    assert "file name too long, expected a directory that can be read" in refused(tmp_path / ("x" * 300))
    assert len(problems(tmp_path / ("x" * 300), Settings.parse)) == 1


def test_a_directory_of_drop_ins_that_cannot_be_read_is_refused_by_its_name(tmp_path):
    drop_ins = tmp_path / "conf.d"
    drop_ins.touch()
    assert refused(tmp_path) == f"{drop_ins}: not a directory, expected a directory that can be read"
    drop_ins.unlink()
    drop_ins.symlink_to(drop_ins)
    assert refused(tmp_path).startswith(f"{drop_ins}: too many levels of symbolic links")
    assert [error.file for error in problems(tmp_path, Settings.parse)] == [str(drop_ins)]
    drop_ins.unlink()
    drop_ins.symlink_to("nowhere")
    assert refused(tmp_path) == f"{drop_ins}: no such file or directory, expected a directory that can be read"


def test_a_drop_in_that_cannot_be_read_is_refused_by_its_name(tmp_path):
    drop_in = tmp_path / "conf.d" / "10.yml"
    drop_in.mkdir(parents=True)
    assert refused(tmp_path) == f"{drop_in}: is a directory, expected a readable file"
    drop_in.rmdir()
    drop_in.symlink_to("nowhere")
    assert refused(tmp_path) == f"{drop_in}: no such file or directory, expected a readable file"


def test_a_missing_directory_is_refused(tmp_path):
    assert "no such directory" in refused(tmp_path / "none")
