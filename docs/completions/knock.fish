complete -c knock -s d -l delay -d 'Pause between knocks, in milliseconds [default: 0]' -r
complete -c knock -l open-and-check -d 'Then connect to this port until it answers, knocking again if it does not' -r
complete -c knock -l tries -d 'How often to knock at most before giving up' -r
complete -c knock -l wait -d 'How long to wait for an answer each time, in seconds' -r
complete -c knock -l totp -d 'Knock on the ports that follow from the secret in this file and the time' -r -F
complete -c knock -l totp-ports -d 'Which ports these are among, as in the server\'s policy, such as 20000-40000' -r
complete -c knock -l totp-length -d 'How many they are, as in the server\'s policy' -r
complete -c knock -s u -l udp -d 'Ports without a protocol are UDP instead of TCP'
complete -c knock -s 4 -l ipv4 -d 'Knock (and connect) over IPv4 only'
complete -c knock -s 6 -l ipv6 -d 'Knock (and connect) over IPv6 only'
complete -c knock -s v -l verbose -d 'Say what is sent'
complete -c knock -l proxy -d 'Then connect, and join the connection to standard input and output'
complete -c knock -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knock -s V -l version -d 'Print version'
