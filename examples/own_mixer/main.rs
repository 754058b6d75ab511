//! The command line of Mixarena with one mixer more: `cargo run -p own_mixer -- list mixers ema`.

fn main() -> std::process::ExitCode {
    let mut registry = harness::Registry::default();
    registry.mixers.push(mixers::Entry::of::<own_mixer::Config>());
    harness::main_with(registry)
}
