//! The daemon.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    portcullis::knockd::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("knockd: this program is for Linux; the client, knock, runs here too");
    std::process::ExitCode::FAILURE
}
