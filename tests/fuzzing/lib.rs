//! Damaged input for parsers: valid bytes with a few [`Edit`]s, and the law that every parser keeps on them.
//!
//! A parser given any bytes returns a value or an error. It does not panic, it does not go on for ever, and it allocates no more
//! than a constant and a multiple of what it was given. [`Target::run`] tries that on many inputs, drawn by proptest, and shrinks
//! the edits of one that fails. Inputs are the same on every run and machine.
//!
//! ```ignore
//! #[cfg(test)]
//! #[global_allocator]
//! static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;   // once in a test binary; without it, memory is not measured
//!
//! #[test]
//! fn any_bytes_are_read_or_refused() {
//!     Target::new("records", [VALID]).run(|bytes| drop(parse(bytes)));
//! }
//! ```
//! `MIXARENA_FUZZ=1000000` tries that many inputs on every target in place of the few of a usual test run, and
//! `MIXARENA_FUZZ_SEED=7` draws others.

mod edit;
mod memory;

pub use edit::{Edit, apply, edits};
pub use memory::{Counting, Peak, peak_of};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// Inputs that a target is tried on in a usual test run.
const USUAL: u32 = 256;

/// Bytes a parser may hold whatever its input: buffers, tables of a decompressor, a count of every character there is, messages.
const CONSTANT: u64 = 16 << 20;

/// Bytes a parser may hold for each byte of its input.
const FACTOR: u64 = 64;

/// Seconds after which one input counts as never ending. Inputs of a few kilobytes take milliseconds: this is no
/// bound on speed, only what ends a test that would not end.
const NEVER: u64 = 120;

/// One parser with what is valid for it, and the bounds it keeps.
#[derive(Clone, Debug)]
pub struct Target {
    name: String,
    valid: Vec<Vec<u8>>,
    usual: u32,
    constant: u64,
    factor: u64,
    mended: Option<fn(&mut Vec<u8>)>,
}

/// What a target's inputs came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tried {
    /// Inputs.
    pub inputs: u64,
    /// Most bytes that one input made the parser hold at once; 0 without [`Counting`].
    pub peak: u64,
}

impl Target {
    /// A parser called `name`, and inputs that it accepts.
    ///
    /// # Panics
    /// Without an input.
    pub fn new<B: Into<Vec<u8>>>(name: &str, valid: impl IntoIterator<Item = B>) -> Self {
        let valid: Vec<Vec<u8>> = valid.into_iter().map(Into::into).collect();
        assert!(!valid.is_empty(), "`{name}` needs a valid input to change");
        Self { name: name.into(), valid, usual: USUAL, constant: CONSTANT, factor: FACTOR, mended: None }
    }

    /// Inputs of a usual test run, for a parser that is slow.
    pub fn usual(mut self, inputs: u32) -> Self {
        self.usual = inputs;
        self
    }

    /// The parser may hold `constant` bytes and `factor` times its input.
    pub fn may_hold(mut self, constant: u64, factor: u64) -> Self {
        (self.constant, self.factor) = (constant, factor);
        self
    }

    /// Mends what would end every changed input at once, such as a checksum; every other input stays as it was damaged.
    pub fn mended(mut self, mend: fn(&mut Vec<u8>)) -> Self {
        self.mended = Some(mend);
        self
    }

    /// Tries `parse` on every valid input, which it may not find wrong, and on changed ones, and prints how many there were.
    ///
    /// # Panics
    /// With the smallest edits found that make `parse` panic, hold too much or never end.
    #[track_caller]
    pub fn run(&self, parse: impl Fn(&[u8])) -> Tried {
        let most = Cell::new(Tried::default());
        let held_to = |input: &[u8]| -> Result<(), String> {
            let _watch = Watch::begin(&self.name, input);
            let (ended, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| parse(input))));
            most.set(Tried { inputs: most.get().inputs + 1, peak: most.get().peak.max(peak.bytes) });
            let allowed = self.constant + self.factor * input.len() as u64;
            match ended {
                Err(panic) => Err(format!("panics: {}", said(&*panic))),
                Ok(()) if peak.bytes > allowed => {
                    Err(format!("holds {} bytes for {} bytes of input, above {allowed}", peak.bytes, input.len()))
                }
                Ok(()) => Ok(()),
            }
        };
        for valid in &self.valid {
            held_to(valid).unwrap_or_else(|why| panic!("`{}` on a valid input {why}", self.name));
        }
        let cases = number("MIXARENA_FUZZ").map_or(self.usual, |n| u32::try_from(n).unwrap_or(u32::MAX));
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number("MIXARENA_FUZZ_SEED").unwrap_or(0).to_le_bytes());
        for (slot, byte) in seed[8..].iter_mut().zip(self.name.bytes()) {
            *slot = byte;
        }
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let drawn = (0..self.valid.len(), edits(), any::<bool>());
        let input = |(which, edits, mended): &(usize, Vec<Edit>, bool)| {
            let mut bytes = apply(&self.valid[*which], edits);
            if let (true, Some(mend)) = (*mended, self.mended) {
                mend(&mut bytes);
            }
            bytes
        };
        let result = runner.run(&drawn, |case| held_to(&input(&case)).map_err(TestCaseError::fail));
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, case)) => {
                let bytes = input(&case);
                let shown: String =
                    bytes.iter().take(2000).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
                panic!("`{}` {why}\nafter {case:?}\non {} bytes: {shown}", self.name, bytes.len());
            }
            Err(TestError::Abort(why)) => panic!("`{}`: {why}", self.name),
        }
        let tried = most.get();
        println!("{}: {} inputs, at most {} kB held", self.name, tried.inputs, tried.peak.div_ceil(1000));
        tried
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.replace('_', "").parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, not a whole number")))
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_else(|| "?".into())
}

/// Ends the process where an input never ends: nothing else could.
struct Watch;

/// An input at work.
struct Watched {
    thread: ThreadId,
    name: String,
    input: Vec<u8>,
    seconds: u64,
}

static WATCHED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());

fn watched() -> MutexGuard<'static, Vec<Watched>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    fn begin(name: &str, input: &[u8]) -> Self {
        static WATCHER: Once = Once::new();
        WATCHER.call_once(|| {
            std::thread::spawn(|| {
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                    for at_work in watched().iter_mut() {
                        at_work.seconds += 1;
                        if at_work.seconds > NEVER {
                            eprintln!("`{}` does not end on {}", at_work.name, at_work.input.escape_ascii());
                            std::process::abort();
                        }
                    }
                }
            });
        });
        let thread = std::thread::current().id();
        watched().push(Watched { thread, name: name.into(), input: input.into(), seconds: 0 });
        Self
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let thread = std::thread::current().id();
        watched().retain(|at_work| at_work.thread != thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    /// Reads `LENGTH:content`, as netstrings are written, with a fault each.
    fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
        let colon = bytes.iter().position(|&byte| byte == b':')?;
        let digits = str::from_utf8(&bytes[..colon]).ok()?;
        Some((digits.parse().ok()?, &bytes[colon + 1..]))
    }

    fn fails(parse: impl Fn(&[u8])) -> String {
        let target = Target::new("netstring", ["5:hello", "0:"]).usual(4000).may_hold(1 << 20, 8);
        let ended = catch_unwind(AssertUnwindSafe(|| target.run(parse)));
        ended.map_or_else(|panic| said(&*panic), |tried| format!("{} inputs", tried.inputs))
    }

    #[test]
    fn a_parser_that_keeps_the_law_passes_and_one_that_trusts_a_length_does_not() {
        let careful = |bytes: &[u8]| {
            let Some((length, rest)) = length(bytes) else { return };
            let _ = rest.get(..length).map(<[u8]>::to_vec);
        };
        assert_eq!(fails(careful), "4002 inputs");
        let slicing = fails(|bytes| drop(length(bytes).map(|(length, rest)| rest[..length].to_vec())));
        assert!(slicing.contains("panics: range end index"), "{slicing}");
        let trusting = fails(|bytes| {
            let most = 1 << 28; // what the machine surely has
            drop(length(bytes).map(|(length, _)| Vec::<u8>::with_capacity(length.min(most))));
        });
        assert!(trusting.contains("holds") && trusting.contains("bytes of input"), "{trusting}");
    }

    #[test]
    fn a_failing_input_is_reduced_to_few_edits() {
        let said = fails(|bytes| assert!(!bytes.contains(&b'9'), "a nine"));
        let after = said.lines().find(|line| line.starts_with("after")).unwrap();
        assert!(said.contains("panics: a nine") && after.matches('{').count() <= 1, "{said}");
    }
}
