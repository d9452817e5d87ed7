//! The command line: parses arguments and calls [`mss_scheduler::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mss_scheduler::cli::main()
}
