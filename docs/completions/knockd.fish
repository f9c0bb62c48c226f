# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_knockd_global_optspecs
    string join \n c/config= i/interface= d/daemon D/debug v/verbose 4/only-ipv4 l/lookup p/pidfile= g/logfile= state-dir= runtime-dir= role= V/version h/help
end

function __fish_knockd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_knockd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_knockd_using_subcommand
    set -l cmd (__fish_knockd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c knockd -n "__fish_knockd_needs_command" -s c -l config -d 'The policy [default: /etc/knockd/knockd.yaml, else /etc/knockd.conf]' -r -F
complete -c knockd -n "__fish_knockd_needs_command" -s i -l interface -d 'Listen on this interface, whatever the policy says' -r
complete -c knockd -n "__fish_knockd_needs_command" -s p -l pidfile -d 'Another pid file, beside knockd.pid in the runtime directory' -r -F
complete -c knockd -n "__fish_knockd_needs_command" -s g -l logfile -d 'Log to this file' -r -F
complete -c knockd -n "__fish_knockd_needs_command" -l state-dir -d 'What outlives the daemon is kept here' -r -F
complete -c knockd -n "__fish_knockd_needs_command" -l runtime-dir -d 'The control socket and the pid file are here' -r -F
complete -c knockd -n "__fish_knockd_needs_command" -l role -d 'The part that this process plays for a daemon in the background' -r -f -a "supervisor\t'Starts the worker, and starts it again when it dies'
worker\t'Does the work'"
complete -c knockd -n "__fish_knockd_needs_command" -s d -l daemon -d 'Run in the background, supervised'
complete -c knockd -n "__fish_knockd_needs_command" -s D -l debug -d 'Log everything, for finding faults'
complete -c knockd -n "__fish_knockd_needs_command" -s v -l verbose -d 'Log more'
complete -c knockd -n "__fish_knockd_needs_command" -s 4 -l only-ipv4 -d 'Take knocks over IPv4 only; gates are shut over IPv6 all the same'
complete -c knockd -n "__fish_knockd_needs_command" -s l -l lookup -d 'Look up the host names of those who knock, for the log'
complete -c knockd -n "__fish_knockd_needs_command" -s V -l version -d 'Print the version'
complete -c knockd -n "__fish_knockd_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knockd -n "__fish_knockd_needs_command" -f -a "check" -d 'Check a policy, and say in words what it does and which ports the site\'s border must let through'
complete -c knockd -n "__fish_knockd_needs_command" -f -a "demo" -d 'Show the main job at work, in throw-away network namespaces'
complete -c knockd -n "__fish_knockd_needs_command" -f -a "setup" -d 'Install the rules and end; does nothing while a daemon runs'
complete -c knockd -n "__fish_knockd_needs_command" -f -a "teardown" -d 'Remove every rule of ours; a running daemon does it, and ends'
complete -c knockd -n "__fish_knockd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c knockd -n "__fish_knockd_using_subcommand check" -s c -l config -d 'The policy [default: /etc/knockd/knockd.yaml, else /etc/knockd.conf]' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand check" -s i -l interface -d 'Listen on this interface, whatever the policy says' -r
complete -c knockd -n "__fish_knockd_using_subcommand check" -s p -l pidfile -d 'Another pid file, beside knockd.pid in the runtime directory' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand check" -s g -l logfile -d 'Log to this file' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand check" -l state-dir -d 'What outlives the daemon is kept here' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand check" -l runtime-dir -d 'The control socket and the pid file are here' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand check" -l role -d 'The part that this process plays for a daemon in the background' -r -f -a "supervisor\t'Starts the worker, and starts it again when it dies'
worker\t'Does the work'"
complete -c knockd -n "__fish_knockd_using_subcommand check" -s d -l daemon -d 'Run in the background, supervised'
complete -c knockd -n "__fish_knockd_using_subcommand check" -s D -l debug -d 'Log everything, for finding faults'
complete -c knockd -n "__fish_knockd_using_subcommand check" -s v -l verbose -d 'Log more'
complete -c knockd -n "__fish_knockd_using_subcommand check" -s 4 -l only-ipv4 -d 'Take knocks over IPv4 only; gates are shut over IPv6 all the same'
complete -c knockd -n "__fish_knockd_using_subcommand check" -s l -l lookup -d 'Look up the host names of those who knock, for the log'
complete -c knockd -n "__fish_knockd_using_subcommand check" -s h -l help -d 'Print help'
complete -c knockd -n "__fish_knockd_using_subcommand demo" -s c -l config -d 'The policy [default: /etc/knockd/knockd.yaml, else /etc/knockd.conf]' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand demo" -s i -l interface -d 'Listen on this interface, whatever the policy says' -r
complete -c knockd -n "__fish_knockd_using_subcommand demo" -s p -l pidfile -d 'Another pid file, beside knockd.pid in the runtime directory' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand demo" -s g -l logfile -d 'Log to this file' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand demo" -l state-dir -d 'What outlives the daemon is kept here' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand demo" -l runtime-dir -d 'The control socket and the pid file are here' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand demo" -l role -d 'The part that this process plays for a daemon in the background' -r -f -a "supervisor\t'Starts the worker, and starts it again when it dies'
worker\t'Does the work'"
complete -c knockd -n "__fish_knockd_using_subcommand demo" -s d -l daemon -d 'Run in the background, supervised'
complete -c knockd -n "__fish_knockd_using_subcommand demo" -s D -l debug -d 'Log everything, for finding faults'
complete -c knockd -n "__fish_knockd_using_subcommand demo" -s v -l verbose -d 'Log more'
complete -c knockd -n "__fish_knockd_using_subcommand demo" -s 4 -l only-ipv4 -d 'Take knocks over IPv4 only; gates are shut over IPv6 all the same'
complete -c knockd -n "__fish_knockd_using_subcommand demo" -s l -l lookup -d 'Look up the host names of those who knock, for the log'
complete -c knockd -n "__fish_knockd_using_subcommand demo" -s h -l help -d 'Print help'
complete -c knockd -n "__fish_knockd_using_subcommand setup" -s c -l config -d 'The policy [default: /etc/knockd/knockd.yaml, else /etc/knockd.conf]' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand setup" -s i -l interface -d 'Listen on this interface, whatever the policy says' -r
complete -c knockd -n "__fish_knockd_using_subcommand setup" -s p -l pidfile -d 'Another pid file, beside knockd.pid in the runtime directory' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand setup" -s g -l logfile -d 'Log to this file' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand setup" -l state-dir -d 'What outlives the daemon is kept here' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand setup" -l runtime-dir -d 'The control socket and the pid file are here' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand setup" -l role -d 'The part that this process plays for a daemon in the background' -r -f -a "supervisor\t'Starts the worker, and starts it again when it dies'
worker\t'Does the work'"
complete -c knockd -n "__fish_knockd_using_subcommand setup" -s d -l daemon -d 'Run in the background, supervised'
complete -c knockd -n "__fish_knockd_using_subcommand setup" -s D -l debug -d 'Log everything, for finding faults'
complete -c knockd -n "__fish_knockd_using_subcommand setup" -s v -l verbose -d 'Log more'
complete -c knockd -n "__fish_knockd_using_subcommand setup" -s 4 -l only-ipv4 -d 'Take knocks over IPv4 only; gates are shut over IPv6 all the same'
complete -c knockd -n "__fish_knockd_using_subcommand setup" -s l -l lookup -d 'Look up the host names of those who knock, for the log'
complete -c knockd -n "__fish_knockd_using_subcommand setup" -s h -l help -d 'Print help'
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -s c -l config -d 'The policy [default: /etc/knockd/knockd.yaml, else /etc/knockd.conf]' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -s i -l interface -d 'Listen on this interface, whatever the policy says' -r
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -s p -l pidfile -d 'Another pid file, beside knockd.pid in the runtime directory' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -s g -l logfile -d 'Log to this file' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -l state-dir -d 'What outlives the daemon is kept here' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -l runtime-dir -d 'The control socket and the pid file are here' -r -F
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -l role -d 'The part that this process plays for a daemon in the background' -r -f -a "supervisor\t'Starts the worker, and starts it again when it dies'
worker\t'Does the work'"
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -s d -l daemon -d 'Run in the background, supervised'
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -s D -l debug -d 'Log everything, for finding faults'
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -s v -l verbose -d 'Log more'
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -s 4 -l only-ipv4 -d 'Take knocks over IPv4 only; gates are shut over IPv6 all the same'
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -s l -l lookup -d 'Look up the host names of those who knock, for the log'
complete -c knockd -n "__fish_knockd_using_subcommand teardown" -s h -l help -d 'Print help'
complete -c knockd -n "__fish_knockd_using_subcommand help; and not __fish_seen_subcommand_from check demo setup teardown help" -f -a "check" -d 'Check a policy, and say in words what it does and which ports the site\'s border must let through'
complete -c knockd -n "__fish_knockd_using_subcommand help; and not __fish_seen_subcommand_from check demo setup teardown help" -f -a "demo" -d 'Show the main job at work, in throw-away network namespaces'
complete -c knockd -n "__fish_knockd_using_subcommand help; and not __fish_seen_subcommand_from check demo setup teardown help" -f -a "setup" -d 'Install the rules and end; does nothing while a daemon runs'
complete -c knockd -n "__fish_knockd_using_subcommand help; and not __fish_seen_subcommand_from check demo setup teardown help" -f -a "teardown" -d 'Remove every rule of ours; a running daemon does it, and ends'
complete -c knockd -n "__fish_knockd_using_subcommand help; and not __fish_seen_subcommand_from check demo setup teardown help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
