#!/usr/bin/python3
"""Write osdctl's completions for zsh and fish from its argument parser: what a shell offers can't differ from it.

``packaging/completions.py DIRECTORY`` writes them there, as the build of the packages does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from osdctl import options  # noqa: E402
from osdctl.registry import COMMANDS  # noqa: E402

# what a value may be, by how the help names it; a command's own ID is an anomaly's, one of its verbs' its own
KINDS = {
    "SPEC": "specs",
    "ID|SPEC": "targets",
    "ID": "anomalies",
    "METRIC": "metrics",
    "TIME": "times",
    "PID": "pids",
    "HOST": "hosts",
    "FILE": "files",
    "DIR|FILE": "files",
    "CSV|DIR ...": "files",
    "-- CMD ...": "commands",
    "CMD": "commands",
}
OF_VERB = {"probe": "probes", "trace": "traces", "allocations": "allocations"}


@dataclass(frozen=True)
class Word:
    """A value that stands by itself: which, how often, what it may be."""

    name: str
    many: bool
    kind: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """A command, or a verb of one: its path, its options and what follows them."""

    path: tuple[str, ...]
    help: str
    flags: tuple[argparse.Action, ...]
    words: tuple[Word, ...]
    verbs: tuple[Node, ...]


def kind_of(action: argparse.Action, path: tuple[str, ...]) -> str:
    """Return what a value may be, empty where nobody knows."""
    name = action.metavar if isinstance(action.metavar, str) else ""
    if name == "ID" and path and path[0] in OF_VERB:
        return OF_VERB[path[0]]
    return KINDS.get(name, "")


def node(parser: argparse.ArgumentParser, path: tuple[str, ...] = (), said: str = "") -> Node:
    """Return a parser as a tree."""
    verbs, flags, words = [], [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            verbs += [node(each, (*path, name), helps.get(name, "")) for name, each in action.choices.items()]
        elif action.option_strings:
            flags.append(action)
        else:
            name = str(action.metavar or action.dest)
            choices = tuple(map(str, action.choices or ()))
            many = action.nargs in ("+", "*", argparse.REMAINDER)
            words.append(Word(name, many, kind_of(action, path), choices))
    return Node(path, said, tuple(flags), tuple(words), tuple(verbs))


def takes_value(action: argparse.Action) -> bool:
    """Return whether an option is followed by a value."""
    return action.nargs != 0


def walk(top: Node) -> Iterator[Node]:
    """Yield a node and all below it."""
    yield top
    for verb in top.verbs:
        yield from walk(verb)


# ---- zsh

_ZSH_HEAD = """#compdef osdctl
# zsh completion for osdctl; written from its argument parser

_osdctl_call() { _call_program osdctl osdctl --no-pager "$@" 2>/dev/null }

_osdctl_rows() {
    local -a found
    found=(${(f)"$(_osdctl_call --no-legend "${@:2}" |
        awk '{ gsub(/:/, "\\\\:"); n = $1; $1 = ""; print n ":" $0 }')"})
    _describe -t "$1" "$1" found
}

_osdctl_targets() { _osdctl_rows targets list }
_osdctl_anomalies() { _osdctl_rows anomalies anomalies -n 50 }
_osdctl_probes() { _osdctl_rows probes probe list }
_osdctl_traces() { _osdctl_rows traces trace list }
_osdctl_allocations() { _osdctl_rows allocations allocations list }
_osdctl_metrics() {
    local -a found
    found=(${(f)"$(_osdctl_call --json=short status | sed 's/.*"units":{//; s/}.*//' |
        tr ',' '\\n' | cut -d '"' -f 2)"})
    _describe -t metrics metric found
}
_osdctl_specs() {
    if compset -P 'unit:'; then
        compadd -- ${(f)"$(_call_program units systemctl list-units --plain --no-legend --type=service \\
            2>/dev/null | cut -d ' ' -f 1)"}
    elif compset -P 'comm:'; then
        compadd -- ${(fu)"$(ps -eo comm=)"}
    elif compset -P 'exe:'; then
        _files
    elif compset -P 'user:'; then
        _users
    else
        compset -P 'pid:'
        _pids
        compadd -S '' -- pid: unit: cgroup: comm: exe: user:
    fi
}
_osdctl_times() { compadd -- now today yesterday -1h -1d 10min 1h off }
_osdctl_pids() { _pids }
_osdctl_hosts() { _hosts }
_osdctl_files() { _files }
_osdctl_commands() { _command_names -e }
"""


def zsh_text(text: str) -> str:
    """Return text as it may stand in a description, in single quotes."""
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text.replace("'", "'\\''")


def zsh_value(name: str, kind: str, choices: tuple[str, ...]) -> str:
    """Return message and action of a value."""
    if choices:
        return f"{zsh_text(name)}:({' '.join(choices)})"
    return f"{zsh_text(name)}:{'_osdctl_' + kind if kind else ' '}"


def zsh_option(action: argparse.Action, path: tuple[str, ...]) -> str:
    """Return an option as ``_arguments`` takes it."""
    names = action.option_strings
    value = ""
    if takes_value(action):
        choices = tuple(map(str, action.choices or ()))
        value = ":" + zsh_value(str(action.metavar or action.dest), kind_of(action, path), choices)
    said = f"[{zsh_text((action.help or '').replace('%%', '%'))}]{value}"
    long = [f"{name}=" if takes_value(action) and name.startswith("--") else name for name in names]
    long = [f"{name}+" if takes_value(action) and not name.startswith("--") else name for name in long]
    if len(names) == 1:
        return f"'{long[0]}{said}'"
    return f"'({' '.join(names)})'{{{','.join(long)}}}'{said}'"


def zsh_function(one: Node) -> str:
    """Return the function that completes a command."""
    name = "_".join(("_osdctl", *(f"_{part}" for part in one.path)))
    specs = [zsh_option(action, one.path) for action in one.flags]
    if one.verbs:
        said = " ".join(f"'{verb.path[-1]}:{zsh_text(verb.help)}'" for verb in one.verbs)
        specs += ["': :->verb'", "'*::: :->rest'"]
        lines = [
            "local context state state_descr line ret=1",
            "typeset -A opt_args",
            f"local -a verbs=({said})",
            "_arguments -C -s " + " \\\n        ".join(specs) + " && ret=0",
            "case $state in",
            "    verb) _describe -t commands command verbs && ret=0 ;;",
            "    rest)",
            '        words=($line[1] "${words[@]}")',
            "        (( CURRENT += 1 ))",
            f"        (( $+functions[{name}__$line[1]] )) && {name}__$line[1] && ret=0 ;;",
            "esac",
            "return ret",
        ]
    else:
        for word in one.words:
            value = zsh_value(word.name, word.kind, word.choices)
            specs.append(f"'*:{value}'" if word.many else f"':{value}'")
        lines = ["_arguments -s " + " \\\n        ".join(specs or ["'*: : '"])]
    return f"{name}() {{\n    " + "\n    ".join(lines) + "\n}\n"


def zsh(top: Node) -> str:
    """Return the whole file."""
    return "\n".join([_ZSH_HEAD, *(zsh_function(one) for one in walk(top)), '_osdctl "$@"\n'])


# ---- fish

_FISH_HEAD = """# fish completion for osdctl; written from its argument parser

# the words before the cursor that are neither options nor their values
function __osdctl_words
    set -l skip 0
    set -l words (commandline -opc)
    for word in $words[2..]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case {valued}
                set skip 1
            case '-*'
            case '*'
                echo $word
        end
    end
end

# whether the words begin with those of the first argument
function __osdctl_in
    set -l wanted (string split ' ' -- $argv[1])
    set -l words (__osdctl_words)
    test (count $words) -ge (count $wanted); and test "$words[1..$(count $wanted)]" = "$argv[1]"
end

# whether so many more words than those of the first argument are there already
function __osdctl_at
    __osdctl_in $argv[1]; or return
    test (count (__osdctl_words)) -eq (math (count (string split ' ' -- $argv[1])) + $argv[2])
end

function __osdctl_from
    __osdctl_in $argv[1]; or return
    test (count (__osdctl_words)) -ge (math (count (string split ' ' -- $argv[1])) + $argv[2])
end

function __osdctl_none
    test (count (__osdctl_words)) -eq 0
end

function __osdctl_rows
    osdctl --no-pager --no-legend $argv 2>/dev/null | awk '{{ n = $1; $1 = ""; print n "\\t" $0 }}'
end

function __osdctl_targets; __osdctl_rows list; end
function __osdctl_anomalies; __osdctl_rows anomalies -n 50; end
function __osdctl_probes; __osdctl_rows probe list; end
function __osdctl_traces; __osdctl_rows trace list; end
function __osdctl_allocations; __osdctl_rows allocations list; end
function __osdctl_metrics
    osdctl --json=short status 2>/dev/null | string replace -r '.*"units":\\{{([^}}]*)\\}}.*' '$1' | string split , \\
        | string replace -r '"([^"]*)".*' '$1'
end
function __osdctl_specs
    switch (commandline -ct)
        case 'unit:*'
            systemctl list-units --plain --no-legend --type=service 2>/dev/null | awk '{{ print "unit:" $1 }}'
        case 'comm:*'
            ps -eo comm= | sort -u | string replace -r '^' comm:
        case 'user:*'
            __fish_complete_users | string replace -r '^' user:
        case '*'
            __fish_complete_pids
            printf '%s\\n' pid: unit: cgroup: comm: exe: user:
    end
end
function __osdctl_times; printf '%s\\n' now today yesterday -1h -1d 10min 1h off; end
function __osdctl_pids; __fish_complete_pids; end
function __osdctl_hosts; __fish_print_hostnames; end
function __osdctl_files; __fish_complete_path (commandline -ct); end
function __osdctl_commands; __fish_complete_command; end

complete -c osdctl -f
"""


def fish_text(text: str) -> str:
    """Return text in single quotes."""
    return "'" + text.replace("%%", "%").replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_value(kind: str, choices: tuple[str, ...]) -> str:
    """Return what is offered for a value."""
    if choices:
        return f" -a {fish_text(' '.join(choices))}"
    return f" -a '(__osdctl_{kind})'" if kind else ""


def fish_lines(one: Node) -> Iterator[str]:
    """Yield the lines that complete a command."""
    path = " ".join(one.path)
    where = f" -n \"__osdctl_in '{path}'\"" if path else ""
    for action in one.flags:
        names = "".join(f" -l {n[2:]}" if n.startswith("--") else f" -s {n[1:]}" for n in action.option_strings)
        value = ""
        if takes_value(action):
            value = " -x" + fish_value(kind_of(action, one.path), tuple(map(str, action.choices or ())))
        yield f"complete -c osdctl{where}{names}{value} -d {fish_text(action.help or '')}"
    for verb in one.verbs:
        here = f" -n \"__osdctl_at '{path}' 0\"" if path else " -n __osdctl_none"
        yield f"complete -c osdctl{here} -a {verb.path[-1]} -d {fish_text(verb.help)}"
    for at, word in enumerate(one.words):
        value = fish_value(word.kind, word.choices)
        if value:
            how = "from" if word.many else "at"
            yield f"complete -c osdctl -n \"__osdctl_{how} '{path}' {at}\"{value}"


def fish(top: Node) -> str:
    """Return the whole file."""
    valued = {
        name for one in walk(top) for action in one.flags if takes_value(action) for name in action.option_strings
    }
    lines = [line for one in walk(top) for line in fish_lines(one)]
    return _FISH_HEAD.format(valued=" ".join(sorted(valued))) + "\n".join(lines) + "\n"


def write(directory: Path) -> None:
    """Write the files."""
    top = node(options.parser(COMMANDS))
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("_osdctl", zsh(top)), ("osdctl.fish", fish(top))):
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: packaging/completions.py DIRECTORY")
    write(Path(sys.argv[1]))
