"""The command line: what is accepted, what is refused, and that help, manual and completion say the same."""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
from pathlib import Path

import pytest

from osdctl import called, options, output, remote, usage
from osdctl.__main__ import main
from osdctl.errors import UsageError
from osdctl.manager import spellings
from osdctl.registry import COMMANDS

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs/man/osdctl.1").read_text()
COMPLETION = ROOT / "osdctl/completion/osdctl.bash"
NAMES = [command.NAME for command in COMMANDS]
HOSTILE = "\x1b[2J"


def parse(*words: str) -> argparse.Namespace:
    return options.parse(COMMANDS, words)


def parsers() -> dict[str, argparse.ArgumentParser]:
    for action in options.parser(COMMANDS)._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("osdctl has no commands")


def flags(parser: argparse.ArgumentParser, valued: bool = False) -> set[str]:
    """The options of a command and of its verbs, all or those that take a value."""
    own = {flag for action in parser._actions if action.nargs != 0 or not valued for flag in action.option_strings}
    verbs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return own.union(*(flags(verb, valued) for action in verbs for verb in action.choices.values()))


COMMON = flags(options.common()) | {"-h", "--help"}


def test_every_command_module_is_in_the_registry():
    modules = {path.stem.rstrip("_") for path in (ROOT / "osdctl/commands").glob("[a-z]*.py")}

    assert sorted(modules) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_in_the_manual_with_its_options(name):
    heads = re.findall(r"^\.TP\n(?:\.B |\\fB)([a-z]+)\b", MANUAL, re.MULTILINE)
    plain = MANUAL.replace("\\-", "-").replace("\\fR", "").replace("\\fB", "")

    assert name in heads
    for flag in flags(parsers()[name]):
        assert re.search(rf"(?<![-\w]){re.escape(flag)}(?![-\w])", plain), f"the manual lacks {flag} of {name}"


def test_the_manual_has_no_option_that_is_not_there():
    known = set().union(*map(flags, parsers().values()), flags(options.parser(COMMANDS)))
    plain = MANUAL.replace("\\-", "-")
    plain = re.sub(r"^osdctl run .*$", "", plain, flags=re.MULTILINE)  # the program's own options

    assert set(re.findall(r"(?<![-\w])--[a-z][a-z_-]*", plain)) <= known


def completed() -> dict[str, set[str]]:
    # within a function, as bash-completion loads the file at the first Tab
    script = f"""
        _init_completion() {{ :; }}
        load() {{ source {COMPLETION}; }}
        load
        for c in "${{!__osdctl_options[@]}}"; do echo "$c ${{__osdctl_options[$c]}}"; done
        echo "- $__osdctl_common"
    """
    out = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    return {line.split()[0]: set(line.split()[1:]) for line in out.splitlines()}


def test_completion_knows_exactly_the_commands_and_their_options():
    found = completed()

    assert found.pop("-") == COMMON
    assert found == {name: flags(parser) - COMMON for name, parser in parsers().items()}


def test_completion_takes_the_value_of_an_option_for_no_word_of_the_command():
    skipped = COMPLETION.read_text().partition("case ${words[i]} in")[2].partition(")")[0]
    valued = set().union(*(flags(parser, valued=True) for parser in parsers().values()))

    assert set(re.findall(r"-[-\w]+", skipped)) == valued


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The directory with the completions that the build of the packages writes."""
    directory = tmp_path_factory.mktemp("built") / "completion"
    subprocess.run([ROOT / "packaging/completions.py", directory], check=True)
    return directory


def test_the_completion_of_zsh_knows_the_options_of_every_command(written):
    functions = (written / "_osdctl").read_text().split("\n}\n")

    for name, parser in parsers().items():
        text = "".join(part for part in functions if re.search(rf"^_osdctl__{name}(__\w+)?\(\)", part, re.MULTILINE))
        assert flags(parser) <= set(re.findall(r"(?<![-\w])-[-\w]+", text))


def test_the_completion_of_fish_knows_the_options_of_every_command(written):
    lines = (written / "osdctl.fish").read_text().splitlines()

    for name, parser in parsers().items():
        text = "\n".join(line for line in lines if re.search(rf"__osdctl_in '{name}[' ]", line))
        long, short = (set(re.findall(rf" -{kind} ([-\w]+)", text)) for kind in "ls")
        assert flags(parser) <= {f"--{word}" for word in long} | {f"-{word}" for word in short}


@pytest.mark.parametrize(("shell", "name"), [("bash", "osdctl.bash"), ("zsh", "_osdctl"), ("fish", "osdctl.fish")])
def test_each_shell_can_read_its_completion(shell, name, written):
    path = COMPLETION if shell == "bash" else written / name
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_line_of_help(name, capsys):
    if name != "detect":
        with pytest.raises(SystemExit) as left:
            parse(name, "--help")
        assert left.value.code == 0
        assert "options of every command" in capsys.readouterr().out
    assert name in options.parser(COMMANDS).format_help()


@pytest.mark.parametrize("words", [("--json=short", "list"), ("list", "--json=short"), ("list", "--json", "short")])
def test_options_stand_before_or_behind_the_command(words):
    assert parse(*words).json == "short"


def test_options_stand_between_a_verb_and_what_it_is_for():
    args = parse("trace", "follow", "-n7", "--json=short", "3")
    assert (args.number, args.lines, args.json) == (3, 7, "short")
    args = parse("--json=pretty", "probe", "add", "--pid", "7", "--no-children", "libc:open")
    assert (args.location, args.pid, args.children, args.json) == ("libc:open", 7, False, "pretty")


def test_options_have_their_defaults():
    args = parse("list")

    assert (args.json, args.pager, args.legend, args.quiet, args.host) == ("off", True, True, False, None)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("lis",),
        ("list", "surplus"),
        ("list", "--nonsense"),
        ("list", "--json=xml"),
        ("watch",),
        ("watch", "--runtim", "1"),
        ("explain", "first"),
        ("feedback", "7", "perhaps"),
        ("mute", "1", "soon"),
        ("mute", "1", "0"),
        ("anomalies", "-n", "0"),
        ("anomalies", "-n", "4294967296"),
        ("plot", "1"),
        ("config", "destroy"),
        ("probe",),
        ("probe", "destroy"),
        ("probe", "add", ":f"),
        ("probe", "add", ":f", "--pid=1", "--tid=1"),
        ("probe", "add", ":f", "--pid=x"),
        ("probe", "stats", "first"),
        ("probe", "remove"),
        ("probe", "list", "1"),
        ("trace", "stats", "1"),
        ("allocations",),
        ("allocations", "add", "--pid=x"),
        ("allocations", "add", "1", "--budget=0"),
        ("allocations", "top"),
        ("allocations", "top", "first"),
        ("allocations", "remove"),
        ("trace", "follow"),
        (HOSTILE,),
    ],
)
def test_a_wrong_command_line_is_a_usage_error_in_one_line(words):
    with pytest.raises(UsageError) as caught:
        parse(*words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    ["1234", "pid:1234", "unit:nginx.service", "cgroup:/a b", "comm:redis-server", "comm:a:b", "exe:/usr/sbin/nginx",
     "user:www-data"],
)  # fmt: skip
def test_every_kind_of_target_is_accepted(spec):
    assert parse("watch", spec).specs == [spec]


@pytest.mark.parametrize(
    "spec",
    ["", "abc", "0", "pid:0", "pid:", "pid:-3", "pid:x", "4294967296", "2147483648", "٣", "kind:x", "unit:",
     "exe:nginx", "cgroup:a", "comm:\udcff", ":"],
)  # fmt: skip
def test_what_is_no_target_is_refused_with_a_hint(spec):
    with pytest.raises(UsageError) as caught:
        parse("watch", spec)
    assert spec in str(caught.value) or "nothing" in str(caught.value) or spec.partition(":")[2] in str(caught.value)


def test_a_time_may_begin_with_a_minus_sign():
    assert parse("log", "--since", "-1h").since == pytest.approx(parse("log", "--since=-1h").since, abs=5_000_000)
    assert parse("log", "-S", "-5min").since < parse("log", "-S", "now").since


def test_the_program_keeps_its_own_options():
    assert parse("run", "--no-children", "--", "ls", "--json", "-q").program == ["--", "ls", "--json", "-q"]
    assert parse("run", "ls", "-q", "-H", "x").program == ["ls", "-q", "-H", "x"]
    assert parse("run", "ls", "-H", "x").host is None
    assert parse("detect", "--threshold", "3", "-H", "x").words == ["--threshold", "3", "-H", "x"]


def test_a_number_is_a_pid_and_a_bare_unit_a_service():
    assert spellings("0123") == ("pid:123",)
    assert "unit:nginx.service" in spellings("unit:nginx")
    assert "unit:php8.2-fpm.service" in spellings("unit:php8.2-fpm")
    assert spellings("pid:0123") == ("pid:123",)
    assert spellings("9" * 5000) == ("pid:" + "9" * 5000,)
    assert "comm:x" in spellings("comm:x")
    assert spellings("comm:a-very-long-program")[-1] == "comm:a-very-long-pro"
    assert spellings("exe:/bin/sh/") == ("exe:/bin/sh",)
    assert spellings("cgroup:/") == ("cgroup:/",)
    assert spellings("/org/x") == ("/org/x",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("probe", "add", "c:f", "--pid", "x"), "no pid: x; write a number from 1 to 2147483647"),
        (("probe", "add", "c:f", "--tid", "0"), "no thread id: 0;"),
        (("probe", "add", "c:f", "--all", "--budget", "-3"), "no count: -3;"),
        (("allocations", "add", "--pid", "4294967295"), "no pid: 4294967295;"),
        (("snoop", "-p", "²"), "no pid: ²;"),
        (("top", "-n", "0"), "no count: 0; write a number from 1 to 4294967295"),
        (("watch", "pid:x"), "no pid: x;"),
        (("--hos=x", "list"), "unrecognized arguments: --hos=x"),
    ],
)
def test_a_wrong_number_is_named_for_what_it_should_be(words, said):
    with pytest.raises(UsageError) as refused:
        parse(*words)

    assert said in str(refused.value)


@pytest.mark.parametrize("words", [("-qH", "db1", "list"), ("-H", "db1", "list", "--host=db2"), ("list", "-qHdb1")])
def test_a_host_that_would_go_along_to_the_host_is_refused(words, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err == "osdctl: a host that is not given once and by itself; write it like -H HOST\n"


def test_another_host_gets_the_same_words_quoted_for_its_shell():
    words = ["-H", "db1", "watch", "comm:a b;reboot", "--json=short"]

    command = remote.command_line("db1", words, terminal=False)

    assert command == ["ssh", "--", "db1", "osdctl watch 'comm:a b;reboot' --json=short"]
    assert remote.command_line("db1", ["--host=db1", "top"], terminal=True) == ["ssh", "-t", "--", "db1", "osdctl top"]
    assert remote.without_host(["-Hdb1", "run", "--", "x", "-H", "y"]) == ["run", "--", "x", "-H", "y"]


@pytest.mark.parametrize("host", ["", "-oProxyCommand=reboot"])
def test_a_host_is_never_an_option_of_ssh(host):
    with pytest.raises(UsageError):
        remote.command_line(host, ["list"], terminal=False)


@pytest.mark.parametrize(
    ("environ", "pager"),
    [
        ({}, ["less"]),
        ({"PAGER": "more -s"}, ["more", "-s"]),
        ({"SYSTEMD_PAGER": "", "PAGER": "more"}, []),
        ({"SYSTEMD_PAGER": "cat"}, []),
        ({"SYSTEMD_PAGER": "most", "PAGER": "more"}, ["most"]),
        ({"PAGER": "'"}, []),
    ],
)
def test_the_pager_is_the_one_that_systemd_would_take(environ, pager):
    assert output.pager_of(environ) == pager


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "colour"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colour_only_where_a_terminal_shows_it(stream, environ, colour):
    assert options.look(parse("list"), stream, environ).colour is colour


@pytest.mark.parametrize(
    "words",
    ["drill", "watch 1", "unwatch 1", "mute 1 1h", "feedback 1 no", "run -- true", "trace remove 1", "probe remove 1"],
)
def test_what_acts_has_no_pager(words):
    assert parse(*words.split()).acts


@pytest.mark.parametrize("words", ["list", "explain 1", "probe list", "trace list", "allocations top 1"])
def test_what_lists_has_one(words):
    assert not parse(*words.split()).acts


def test_hints_name_the_command_as_it_is_called(monkeypatch):
    hint = "start with: osdctl watch PID, or see sudo osdctl list --help; are osdctl and osdetectord of one version?"
    monkeypatch.delenv(called.VARIABLE, raising=False)
    assert called.here(hint) == hint

    monkeypatch.setenv(called.VARIABLE, "sudo ./run")
    assert called.here(hint) == (
        "start with: sudo ./run watch PID, or see sudo ./run list --help; are osdctl and osdetectord of one version?"
    )


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("see man osdctl", "see man docs/man/osdctl.1"),
        ("see man osdetectord", "see man docs/man/osdetectord.8"),
        ("see journalctl -u osdetectord", "see /run/osdetectord/log"),
        ("see journalctl -u osdetectord-detector", "see /run/osdetectord/log"),
    ],
)
def test_hints_of_a_checkout_name_the_manual_and_the_log_that_are_there(monkeypatch, hint, said):
    monkeypatch.delenv(called.VARIABLE, raising=False)
    assert called.here(hint) == hint

    monkeypatch.setenv(called.VARIABLE, "sudo ./run")
    assert called.here(hint) == said
    assert f"state={Path(called.LOG).parent}\n" in (ROOT / "run").read_text()
    manual = said.rpartition(" ")[2]
    assert manual == called.LOG or (ROOT / manual).is_file()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("watch 1", 0),
        ("bogus", 2),
        ("watch", 2),
        ("watch nonsense", 2),
        ("detect --help", usage.ALONE),
        ("snoop -c ls", usage.ALONE),
        ("--quiet config check", usage.ALONE),
        ("-H db1 list", usage.ALONE),
    ],
)
def test_a_command_line_is_checked_without_being_done(words, status):
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "osdctl.usage", *words.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.count("\n") == (status == 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("wach 1", "no command wach; did you mean watch?"),
        ("bogus", "no command bogus; see osdctl --help"),
        ("probe lst", "no command probe lst; did you mean list?"),
    ],
)
def test_a_command_that_is_not_there_is_told_with_one_that_is_near(words, said):
    with pytest.raises(UsageError) as wrong:
        parse(*words.split())
    assert str(wrong.value) == said


@pytest.mark.skipif(os.geteuid() != 0, reason="./run is for root")
def test_what_needs_no_daemon_starts_none_from_a_checkout():
    done = subprocess.run([ROOT / "run", "config", "check", ROOT / "etc"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ROOT / 'etc'}: ok\n", "")
