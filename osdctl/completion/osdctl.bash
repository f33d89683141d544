# bash completion for osdctl: commands, options, target ids and anomalies of the running daemon   -*- shell-script -*-

__osdctl_common="-h --help -H --host --json --no-pager --no-legend -q --quiet"

# global: bash-completion loads this file within a function
declare -gA __osdctl_options=(
    [status]=""
    [doctor]=""
    [drill]="--limit"
    [watch]="--runtime --no-children -f --follow"
    [unwatch]=""
    [list]=""
    [show]="-T --threads -n --lines"
    [latency]=""
    [syscalls]="-n --lines"
    [top]="-d --delay -n --frames"
    [anomalies]="-S --since -U --until -t --target --open -n --lines"
    [log]="-f --follow -S --since -U --until -t --target -n --lines"
    [explain]=""
    [plot]="-S --since --png --svg"
    [mute]=""
    [feedback]=""
    [probe]="-t --target -p --pid --tid --all --no-children --budget -f --follow -n --lines"
    [trace]="-t --target -p --pid --tid --all --no-children --budget --entry --return -f --follow -n --lines"
    [allocations]="-p --pid --library --budget -y --yes -n --lines"
    [run]="--no-children"
    [snoop]="-c --command -p --pid --configure_file -i --interval --detectors"
    [detect]=""
    [config]=""
)

__osdctl_ids() { osdctl -q "$1" 2>/dev/null; }

__osdctl_metrics() {
    osdctl --json=short show "$1" 2>/dev/null | sed -n 's/.*"latest":{\([^}]*\)}.*/\1/p' | tr ',' '\n' | cut -d '"' -f 2
}

_osdctl() {
    local cur prev words cword split
    # target specifications have colons in them, which are no ends of words here
    _init_completion -s -n : || return

    local i command="" position=0 target=""
    for ((i = 1; i < cword; i++)); do
        case ${words[i]} in
            -H | --host | --json | -S | --since | -U | --until | -t | --target | -n | --lines | --frames | -d | --delay | -p | --pid | --tid | \
                --budget | --library | --entry | --return | --png | --svg | --limit | -c | --command | --configure_file | \
                -i | --interval | --detectors)
                ((i++)) ;;
            -*) ;;
            *)
                if [[ -z $command ]]; then
                    command=${words[i]}
                else
                    ((position++))
                    [[ -n $target ]] || target=${words[i]}
                    # what stands behind the program is the program's
                    [[ $command != run ]] || { _command_offset "$i"; return; }
                fi ;;
        esac
    done

    case $prev in
        --json) COMPREPLY=($(compgen -W "short pretty off" -- "$cur")); return ;;
        -H | --host) _known_hosts_real -- "$cur"; return ;;
        -t | --target) COMPREPLY=($(compgen -W "$(__osdctl_ids list)" -- "$cur")); return ;;
        -S | --since | -U | --until) COMPREPLY=($(compgen -W "now today yesterday -1h -1d" -- "$cur")); return ;;
        -n | --lines | --frames | -d | --delay | -i | --interval) return ;;
        -c | --command) COMPREPLY=($(compgen -c -- "$cur")); return ;;
        -p | --pid) COMPREPLY=($(compgen -W "$(ps -eo pid=)" -- "$cur")); return ;;
        --configure_file | --detectors | --png | --svg) _filedir; return ;;
    esac
    $split && return

    if [[ -z $command ]]; then
        if [[ $cur == -* ]]; then
            COMPREPLY=($(compgen -W "$__osdctl_common --version" -- "$cur"))
        else
            COMPREPLY=($(compgen -W "${!__osdctl_options[*]}" -- "$cur"))
        fi
        return
    fi
    if [[ $cur == -* && $command != detect ]]; then
        COMPREPLY=($(compgen -W "$__osdctl_common ${__osdctl_options[$command]}" -- "$cur"))
        return
    fi
    case $command in
        watch)
            case $cur in
                exe:*) _filedir; return ;;
                unit:*) COMPREPLY=($(compgen -P unit: -W "$(systemctl list-units --plain --no-legend --type=service \
                    2>/dev/null | cut -d ' ' -f 1)" -- "${cur#unit:}")) ;;
                user:*) COMPREPLY=($(compgen -P user: -u -- "${cur#user:}")) ;;
                comm:*) COMPREPLY=($(compgen -P comm: -W "$(ps -eo comm= | sort -u)" -- "${cur#comm:}")) ;;
                pid:*) COMPREPLY=($(compgen -P pid: -W "$(ps -eo pid=)" -- "${cur#pid:}")) ;;
                [0-9]*) COMPREPLY=($(compgen -W "$(ps -eo pid=)" -- "$cur")) ;;
                *) compopt -o nospace; COMPREPLY=($(compgen -W "pid: unit: cgroup: comm: exe: user:" -- "$cur")) ;;
            esac
            __ltrim_colon_completions "$cur" ;;
        unwatch) COMPREPLY=($(compgen -W "$(__osdctl_ids list)" -- "$cur")) ;;
        show | syscalls) ((position)) || COMPREPLY=($(compgen -W "$(__osdctl_ids list)" -- "$cur")) ;;
        latency)
            if ((position)); then
                COMPREPLY=($(compgen -W "cpu block" -- "$cur"))
            else
                COMPREPLY=($(compgen -W "$(__osdctl_ids list)" -- "$cur"))
            fi ;;
        plot)
            if ((position)); then
                COMPREPLY=($(compgen -W "$(__osdctl_metrics "$target")" -- "$cur"))
            else
                COMPREPLY=($(compgen -W "$(__osdctl_ids list)" -- "$cur"))
            fi ;;
        mute)
            if ((position)); then
                COMPREPLY=($(compgen -W "10min 1h 1d off" -- "$cur"))
            else
                COMPREPLY=($(compgen -W "$(__osdctl_ids list)" -- "$cur"))
            fi ;;
        probe | trace)
            if ((!position)); then
                local verbs="add remove list follow"
                [[ $command == trace ]] || verbs+=" stats"
                COMPREPLY=($(compgen -W "$verbs" -- "$cur"))
            elif [[ $target == add ]]; then
                _filedir
            elif [[ $target != list ]]; then
                COMPREPLY=($(compgen -W "$(osdctl -q "$command" list 2>/dev/null)" -- "$cur"))
            fi ;;
        allocations)
            if ((!position)); then
                COMPREPLY=($(compgen -W "add remove list show top price" -- "$cur"))
            elif [[ $target == add ]]; then
                COMPREPLY=($(compgen -W "$(__osdctl_ids list)" -- "$cur"))
            elif [[ $target != list && $target != price ]]; then
                COMPREPLY=($(compgen -W "$(osdctl -q allocations list 2>/dev/null)" -- "$cur"))
            fi ;;
        drill) ((position)) || COMPREPLY=($(compgen -W "loop memory descriptors" -- "$cur")) ;;
        explain) ((position)) || COMPREPLY=($(compgen -W "$(__osdctl_ids anomalies)" -- "$cur")) ;;
        feedback)
            if ((position)); then
                COMPREPLY=($(compgen -W "yes no undo" -- "$cur"))
            else
                COMPREPLY=($(compgen -W "$(__osdctl_ids anomalies)" -- "$cur"))
            fi ;;
        config)
            if ! ((position)); then
                COMPREPLY=($(compgen -W "check show import" -- "$cur"))
            elif [[ $target == import ]]; then
                _filedir
            else
                _filedir -d
            fi ;;
        run) COMPREPLY=($(compgen -c -- "$cur")) ;;
        detect) _filedir ;;
    esac
} &&
    complete -F _osdctl osdctl
