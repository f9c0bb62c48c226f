# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_knockctl_global_optspecs
    string join \n socket= direct c/config= state-dir= runtime-dir= o/output= h/help V/version
end

function __fish_knockctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_knockctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_knockctl_using_subcommand
    set -l cmd (__fish_knockctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c knockctl -n "__fish_knockctl_needs_command" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_needs_command" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_needs_command" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_needs_command" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_needs_command" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_needs_command" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_needs_command" -s V -l version -d 'Print version'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "accept" -d 'Let addresses in for a while'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "drop" -d 'Ban addresses or networks'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "trust" -d 'Put addresses, networks or host names on the whitelist'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "untrust" -d 'Take entries off the whitelist'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "unban" -d 'Lift bans'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "flush" -d 'Withdraw acceptances (an address, `filter`), bans (`banned`) or both (`all`)'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "open" -d 'Let everybody but the banned in'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "close" -d 'End what `open` began'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "status" -d 'Show how knockd is'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "list" -d 'Show who is accepted, banned and trusted, from the kernel itself'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "why" -d 'Show what happens now to a new connection from an address, and why'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "history" -d 'Show what happened: who was accepted, banned, refused, and by whom'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "ping" -d 'Ask whether knockd answers'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "reload" -d 'Have knockd read its policy and whitelist again'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "diff" -d 'Say what a policy would change'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "apply" -d 'Put a policy into force, and into the place of the one that knockd starts with'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "confirm" -d 'Keep what `apply --confirm` has put into force'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "rollback" -d 'Take back what `apply --confirm` has put into force, or go back to the policy from before'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "replay" -d 'Run a capture of traffic through the policy, and show what would have happened to whom'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "import" -d 'Turn a knockd.conf into a policy; says on standard error what is not as it was'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "handout" -d 'Print a web page, in HTML, that tells people how to knock and can knock from their browser'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "sequences" -d 'Sheets of one-time sequences, secrets of time-based ones'
complete -c knockctl -n "__fish_knockctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c knockctl -n "__fish_knockctl_using_subcommand accept" -l for -d 'How long, such as 300s, 1h30m or never (default: as long as after a knock)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand accept" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand accept" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand accept" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand accept" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand accept" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand accept" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand accept" -s f -l force -d 'Lift bans that are in the way'
complete -c knockctl -n "__fish_knockctl_using_subcommand accept" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand accept" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand drop" -l for -d 'How long, such as 300s, 7d or never (default: as long as after a decoy)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand drop" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand drop" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand drop" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand drop" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand drop" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand drop" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand drop" -s f -l force -d 'Even the trusted and the protected, and whoever is logged in'
complete -c knockctl -n "__fish_knockctl_using_subcommand drop" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand drop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -l comment -d 'To be written beside the entry' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -l runtime -d 'Until reboot only; leave the whitelist file alone'
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -s f -l force -d 'Even a network of length 0'
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand trust" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand untrust" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand untrust" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand untrust" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand untrust" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand untrust" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand untrust" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand untrust" -l runtime -d 'Only what was trusted until reboot; leave the whitelist file alone'
complete -c knockctl -n "__fish_knockctl_using_subcommand untrust" -s f -l force -d 'Even if that shuts out whoever is logged in'
complete -c knockctl -n "__fish_knockctl_using_subcommand untrust" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand untrust" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand unban" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand unban" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand unban" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand unban" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand unban" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand unban" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand unban" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand unban" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand flush" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand flush" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand flush" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand flush" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand flush" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand flush" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand flush" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand flush" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand open" -l for -d 'How long, such as 60s (default: as long as after a knock)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand open" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand open" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand open" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand open" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand open" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand open" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand open" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand open" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand close" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand close" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand close" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand close" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand close" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand close" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand close" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand close" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand status" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand status" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand status" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand status" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand status" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand status" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand list" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand list" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand list" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand list" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand list" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand list" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand list" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand why" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand why" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand why" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand why" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand why" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand why" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand why" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand why" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand history" -s n -l limit -d 'The latest so many, at most 10000 [default: 100]' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand history" -s g -l gate -d 'Only at this gate; may be repeated (default: every gate)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand history" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand history" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand history" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand history" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand history" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand history" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand ping" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand ping" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand ping" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand ping" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand ping" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand ping" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand ping" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand reload" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand reload" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand reload" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand reload" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand reload" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand reload" -s f -l force -d 'Even if that shuts out whoever is logged in'
complete -c knockctl -n "__fish_knockctl_using_subcommand reload" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand diff" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand diff" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand diff" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand diff" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand diff" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand diff" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand apply" -l confirm -d 'Take it back after this time, such as 120s, unless `knockctl confirm` comes first; until then the file that knockd starts with stays as it is' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand apply" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand apply" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand apply" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand apply" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand apply" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand apply" -s f -l force -d 'Even if that shuts out whoever is logged in'
complete -c knockctl -n "__fish_knockctl_using_subcommand apply" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand confirm" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand confirm" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand confirm" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand confirm" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand confirm" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand confirm" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand confirm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand rollback" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand rollback" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand rollback" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand rollback" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand rollback" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand rollback" -s f -l force -d 'Even if that shuts out whoever is logged in'
complete -c knockctl -n "__fish_knockctl_using_subcommand rollback" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -s c -l config -d 'The policy [default: /etc/knockd/knockd.yaml, else /etc/knockd.conf]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -l address -d 'The addresses of the host that the capture is of [default: those of the policy\'s gates, and whatever is knocked on in the capture]. With a prefix length, nobody knocks from the broadcast address of that network' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -l listening -d 'The TCP ports that something listens on there, or `none` [default: whatever answers in the capture]' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -s i -l interface -d 'Listen on this interface, whatever the policy says, as `knockd -i` does; `any` is all' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -l on -d 'What the capture does not tell: the interface that it was made on, or which one a number in it stands for (`eth0=2`, as `ip link` shows it)' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -s 4 -l only-ipv4 -d 'Take knocks over IPv4 only, as `knockd -4` does'
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand import" -l out -d 'Write the policy here, where nothing may be yet (default: standard output)' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand import" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand import" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand import" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand import" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand import" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand import" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand handout" -l host -d 'The host as people reach it, a name or an address' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand handout" -l lang -d 'The page\'s language' -r -f -a "en\t''
fr\t''
es\t''
it\t''"
complete -c knockctl -n "__fish_knockctl_using_subcommand handout" -s c -l config -d 'The policy [default: /etc/knockd/knockd.yaml, else /etc/knockd.conf]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand handout" -l knock -d 'The knock to tell of, where several let the sender in' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand handout" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand handout" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand handout" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand handout" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand handout" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand handout" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and not __fish_seen_subcommand_from new secret help" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and not __fish_seen_subcommand_from new secret help" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and not __fish_seen_subcommand_from new secret help" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and not __fish_seen_subcommand_from new secret help" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and not __fish_seen_subcommand_from new secret help" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and not __fish_seen_subcommand_from new secret help" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and not __fish_seen_subcommand_from new secret help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and not __fish_seen_subcommand_from new secret help" -f -a "new" -d 'Make a sheet of random sequences; give a copy to whoever is to knock'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and not __fish_seen_subcommand_from new secret help" -f -a "secret" -d 'Make a secret for time-based sequences; server and clients have a copy each'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and not __fish_seen_subcommand_from new secret help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from new" -l length -d 'How many ports in each, 3 to 32' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from new" -l ports -d 'Which TCP ports; those that browsers block are left out' -r
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from new" -l out -d 'Write the sheet here, where nothing may be yet (default: standard output)' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from new" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from new" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from new" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from new" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from new" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from new" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from new" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from secret" -l out -d 'Write it here, where nothing may be yet (default: standard output)' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from secret" -l socket -d 'The control socket of knockd' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from secret" -s c -l config -d 'With --direct: the policy [default: where knockd looks for it]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from secret" -l state-dir -d 'With --direct: where knockd keeps its state, and a second lock [default: /var/lib/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from secret" -l runtime-dir -d 'With --direct: where knockd\'s lock is [default: /run/knockd]' -r -F
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from secret" -s o -l output -d 'How to show the answer' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from secret" -l direct -d 'Work on the kernel\'s sets while knockd does not run (root only)'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from secret" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from help" -f -a "new" -d 'Make a sheet of random sequences; give a copy to whoever is to knock'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from help" -f -a "secret" -d 'Make a secret for time-based sequences; server and clients have a copy each'
complete -c knockctl -n "__fish_knockctl_using_subcommand sequences; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "accept" -d 'Let addresses in for a while'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "drop" -d 'Ban addresses or networks'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "trust" -d 'Put addresses, networks or host names on the whitelist'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "untrust" -d 'Take entries off the whitelist'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "unban" -d 'Lift bans'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "flush" -d 'Withdraw acceptances (an address, `filter`), bans (`banned`) or both (`all`)'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "open" -d 'Let everybody but the banned in'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "close" -d 'End what `open` began'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "status" -d 'Show how knockd is'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "list" -d 'Show who is accepted, banned and trusted, from the kernel itself'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "why" -d 'Show what happens now to a new connection from an address, and why'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "history" -d 'Show what happened: who was accepted, banned, refused, and by whom'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "ping" -d 'Ask whether knockd answers'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "reload" -d 'Have knockd read its policy and whitelist again'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "diff" -d 'Say what a policy would change'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "apply" -d 'Put a policy into force, and into the place of the one that knockd starts with'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "confirm" -d 'Keep what `apply --confirm` has put into force'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "rollback" -d 'Take back what `apply --confirm` has put into force, or go back to the policy from before'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "replay" -d 'Run a capture of traffic through the policy, and show what would have happened to whom'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "import" -d 'Turn a knockd.conf into a policy; says on standard error what is not as it was'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "handout" -d 'Print a web page, in HTML, that tells people how to knock and can knock from their browser'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "sequences" -d 'Sheets of one-time sequences, secrets of time-based ones'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and not __fish_seen_subcommand_from accept drop trust untrust unban flush open close status list why history ping reload diff apply confirm rollback replay import handout sequences help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and __fish_seen_subcommand_from sequences" -f -a "new" -d 'Make a sheet of random sequences; give a copy to whoever is to knock'
complete -c knockctl -n "__fish_knockctl_using_subcommand help; and __fish_seen_subcommand_from sequences" -f -a "secret" -d 'Make a secret for time-based sequences; server and clients have a copy each'
