//! Controls knockd.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    portcullis::knockctl::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("knockctl: this program is for Linux, where knockd runs");
    std::process::ExitCode::FAILURE
}
