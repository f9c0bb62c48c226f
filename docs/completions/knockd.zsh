#compdef knockd

autoload -U is-at-least

_knockd() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'-c+[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'--config=[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'-i+[Listen on this interface, whatever the policy says]:IFACE:_default' \
'--interface=[Listen on this interface, whatever the policy says]:IFACE:_default' \
'-p+[Another pid file, beside knockd.pid in the runtime directory]:PIDFILE:_files' \
'--pidfile=[Another pid file, beside knockd.pid in the runtime directory]:PIDFILE:_files' \
'-g+[Log to this file]:LOGFILE:_files' \
'--logfile=[Log to this file]:LOGFILE:_files' \
'--state-dir=[What outlives the daemon is kept here]:DIR:_files' \
'--runtime-dir=[The control socket and the pid file are here]:DIR:_files' \
'--role=[The part that this process plays for a daemon in the background]:ROLE:((supervisor\:"Starts the worker, and starts it again when it dies"
worker\:"Does the work"))' \
'-d[Run in the background, supervised]' \
'--daemon[Run in the background, supervised]' \
'-D[Log everything, for finding faults]' \
'--debug[Log everything, for finding faults]' \
'-v[Log more]' \
'--verbose[Log more]' \
'-4[Take knocks over IPv4 only; gates are shut over IPv6 all the same]' \
'--only-ipv4[Take knocks over IPv4 only; gates are shut over IPv6 all the same]' \
'-l[Look up the host names of those who knock, for the log]' \
'--lookup[Look up the host names of those who knock, for the log]' \
'-V[Print the version]' \
'--version[Print the version]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_knockd_commands" \
"*::: :->knockd" \
&& ret=0
    case $state in
    (knockd)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:knockd-command-$line[1]:"
        case $line[1] in
            (check)
_arguments "${_arguments_options[@]}" : \
'-c+[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'--config=[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'-i+[Listen on this interface, whatever the policy says]:IFACE:_default' \
'--interface=[Listen on this interface, whatever the policy says]:IFACE:_default' \
'-p+[Another pid file, beside knockd.pid in the runtime directory]:PIDFILE:_files' \
'--pidfile=[Another pid file, beside knockd.pid in the runtime directory]:PIDFILE:_files' \
'-g+[Log to this file]:LOGFILE:_files' \
'--logfile=[Log to this file]:LOGFILE:_files' \
'--state-dir=[What outlives the daemon is kept here]:DIR:_files' \
'--runtime-dir=[The control socket and the pid file are here]:DIR:_files' \
'--role=[The part that this process plays for a daemon in the background]:ROLE:((supervisor\:"Starts the worker, and starts it again when it dies"
worker\:"Does the work"))' \
'-d[Run in the background, supervised]' \
'--daemon[Run in the background, supervised]' \
'-D[Log everything, for finding faults]' \
'--debug[Log everything, for finding faults]' \
'-v[Log more]' \
'--verbose[Log more]' \
'-4[Take knocks over IPv4 only; gates are shut over IPv6 all the same]' \
'--only-ipv4[Take knocks over IPv4 only; gates are shut over IPv6 all the same]' \
'-l[Look up the host names of those who knock, for the log]' \
'--lookup[Look up the host names of those who knock, for the log]' \
'-h[Print help]' \
'--help[Print help]' \
'::file -- The policy \[default\: that of -c\]:_files' \
&& ret=0
;;
(demo)
_arguments "${_arguments_options[@]}" : \
'-c+[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'--config=[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'-i+[Listen on this interface, whatever the policy says]:IFACE:_default' \
'--interface=[Listen on this interface, whatever the policy says]:IFACE:_default' \
'-p+[Another pid file, beside knockd.pid in the runtime directory]:PIDFILE:_files' \
'--pidfile=[Another pid file, beside knockd.pid in the runtime directory]:PIDFILE:_files' \
'-g+[Log to this file]:LOGFILE:_files' \
'--logfile=[Log to this file]:LOGFILE:_files' \
'--state-dir=[What outlives the daemon is kept here]:DIR:_files' \
'--runtime-dir=[The control socket and the pid file are here]:DIR:_files' \
'--role=[The part that this process plays for a daemon in the background]:ROLE:((supervisor\:"Starts the worker, and starts it again when it dies"
worker\:"Does the work"))' \
'-d[Run in the background, supervised]' \
'--daemon[Run in the background, supervised]' \
'-D[Log everything, for finding faults]' \
'--debug[Log everything, for finding faults]' \
'-v[Log more]' \
'--verbose[Log more]' \
'-4[Take knocks over IPv4 only; gates are shut over IPv6 all the same]' \
'--only-ipv4[Take knocks over IPv4 only; gates are shut over IPv6 all the same]' \
'-l[Look up the host names of those who knock, for the log]' \
'--lookup[Look up the host names of those who knock, for the log]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(setup)
_arguments "${_arguments_options[@]}" : \
'-c+[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'--config=[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'-i+[Listen on this interface, whatever the policy says]:IFACE:_default' \
'--interface=[Listen on this interface, whatever the policy says]:IFACE:_default' \
'-p+[Another pid file, beside knockd.pid in the runtime directory]:PIDFILE:_files' \
'--pidfile=[Another pid file, beside knockd.pid in the runtime directory]:PIDFILE:_files' \
'-g+[Log to this file]:LOGFILE:_files' \
'--logfile=[Log to this file]:LOGFILE:_files' \
'--state-dir=[What outlives the daemon is kept here]:DIR:_files' \
'--runtime-dir=[The control socket and the pid file are here]:DIR:_files' \
'--role=[The part that this process plays for a daemon in the background]:ROLE:((supervisor\:"Starts the worker, and starts it again when it dies"
worker\:"Does the work"))' \
'-d[Run in the background, supervised]' \
'--daemon[Run in the background, supervised]' \
'-D[Log everything, for finding faults]' \
'--debug[Log everything, for finding faults]' \
'-v[Log more]' \
'--verbose[Log more]' \
'-4[Take knocks over IPv4 only; gates are shut over IPv6 all the same]' \
'--only-ipv4[Take knocks over IPv4 only; gates are shut over IPv6 all the same]' \
'-l[Look up the host names of those who knock, for the log]' \
'--lookup[Look up the host names of those who knock, for the log]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(teardown)
_arguments "${_arguments_options[@]}" : \
'-c+[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'--config=[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'-i+[Listen on this interface, whatever the policy says]:IFACE:_default' \
'--interface=[Listen on this interface, whatever the policy says]:IFACE:_default' \
'-p+[Another pid file, beside knockd.pid in the runtime directory]:PIDFILE:_files' \
'--pidfile=[Another pid file, beside knockd.pid in the runtime directory]:PIDFILE:_files' \
'-g+[Log to this file]:LOGFILE:_files' \
'--logfile=[Log to this file]:LOGFILE:_files' \
'--state-dir=[What outlives the daemon is kept here]:DIR:_files' \
'--runtime-dir=[The control socket and the pid file are here]:DIR:_files' \
'--role=[The part that this process plays for a daemon in the background]:ROLE:((supervisor\:"Starts the worker, and starts it again when it dies"
worker\:"Does the work"))' \
'-d[Run in the background, supervised]' \
'--daemon[Run in the background, supervised]' \
'-D[Log everything, for finding faults]' \
'--debug[Log everything, for finding faults]' \
'-v[Log more]' \
'--verbose[Log more]' \
'-4[Take knocks over IPv4 only; gates are shut over IPv6 all the same]' \
'--only-ipv4[Take knocks over IPv4 only; gates are shut over IPv6 all the same]' \
'-l[Look up the host names of those who knock, for the log]' \
'--lookup[Look up the host names of those who knock, for the log]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_knockd__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:knockd-help-command-$line[1]:"
        case $line[1] in
            (check)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(demo)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(setup)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(teardown)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
;;
        esac
    ;;
esac
}

(( $+functions[_knockd_commands] )) ||
_knockd_commands() {
    local commands; commands=(
'check:Check a policy, and say in words what it does and which ports the site'\''s border must let through' \
'demo:Show the main job at work, in throw-away network namespaces' \
'setup:Install the rules and end; does nothing while a daemon runs' \
'teardown:Remove every rule of ours; a running daemon does it, and ends' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'knockd commands' commands "$@"
}
(( $+functions[_knockd__subcmd__check_commands] )) ||
_knockd__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'knockd check commands' commands "$@"
}
(( $+functions[_knockd__subcmd__demo_commands] )) ||
_knockd__subcmd__demo_commands() {
    local commands; commands=()
    _describe -t commands 'knockd demo commands' commands "$@"
}
(( $+functions[_knockd__subcmd__help_commands] )) ||
_knockd__subcmd__help_commands() {
    local commands; commands=(
'check:Check a policy, and say in words what it does and which ports the site'\''s border must let through' \
'demo:Show the main job at work, in throw-away network namespaces' \
'setup:Install the rules and end; does nothing while a daemon runs' \
'teardown:Remove every rule of ours; a running daemon does it, and ends' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'knockd help commands' commands "$@"
}
(( $+functions[_knockd__subcmd__help__subcmd__check_commands] )) ||
_knockd__subcmd__help__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'knockd help check commands' commands "$@"
}
(( $+functions[_knockd__subcmd__help__subcmd__demo_commands] )) ||
_knockd__subcmd__help__subcmd__demo_commands() {
    local commands; commands=()
    _describe -t commands 'knockd help demo commands' commands "$@"
}
(( $+functions[_knockd__subcmd__help__subcmd__help_commands] )) ||
_knockd__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'knockd help help commands' commands "$@"
}
(( $+functions[_knockd__subcmd__help__subcmd__setup_commands] )) ||
_knockd__subcmd__help__subcmd__setup_commands() {
    local commands; commands=()
    _describe -t commands 'knockd help setup commands' commands "$@"
}
(( $+functions[_knockd__subcmd__help__subcmd__teardown_commands] )) ||
_knockd__subcmd__help__subcmd__teardown_commands() {
    local commands; commands=()
    _describe -t commands 'knockd help teardown commands' commands "$@"
}
(( $+functions[_knockd__subcmd__setup_commands] )) ||
_knockd__subcmd__setup_commands() {
    local commands; commands=()
    _describe -t commands 'knockd setup commands' commands "$@"
}
(( $+functions[_knockd__subcmd__teardown_commands] )) ||
_knockd__subcmd__teardown_commands() {
    local commands; commands=()
    _describe -t commands 'knockd teardown commands' commands "$@"
}

if [ "$funcstack[1]" = "_knockd" ]; then
    _knockd "$@"
else
    compdef _knockd knockd
fi
