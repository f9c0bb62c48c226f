#compdef knockctl

autoload -U is-at-least

_knockctl() {
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
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_knockctl_commands" \
"*::: :->knockctl" \
&& ret=0
    case $state in
    (knockctl)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:knockctl-command-$line[1]:"
        case $line[1] in
            (accept)
_arguments "${_arguments_options[@]}" : \
'--for=[How long, such as 300s, 1h30m or never (default\: as long as after a knock)]:TIME:_default' \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'-f[Lift bans that are in the way]' \
'--force[Lift bans that are in the way]' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::addresses -- IPv4 or IPv6 addresses:_default' \
&& ret=0
;;
(drop)
_arguments "${_arguments_options[@]}" : \
'--for=[How long, such as 300s, 7d or never (default\: as long as after a decoy)]:TIME:_default' \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'-f[Even the trusted and the protected, and whoever is logged in]' \
'--force[Even the trusted and the protected, and whoever is logged in]' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::addresses -- IPv4 or IPv6 addresses or networks:_default' \
&& ret=0
;;
(trust)
_arguments "${_arguments_options[@]}" : \
'--comment=[To be written beside the entry]:TEXT:_default' \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--runtime[Until reboot only; leave the whitelist file alone]' \
'-f[Even a network of length 0]' \
'--force[Even a network of length 0]' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::entries -- Addresses, networks or names:_default' \
&& ret=0
;;
(untrust)
_arguments "${_arguments_options[@]}" : \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--runtime[Only what was trusted until reboot; leave the whitelist file alone]' \
'-f[Even if that shuts out whoever is logged in]' \
'--force[Even if that shuts out whoever is logged in]' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::entries -- As they are on the list:_default' \
&& ret=0
;;
(unban)
_arguments "${_arguments_options[@]}" : \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::addresses -- The addresses or networks as they were banned:_default' \
&& ret=0
;;
(flush)
_arguments "${_arguments_options[@]}" : \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::what -- An address, filter, banned or all:_default' \
&& ret=0
;;
(open)
_arguments "${_arguments_options[@]}" : \
'--for=[How long, such as 60s (default\: as long as after a knock)]:TIME:_default' \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(close)
_arguments "${_arguments_options[@]}" : \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::kinds -- Only these\: accepted, banned or trusted:_default' \
&& ret=0
;;
(why)
_arguments "${_arguments_options[@]}" : \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::addresses -- IPv4 or IPv6 addresses:_default' \
&& ret=0
;;
(history)
_arguments "${_arguments_options[@]}" : \
'-n+[The latest so many, at most 10000 \[default\: 100\]]:N:_default' \
'--limit=[The latest so many, at most 10000 \[default\: 100\]]:N:_default' \
'*-g+[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'*--gate=[Only at this gate; may be repeated (default\: every gate)]:GATE:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::addresses -- Only to these addresses or networks:_default' \
&& ret=0
;;
(ping)
_arguments "${_arguments_options[@]}" : \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(reload)
_arguments "${_arguments_options[@]}" : \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'-f[Even if that shuts out whoever is logged in]' \
'--force[Even if that shuts out whoever is logged in]' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(diff)
_arguments "${_arguments_options[@]}" : \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':file -- A policy:_files' \
&& ret=0
;;
(apply)
_arguments "${_arguments_options[@]}" : \
'--confirm=[Take it back after this time, such as 120s, unless \`knockctl confirm\` comes first; until then the file that knockd starts with stays as it is]:TIME:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'-f[Even if that shuts out whoever is logged in]' \
'--force[Even if that shuts out whoever is logged in]' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':file -- A policy:_files' \
&& ret=0
;;
(confirm)
_arguments "${_arguments_options[@]}" : \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(rollback)
_arguments "${_arguments_options[@]}" : \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'-f[Even if that shuts out whoever is logged in]' \
'--force[Even if that shuts out whoever is logged in]' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(replay)
_arguments "${_arguments_options[@]}" : \
'-c+[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'--config=[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'*--address=[The addresses of the host that the capture is of \[default\: those of the policy'\''s gates, and whatever is knocked on in the capture\]. With a prefix length, nobody knocks from the broadcast address of that network]:IP[/LENGTH]:_default' \
'--listening=[The TCP ports that something listens on there, or \`none\` \[default\: whatever answers in the capture\]]:PORTS:_default' \
'-i+[Listen on this interface, whatever the policy says, as \`knockd -i\` does; \`any\` is all]:INTERFACE:_default' \
'--interface=[Listen on this interface, whatever the policy says, as \`knockd -i\` does; \`any\` is all]:INTERFACE:_default' \
'*--on=[What the capture does not tell\: the interface that it was made on, or which one a number in it stands for (\`eth0=2\`, as \`ip link\` shows it)]:INTERFACE[=NUMBER]:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'-4[Take knocks over IPv4 only, as \`knockd -4\` does]' \
'--only-ipv4[Take knocks over IPv4 only, as \`knockd -4\` does]' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':capture -- The capture, as of tcpdump -w; `-` is standard input, which does not tell about the host\: with --address, and without --listening nothing is taken to listen:_files' \
&& ret=0
;;
(import)
_arguments "${_arguments_options[@]}" : \
'--out=[Write the policy here, where nothing may be yet (default\: standard output)]:FILE:_files' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':file -- The file to read:_files' \
&& ret=0
;;
(handout)
_arguments "${_arguments_options[@]}" : \
'--host=[The host as people reach it, a name or an address]:HOST:_default' \
'--lang=[The page'\''s language]:LANG:(en fr es it)' \
'-c+[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'--config=[The policy \[default\: /etc/knockd/knockd.yaml, else /etc/knockd.conf\]]:POLICY:_files' \
'--knock=[The knock to tell of, where several let the sender in]:NAME:_default' \
'--socket=[The control socket of knockd]:PATH:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(sequences)
_arguments "${_arguments_options[@]}" : \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
":: :_knockctl__subcmd__sequences_commands" \
"*::: :->sequences" \
&& ret=0

    case $state in
    (sequences)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:knockctl-sequences-command-$line[1]:"
        case $line[1] in
            (new)
_arguments "${_arguments_options[@]}" : \
'--length=[How many ports in each, 3 to 32]:L:_default' \
'--ports=[Which TCP ports; those that browsers block are left out]:A-B:_default' \
'--out=[Write the sheet here, where nothing may be yet (default\: standard output)]:FILE:_files' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':count -- How many sequences, 1 to 10000:_default' \
&& ret=0
;;
(secret)
_arguments "${_arguments_options[@]}" : \
'--out=[Write it here, where nothing may be yet (default\: standard output)]:FILE:_files' \
'--socket=[The control socket of knockd]:PATH:_files' \
'-c+[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--config=[With --direct\: the policy \[default\: where knockd looks for it\]]:POLICY:_files' \
'--state-dir=[With --direct\: where knockd keeps its state, and a second lock \[default\: /var/lib/knockd\]]:DIR:_files' \
'--runtime-dir=[With --direct\: where knockd'\''s lock is \[default\: /run/knockd\]]:DIR:_files' \
'-o+[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'--output=[How to show the answer]:OUTPUT:((table\:"For people"
json\:"For programs"))' \
'(--socket)--direct[Work on the kernel'\''s sets while knockd does not run (root only)]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_knockctl__subcmd__sequences__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:knockctl-sequences-help-command-$line[1]:"
        case $line[1] in
            (new)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(secret)
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
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_knockctl__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:knockctl-help-command-$line[1]:"
        case $line[1] in
            (accept)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(drop)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(trust)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(untrust)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(unban)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(flush)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(open)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(close)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(why)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(history)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(ping)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(reload)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(diff)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(apply)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(confirm)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(rollback)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(replay)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(import)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(handout)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(sequences)
_arguments "${_arguments_options[@]}" : \
":: :_knockctl__subcmd__help__subcmd__sequences_commands" \
"*::: :->sequences" \
&& ret=0

    case $state in
    (sequences)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:knockctl-help-sequences-command-$line[1]:"
        case $line[1] in
            (new)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(secret)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
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

(( $+functions[_knockctl_commands] )) ||
_knockctl_commands() {
    local commands; commands=(
'accept:Let addresses in for a while' \
'drop:Ban addresses or networks' \
'trust:Put addresses, networks or host names on the whitelist' \
'untrust:Take entries off the whitelist' \
'unban:Lift bans' \
'flush:Withdraw acceptances (an address, \`filter\`), bans (\`banned\`) or both (\`all\`)' \
'open:Let everybody but the banned in' \
'close:End what \`open\` began' \
'status:Show how knockd is' \
'list:Show who is accepted, banned and trusted, from the kernel itself' \
'why:Show what happens now to a new connection from an address, and why' \
'history:Show what happened\: who was accepted, banned, refused, and by whom' \
'ping:Ask whether knockd answers' \
'reload:Have knockd read its policy and whitelist again' \
'diff:Say what a policy would change' \
'apply:Put a policy into force, and into the place of the one that knockd starts with' \
'confirm:Keep what \`apply --confirm\` has put into force' \
'rollback:Take back what \`apply --confirm\` has put into force, or go back to the policy from before' \
'replay:Run a capture of traffic through the policy, and show what would have happened to whom' \
'import:Turn a knockd.conf into a policy; says on standard error what is not as it was' \
'handout:Print a web page, in HTML, that tells people how to knock and can knock from their browser' \
'sequences:Sheets of one-time sequences, secrets of time-based ones' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'knockctl commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__accept_commands] )) ||
_knockctl__subcmd__accept_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl accept commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__apply_commands] )) ||
_knockctl__subcmd__apply_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl apply commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__close_commands] )) ||
_knockctl__subcmd__close_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl close commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__confirm_commands] )) ||
_knockctl__subcmd__confirm_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl confirm commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__diff_commands] )) ||
_knockctl__subcmd__diff_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl diff commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__drop_commands] )) ||
_knockctl__subcmd__drop_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl drop commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__flush_commands] )) ||
_knockctl__subcmd__flush_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl flush commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__handout_commands] )) ||
_knockctl__subcmd__handout_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl handout commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help_commands] )) ||
_knockctl__subcmd__help_commands() {
    local commands; commands=(
'accept:Let addresses in for a while' \
'drop:Ban addresses or networks' \
'trust:Put addresses, networks or host names on the whitelist' \
'untrust:Take entries off the whitelist' \
'unban:Lift bans' \
'flush:Withdraw acceptances (an address, \`filter\`), bans (\`banned\`) or both (\`all\`)' \
'open:Let everybody but the banned in' \
'close:End what \`open\` began' \
'status:Show how knockd is' \
'list:Show who is accepted, banned and trusted, from the kernel itself' \
'why:Show what happens now to a new connection from an address, and why' \
'history:Show what happened\: who was accepted, banned, refused, and by whom' \
'ping:Ask whether knockd answers' \
'reload:Have knockd read its policy and whitelist again' \
'diff:Say what a policy would change' \
'apply:Put a policy into force, and into the place of the one that knockd starts with' \
'confirm:Keep what \`apply --confirm\` has put into force' \
'rollback:Take back what \`apply --confirm\` has put into force, or go back to the policy from before' \
'replay:Run a capture of traffic through the policy, and show what would have happened to whom' \
'import:Turn a knockd.conf into a policy; says on standard error what is not as it was' \
'handout:Print a web page, in HTML, that tells people how to knock and can knock from their browser' \
'sequences:Sheets of one-time sequences, secrets of time-based ones' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'knockctl help commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__accept_commands] )) ||
_knockctl__subcmd__help__subcmd__accept_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help accept commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__apply_commands] )) ||
_knockctl__subcmd__help__subcmd__apply_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help apply commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__close_commands] )) ||
_knockctl__subcmd__help__subcmd__close_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help close commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__confirm_commands] )) ||
_knockctl__subcmd__help__subcmd__confirm_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help confirm commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__diff_commands] )) ||
_knockctl__subcmd__help__subcmd__diff_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help diff commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__drop_commands] )) ||
_knockctl__subcmd__help__subcmd__drop_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help drop commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__flush_commands] )) ||
_knockctl__subcmd__help__subcmd__flush_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help flush commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__handout_commands] )) ||
_knockctl__subcmd__help__subcmd__handout_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help handout commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__help_commands] )) ||
_knockctl__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help help commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__history_commands] )) ||
_knockctl__subcmd__help__subcmd__history_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help history commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__import_commands] )) ||
_knockctl__subcmd__help__subcmd__import_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help import commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__list_commands] )) ||
_knockctl__subcmd__help__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help list commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__open_commands] )) ||
_knockctl__subcmd__help__subcmd__open_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help open commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__ping_commands] )) ||
_knockctl__subcmd__help__subcmd__ping_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help ping commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__reload_commands] )) ||
_knockctl__subcmd__help__subcmd__reload_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help reload commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__replay_commands] )) ||
_knockctl__subcmd__help__subcmd__replay_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help replay commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__rollback_commands] )) ||
_knockctl__subcmd__help__subcmd__rollback_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help rollback commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__sequences_commands] )) ||
_knockctl__subcmd__help__subcmd__sequences_commands() {
    local commands; commands=(
'new:Make a sheet of random sequences; give a copy to whoever is to knock' \
'secret:Make a secret for time-based sequences; server and clients have a copy each' \
    )
    _describe -t commands 'knockctl help sequences commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__sequences__subcmd__new_commands] )) ||
_knockctl__subcmd__help__subcmd__sequences__subcmd__new_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help sequences new commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__sequences__subcmd__secret_commands] )) ||
_knockctl__subcmd__help__subcmd__sequences__subcmd__secret_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help sequences secret commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__status_commands] )) ||
_knockctl__subcmd__help__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help status commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__trust_commands] )) ||
_knockctl__subcmd__help__subcmd__trust_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help trust commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__unban_commands] )) ||
_knockctl__subcmd__help__subcmd__unban_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help unban commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__untrust_commands] )) ||
_knockctl__subcmd__help__subcmd__untrust_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help untrust commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__help__subcmd__why_commands] )) ||
_knockctl__subcmd__help__subcmd__why_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl help why commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__history_commands] )) ||
_knockctl__subcmd__history_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl history commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__import_commands] )) ||
_knockctl__subcmd__import_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl import commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__list_commands] )) ||
_knockctl__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl list commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__open_commands] )) ||
_knockctl__subcmd__open_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl open commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__ping_commands] )) ||
_knockctl__subcmd__ping_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl ping commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__reload_commands] )) ||
_knockctl__subcmd__reload_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl reload commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__replay_commands] )) ||
_knockctl__subcmd__replay_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl replay commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__rollback_commands] )) ||
_knockctl__subcmd__rollback_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl rollback commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__sequences_commands] )) ||
_knockctl__subcmd__sequences_commands() {
    local commands; commands=(
'new:Make a sheet of random sequences; give a copy to whoever is to knock' \
'secret:Make a secret for time-based sequences; server and clients have a copy each' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'knockctl sequences commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__sequences__subcmd__help_commands] )) ||
_knockctl__subcmd__sequences__subcmd__help_commands() {
    local commands; commands=(
'new:Make a sheet of random sequences; give a copy to whoever is to knock' \
'secret:Make a secret for time-based sequences; server and clients have a copy each' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'knockctl sequences help commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__sequences__subcmd__help__subcmd__help_commands] )) ||
_knockctl__subcmd__sequences__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl sequences help help commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__sequences__subcmd__help__subcmd__new_commands] )) ||
_knockctl__subcmd__sequences__subcmd__help__subcmd__new_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl sequences help new commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__sequences__subcmd__help__subcmd__secret_commands] )) ||
_knockctl__subcmd__sequences__subcmd__help__subcmd__secret_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl sequences help secret commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__sequences__subcmd__new_commands] )) ||
_knockctl__subcmd__sequences__subcmd__new_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl sequences new commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__sequences__subcmd__secret_commands] )) ||
_knockctl__subcmd__sequences__subcmd__secret_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl sequences secret commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__status_commands] )) ||
_knockctl__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl status commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__trust_commands] )) ||
_knockctl__subcmd__trust_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl trust commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__unban_commands] )) ||
_knockctl__subcmd__unban_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl unban commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__untrust_commands] )) ||
_knockctl__subcmd__untrust_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl untrust commands' commands "$@"
}
(( $+functions[_knockctl__subcmd__why_commands] )) ||
_knockctl__subcmd__why_commands() {
    local commands; commands=()
    _describe -t commands 'knockctl why commands' commands "$@"
}

if [ "$funcstack[1]" = "_knockctl" ]; then
    _knockctl "$@"
else
    compdef _knockctl knockctl
fi
