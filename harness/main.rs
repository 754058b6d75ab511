//! The `mixarena` binary.

fn main() {
    harness::main_with(harness::Registry::default())
}
