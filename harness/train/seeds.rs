//! Seeds for libtorch's generator, one per purpose and step, so that a resumed run draws what an uninterrupted one draws.

/// What randomness is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial parameter values: 0 for the model, 1 for what pretraining adds.
    Init,
    /// Dropout masks of one training step.
    Dropout,
    /// The same while pretraining.
    PretrainDropout,
}

/// Reseeds libtorch for `purpose` at `step` of the run with `seed`.
pub fn reseed(seed: u64, purpose: Purpose, step: u64) {
    reseed_by(&format!("{purpose:?} {seed} {step}"));
}

/// The same for a place within the step: its part, and the layer in it.
pub fn reseed_within(seed: u64, purpose: Purpose, step: u64, place: &[u64]) {
    let place: Vec<String> = place.iter().map(u64::to_string).collect();
    reseed_by(&format!("{purpose:?} {seed} {step} {}", place.join(" ")));
}

fn reseed_by(text: &str) {
    let hash = blake3::hash(text.as_bytes());
    let bytes: [u8; 8] = hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
    // libtorch takes a signed seed; the top bit is dropped to keep it positive.
    tch::manual_seed((u64::from_le_bytes(bytes) >> 1) as i64);
}
