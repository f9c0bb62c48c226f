#compdef knock

autoload -U is-at-least

_knock() {
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
'-d+[Pause between knocks, in milliseconds \[default\: 0\]]:MS:_default' \
'--delay=[Pause between knocks, in milliseconds \[default\: 0\]]:MS:_default' \
'--open-and-check=[Then connect to this port until it answers, knocking again if it does not]:PORT:_default' \
'--tries=[How often to knock at most before giving up]:N:_default' \
'--wait=[How long to wait for an answer each time, in seconds]:SECONDS:_default' \
'--totp=[Knock on the ports that follow from the secret in this file and the time]:FILE:_files' \
'--totp-ports=[Which ports these are among, as in the server'\''s policy, such as 20000-40000]:A-B:_default' \
'--totp-length=[How many they are, as in the server'\''s policy]:N:_default' \
'-u[Ports without a protocol are UDP instead of TCP]' \
'--udp[Ports without a protocol are UDP instead of TCP]' \
'(-6 --ipv6)-4[Knock (and connect) over IPv4 only]' \
'(-6 --ipv6)--ipv4[Knock (and connect) over IPv4 only]' \
'-6[Knock (and connect) over IPv6 only]' \
'--ipv6[Knock (and connect) over IPv6 only]' \
'-v[Say what is sent]' \
'--verbose[Say what is sent]' \
'--proxy[Then connect, and join the connection to standard input and output]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'-V[Print version]' \
'--version[Print version]' \
':host -- A name, an address or a profile:_default' \
'*::ports -- From 1 to 65535, with \:tcp or \:udp if need be:_default' \
&& ret=0
}

(( $+functions[_knock_commands] )) ||
_knock_commands() {
    local commands; commands=()
    _describe -t commands 'knock commands' commands "$@"
}

if [ "$funcstack[1]" = "_knock" ]; then
    _knock "$@"
else
    compdef _knock knock
fi
