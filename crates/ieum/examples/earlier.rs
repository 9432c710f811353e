//! The program as a build of before: its nodes know one level less. For tests of an upgrade.

fn main() -> std::process::ExitCode {
    ieum::main(ieum_core::commands::LEVEL - 1)
}
