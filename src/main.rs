//! The service's program.

/// glibc's own spends a seventh of the time of a busy DHCP server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    bootjackd::cli::main()
}
