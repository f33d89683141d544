"""The original's configuration file: each key, each option, and what is wrong said with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from osdetectord.errors import ConfigError
from osdetectord.snoop.config import CPU_WAYS, MEMORY_WAYS, Output, SnoopConfig, defaults, load, needs_kernel, parse

BASE = Path("/base")

SAMPLE = """{
    "snoop_cpu": "top",
    "cpu_output_file": "cpu.csv",
    "snoop_mem": "bcc",
    "mem_output_file": "mem.csv",
    "probes": {
        "event_name":["./test/search:search"],
        "output_file":"probe_output"
    },
    "trace": {
        "tracee_name":["./test/search:search"],
        "output_file":"trace_output",
        "enter_msg_format":["'Enter search, n=%d' % (arg1)"],
        "return_msg_format":["Return search"]
    },
    "snoop_network": null,
    "network_output_file": "net.csv",
    "snoop_syscall": "bcc",
    "syscall_output_file": "syscall.csv",
    "interval": 1,
    "trace_multiprocess": "true"
}"""

# as the original's manual shows it: two commas are missing, the first behind a list
MANUAL = """{
    "snoop_cpu": "None",
    "trace": {
        "tracee_name":["./test/search:search"],
        "return_msg_format":["Return search"]
        "spid":10000
    },
    "interval": 5,
    "trace_multiprocess":  true
    "show_all_threads": true
}"""


def parsed(**values: object) -> SnoopConfig:
    return parse(json.dumps(values), BASE)


def error_of(text: str, tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, BASE)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(str(tmp_path) + "/")


def test_takes_the_original_sample_unchanged():
    config = parse(SAMPLE, BASE)

    assert config.cpu == Output("top", BASE / "cpu.csv")
    assert config.memory == Output("bcc", BASE / "mem.csv")
    assert config.network is None
    assert config.syscalls == Output("bcc", BASE / "syscall.csv")
    assert config.probes is not None and config.probes.locations == ("/base/test/search:search",)
    assert (config.probes.path, config.probes.tid) == (BASE / "probe_output", 0)
    assert config.trace is not None and config.trace.path == BASE / "trace_output"
    (point,) = config.trace.points
    assert (point.location, point.returned) == ("/base/test/search:search", "Return search")
    assert point.form.entry is not None and point.form.entry.render([7], {}) == "Enter search, n=7"
    assert (config.interval_s, config.children, config.threads) == (1.0, True, False)
    assert config.outcome is None


@pytest.mark.parametrize("off", [None, "None", ""])
@pytest.mark.parametrize("key", ["snoop_cpu", "snoop_mem", "snoop_network", "snoop_syscall", "probes", "trace"])
def test_none_as_text_null_and_a_missing_key_are_off(key, off):
    assert parsed(**{key: off}).paths() == {}
    assert parsed().paths() == {}


@pytest.mark.parametrize("way", CPU_WAYS)
def test_every_way_of_the_cpu_is_accepted(way):
    assert parsed(snoop_cpu=way, csvpath="csv").cpu == Output(way, BASE / "csv/cpu.csv")


@pytest.mark.parametrize("way", MEMORY_WAYS)
def test_every_way_of_the_memory_is_accepted(way):
    assert parsed(snoop_mem=way, mem_output_file="m").memory == Output(way, BASE / "m")


@pytest.mark.parametrize(("value", "meant"), [(True, True), (False, False), ("True", True), ("false", False)])
def test_flags_may_be_words(value, meant):
    config = parsed(trace_multiprocess=value, show_all_threads=value)

    assert (config.children, config.threads) == (meant, meant)


def test_directories_and_times():
    config = parsed(snoop_cpu="stat", csvpath="/data", outcomepath="out", detect_interval=7, interval=0.5)

    assert config.cpu == Output("stat", Path("/data/cpu.csv"))
    assert (config.outcome, config.detect_s, config.interval_s) == (BASE / "out", 7.0, 0.5)


def test_an_absolute_file_stays_where_it_is():
    assert parsed(snoop_cpu="stat", cpu_output_file="/x/c.csv", csvpath="csv").cpu == Output("stat", Path("/x/c.csv"))


def test_a_thread_may_be_named():
    config = parsed(
        probes={"event_name": "/bin/p:f", "spid": 10000},
        trace={"tracee_name": ["/bin/p:f"], "return_msg_format": ["R"], "spid": 10007},
    )

    assert config.probes is not None and config.probes.tid == 10000
    assert config.trace is not None and config.trace.tid == 10007


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MANUAL, "config.json:5: column 46: a comma is missing, expected one before \"spid\":10000"),
        ('{"interval": 1,}', "config.json:1: column 15: a comma behind the last value, expected none there"),
        ('{\n  "interval": 1 # s\n}', "config.json:2: column 17: a comment, expected JSON, which has none"),
        ("{", "config.json:1: column 2: expecting property name enclosed in double quotes, expected JSON"),
        ("", "config.json:1: column 1: expecting value, expected JSON"),
        ("[]", "config.json:1: not an object, expected an object of keys and values"),
        ('{"interval": NaN}', "config.json: NaN, expected a number that JSON knows"),
        ('{\n"interval": 1,\n"interval": 2}', "config.json:2: interval is 2, expected each key once"),
        ("[" * 100_000, "config.json: too deeply nested, expected an object of keys and values"),
    ],
    ids=["manual", "behind the last", "comment", "open", "empty", "list", "constant", "twice", "deep"],
)  # fmt: skip
def test_what_is_no_json_is_said_with_line_and_column(text, said, tmp_path):
    assert error_of(text, tmp_path) == said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"snoop_cpu": "perf"}, "snoop_cpu is 'perf', expected one of bcc, stat, top, null"),
        ({"snoop_cpu": ["bcc"]}, "snoop_cpu is ['bcc'], expected one of bcc, stat, top, null"),
        ({"snoop_cup": "bcc"}, "snoop_cup is 'bcc', expected snoop_cpu?"),
        ({"snoop_cpu": "bcc", "cpu_output_file": 3}, "cpu_output_file is 3, expected a text or null"),
        ({"interval": 0}, "interval is 0, expected seconds, a number from 0.1 to 86400"),
        ({"interval": True}, "interval is True, expected seconds, a number from 0.1 to 86400"),
        ({"interval": "5"}, "interval is '5', expected seconds, a number from 0.1 to 86400"),
        ({"detect_interval": -1}, "detect_interval is -1, expected seconds, a number from 1 to 86400"),
        ({"trace_multiprocess": 1}, "trace_multiprocess is 1, expected true or false"),
        ({"probes": ["x"]}, "probes is ['x'], expected an object with event_name, output_file, spid"),
        ({"probes": {"event": []}}, "probes.event is [], expected event_name?"),
        ({"probes": {"event_name": ["/p:f"], "spid": "x"}}, "probes.spid is 'x', expected the id of a thread, or null"),
        ({"trace": {"tracee_name": [3]}}, "trace.tracee_name is [3], expected a list of texts"),
        (
            {"trace": {"tracee_name": ["/p:f", "/p:g"], "return_msg_format": ["R"]}},
            "trace.return_msg_format is ['R'], expected one message for each tracee_name, which has 2",
        ),
        (
            {"snoop_cpu": "stat", "snoop_syscall": "bcc", "cpu_output_file": "x", "syscall_output_file": "x"},
            "snoop_syscall is '/base/x', expected a file of its own, snoop_cpu has that one",
        ),
        (
            {"snoop_cpu": "stat", "csvpath": "x", "outcomepath": "x"},
            "snoop_cpu is '/base/x/cpu.csv', expected another name or outcomepath: "
            "its results would go to /base/x/cpu.csv too",
        ),
        (
            {"snoop_cpu": "stat", "snoop_mem": "bcc", "mem_output_file": "y/cpu.csv", "outcomepath": "out"},
            "snoop_mem is '/base/y/cpu.csv', expected another name or outcomepath: "
            "its results would go to /base/out/cpu.csv too",
        ),
        (
            {"snoop_cpu": "stat", "cpu_output_file": "anomalies.csv", "outcomepath": "out"},
            "snoop_cpu is '/base/anomalies.csv', expected another name or outcomepath: "
            "its results would go to /base/out/anomalies.csv too",
        ),
    ],
)
def test_a_wrong_value_is_said_with_key_value_and_expectation(values, said, tmp_path):
    assert error_of(json.dumps(values), tmp_path) == f"config.json:1: {said}"


def test_the_line_is_that_of_the_key_below_its_object(tmp_path):
    text = '{\n"probes": {"event_name": ["/p:f"],\n"spid": 1},\n'
    text += '"trace": {"return_msg_format": ["R"], "tracee_name": ["/p:f"],\n"spid": 0}\n}'

    assert error_of(text, tmp_path).startswith("config.json:5: trace.spid is 0")


@pytest.mark.parametrize("place", ["search", "./test:", ":", "a/b/c"])
def test_what_is_no_location_is_refused(place):
    with pytest.raises(ConfigError, match=r"probes\.event_name"):
        parsed(probes={"event_name": [place]})


@pytest.mark.parametrize(
    "message",
    [
        "'%d' % (__import__('os').system('true'))",
        "'%d' % (arg1.__class__)",
        "'%d' % (arg7)",
        "'%d' % (retval)",
        "'%d %d' % (arg1)",
        "'%d' % (arg1, arg2)",
        "'n=%d",
        "'{0}'.format(arg1)",
        "'%(x)s' % (arg1)",
    ],
)
def test_a_message_that_tries_to_be_code_is_refused(message):
    with pytest.raises(ConfigError, match=r"trace\.enter_msg_format is .*parsed and never run"):
        parsed(trace={"tracee_name": ["/p:f"], "enter_msg_format": [message]})


def test_a_wrong_message_of_the_return_is_said_to_be_that():
    with pytest.raises(ConfigError, match=r"trace\.return_msg_format is \"'%q' % retval\""):
        parsed(
            trace={"tracee_name": ["/p:f"], "enter_msg_format": ["'%d' % arg1"], "return_msg_format": ["'%q' % retval"]}
        )


def test_a_missing_or_unreadable_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no such file or directory, expected a readable file"):
        load(tmp_path / "none.json", BASE)
    (tmp_path / "binary").write_bytes(b"{\xff}")
    with pytest.raises(ConfigError, match="byte 1 is not UTF-8"):
        load(tmp_path / "binary", BASE)
    (tmp_path / "large").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(ConfigError, match="more than 1048576 bytes"):
        load(tmp_path / "large", BASE)


def test_a_number_that_is_too_long_to_read_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a number of too many digits"):
        parse('{"interval": ' + "9" * 5000 + "}", tmp_path)


def test_says_which_keys_need_the_kernel():
    assert needs_kernel(parsed(snoop_cpu="stat", snoop_mem="bcc_kernel")) == ()
    assert needs_kernel(parsed(snoop_cpu="bcc", snoop_mem="bcc", snoop_network="bcc", snoop_syscall="bcc")) == (
        "snoop_cpu",
        "snoop_mem",
        "snoop_network",
        "snoop_syscall",
    )


def test_the_defaults_collect_three_signals_and_detect():
    config = defaults(BASE)

    assert set(config.paths()) == {"snoop_cpu", "snoop_mem", "snoop_network"}
    assert config.outcome == BASE / "outcome"


def test_the_example_of_the_documentation_is_a_configuration(tmp_path):
    text = (Path(__file__).parents[2] / "docs/snoop.md").read_text()
    found = parse(text.partition("```json\n")[2].partition("```")[0], tmp_path)

    assert found.probes is not None and found.trace is not None
    assert found.outcome == tmp_path / "outcome"
