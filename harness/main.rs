//! The `mixarena` binary.

fn main() -> std::process::ExitCode {
    harness::main_with(harness::Registry::default())
}
