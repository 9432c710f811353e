//! Ieum: the binary.

/// Why not glibc's, with the figures: docs/decisions/view-store.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ieum::main(ieum_core::commands::LEVEL)
}
