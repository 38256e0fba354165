//! The service's program.

fn main() -> std::process::ExitCode {
    bootjackd::cli::main()
}
