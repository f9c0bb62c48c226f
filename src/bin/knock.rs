//! Knocks on ports of a host.

fn main() -> std::process::ExitCode {
    portcullis::knock::main()
}
