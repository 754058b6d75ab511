//! Random streams whose values never change: not with the machine, the thread count, or the order of calls.
//!
//! ```text
//! key    = blake3(context; purpose, 0, seed, index)      one key for each (seed, purpose, index)
//! stream = ChaCha8(key)
//! ```
//! Every draw is made of whole 64-bit words and integer arithmetic, so no rounding of a platform's maths library can
//! move it. The pinned values in the tests are part of a task's version: if one changes, so does every record.

use crate::Split;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a stream is for: a key of words, such as `mqar/train`. Streams of different keys never share a word. A task's key is its
/// own ([`crate::Family::STREAM`]); those of what all tasks share are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Purpose {
    key: &'static str,
    split: Option<Split>,
}

impl Purpose {
    /// The order of a training epoch; the index is the epoch.
    pub const EPOCH: Self = Self::new("epoch");
    /// The order of an epoch's batches where a split has several subsets; the index is the epoch.
    pub const EPOCH_BATCHES: Self = Self::new("epoch/batches");
    /// The order within one of several subsets; the index is the epoch and the subset.
    pub const EPOCH_SECTION: Self = Self::new("epoch/section");
    /// Which examples of a class are used, and which of them validate; the index is the class.
    pub const SUBSET: Self = Self::new("subset");
    /// The guesses behind a task's floor; the index is the example's.
    pub const GUESS: Self = Self::new("guess");
    /// The positions that self-pretraining masks; the index is the step.
    pub const MASK: Self = Self::new("mask");
    /// The values of a random axis of a config; the index is that of the setting.
    pub const AXIS: Self = Self::new("axis");

    /// Every key that is not a task's.
    pub const SHARED: [Self; 7] =
        [Self::EPOCH, Self::EPOCH_BATCHES, Self::EPOCH_SECTION, Self::SUBSET, Self::GUESS, Self::MASK, Self::AXIS];

    /// What `key` names.
    pub const fn new(key: &'static str) -> Self {
        Self { key, split: None }
    }

    /// The examples of a split: `key/train`.
    pub const fn of_split(key: &'static str, split: Split) -> Self {
        Self { key, split: Some(split) }
    }

    /// Calls `add` with the bytes that enter the hash.
    fn bytes(self, mut add: impl FnMut(&[u8])) {
        add(self.key.as_bytes());
        if let Some(split) = self.split {
            add(b"/");
            add(split.name().as_bytes());
        }
    }
}

/// A stream of random words.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of (seed, purpose, index), at its beginning.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"mixarena random stream 1\0");
        purpose.bytes(|bytes| _ = hasher.update(bytes));
        hasher.update(b"\0").update(&seed.to_le_bytes()).update(&index.to_le_bytes());
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// Sixty-four random bits.
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `0 .. n`, without bias (Lemire 2019, arXiv:1805.10941, algorithm 5).
    ///
    /// # Panics
    /// When `n` is 0: there is nothing to draw.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a draw below 0");
        let mut product = u128::from(self.word()) * u128::from(n);
        if (product as u64) < n {
            let biased = n.wrapping_neg() % n; // 2^64 mod n: this many low words would come once too often
            while (product as u64) < biased {
                product = u128::from(self.word()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958), by arithmetic that is the same on every machine.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.unit())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    /// Uniform from `low` to `high`: low + (high - low) u.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Its logarithm is uniform from that of `low` to that of `high`, both above 0; the same on every machine.
    pub fn log_between(&mut self, low: f64, high: f64) -> f64 {
        libm::exp(self.between(libm::log(low), libm::log(high)))
    }

    /// True with probability `share`.
    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Puts `values` in random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for i in (1..values.len()).rev() {
            values.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    /// An index drawn with probability `weights[i] / total`, where `total` is their sum. Weights are integers so that
    /// the draw is exact.
    ///
    /// # Panics
    /// When `total` is 0 or is more than the sum.
    pub fn weighted(&mut self, weights: &[u64], total: u64) -> usize {
        let mut left = self.below(total);
        weights
            .iter()
            .position(|&weight| {
                let here = left < weight;
                left = left.wrapping_sub(weight);
                here
            })
            .expect("total is the sum of the weights")
    }

    /// `k` different values of `0 .. n` in random order. Few out of many: each is drawn until it is new. Otherwise: the
    /// first `k` steps of a Fisher–Yates shuffle.
    ///
    /// # Panics
    /// When `k` is more than `n`.
    pub fn distinct(&mut self, k: usize, n: usize) -> Vec<i64> {
        assert!(k <= n, "{k} different values out of {n}");
        if n / 16 >= k {
            let mut values = Vec::with_capacity(k);
            while values.len() < k {
                let value = self.below(n as u64) as i64;
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            return values;
        }
        let mut values: Vec<i64> = (0..n as i64).collect();
        for i in 0..k {
            let j = i + self.below((n - i) as u64) as usize;
            values.swap(i, j);
        }
        values.truncate(k);
        values
    }
}

/// The split that owns `input`, by its hash: 8 of 10 inputs are for training, 1 validates, 1 tests. A generator that draws until
/// the owner is the split it draws for makes splits that share no input, without keeping a list.
pub fn owner(input: &[i64], data_seed: u64) -> Split {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"mixarena owner 1\0").update(&data_seed.to_le_bytes());
    input.iter().for_each(|token| _ = hasher.update(&token.to_le_bytes()));
    let word = hasher.finalize().as_bytes()[..8].try_into().map_or(0, u64::from_le_bytes);
    match word % 10 {
        0 => Split::Validation,
        1 => Split::Test,
        _ => Split::Train,
    }
}

/// Feistel rounds. Three suffice for large domains (Luby and Rackoff 1988); small ones need more, and they cost little.
const ROUNDS: usize = 8;

/// A random permutation of `0 .. n` read in any order, without storing it.
///
/// ```text
/// x = (l, r), a low and a high half of the bits of n - 1
/// even rounds: l ^= F(key, r)     odd rounds: r ^= F(key, l)     repeat while x >= n
/// ```
/// An alternating, unbalanced Feistel network is a permutation of `0 .. 2^bits`; walking along its cycles until the value
/// falls below `n` restricts it to `0 .. n`, in fewer than two walks on average because `2^bits < 2 n`.
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    low_bits: u32,
    high_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of (seed, purpose, epoch). Cheap: one hash and one block of ChaCha.
    pub fn new(n: u64, seed: u64, purpose: Purpose, epoch: u64) -> Self {
        let mut stream = Stream::new(seed, purpose, epoch);
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let keys = std::array::from_fn(|_| stream.word());
        Self { n, low_bits: bits / 2, high_bits: bits - bits / 2, keys }
    }

    /// Where `i` goes.
    ///
    /// # Panics
    /// When `i` is not below `n`.
    pub fn at(&self, i: u64) -> u64 {
        assert!(i < self.n, "position {i} of a permutation of {}", self.n);
        let mut x = self.network(i);
        while x >= self.n {
            x = self.network(x);
        }
        x
    }

    /// One pass through the network: a permutation of `0 .. 2^bits`.
    fn network(&self, x: u64) -> u64 {
        let (low_mask, high_mask) = (mask(self.low_bits), mask(self.high_bits));
        let (mut low, mut high) = (x & low_mask, x >> self.low_bits);
        for keys in self.keys.chunks_exact(2) {
            low ^= mix(keys[0] ^ high) & low_mask;
            high ^= mix(keys[1] ^ low) & high_mask;
        }
        high << self.low_bits | low
    }
}

/// The low `bits` bits; `bits` is at most 32.
const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// The finisher of SplitMix64 (Steele et al. 2014): every input bit moves every output bit.
const fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(index: u64) -> Stream {
        Stream::new(7, Purpose::GUESS, index)
    }

    #[test]
    fn pinned_values_have_not_moved() {
        let mut words = Stream::new(1, Purpose::EPOCH, 2);
        assert_eq!([words.word(), words.word()], [17_376_081_152_870_657_103, 926_057_790_505_647_516]);
        let mut draws = Stream::new(0, Purpose::of_split("mqar", Split::Test), 5);
        assert_eq!([(); 6].map(|()| draws.below(1000)), [942, 304, 328, 345, 949, 129]);
        let order = Permutation::new(10, 3, Purpose::EPOCH, 0);
        assert_eq!((0..10).map(|i| order.at(i)).collect::<Vec<_>>(), [6, 5, 4, 0, 7, 3, 9, 1, 2, 8]);
    }

    #[test]
    fn normal_draws_are_pinned_and_normal() {
        let mut stream = stream(0);
        let draws: Vec<f64> = (0..100_000).map(|_| stream.normal()).collect();
        let mean = |power: i32| draws.iter().map(|x| x.powi(power)).sum::<f64>() / draws.len() as f64;
        for (power, want, within) in [(1, 0.0, 0.013), (2, 1.0, 0.02), (3, 0.0, 0.05), (4, 3.0, 0.12)] {
            assert!((mean(power) - want).abs() < within, "moment {power} is {}", mean(power));
        }
    }

    #[test]
    fn one_input_in_ten_validates_and_one_tests() {
        let owned = |split| (0..10_000_i64).filter(|&i| owner(&[i, i + 1], 3) == split).count();
        assert!((900..1100).contains(&owned(Split::Validation)) && (900..1100).contains(&owned(Split::Test)));
        assert_ne!(
            (0..64).map(|i| owner(&[i], 0)).collect::<Vec<_>>(),
            (0..64).map(|i| owner(&[i], 1)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn seed_purpose_and_index_each_change_the_stream() {
        let first = |seed, purpose, index| Stream::new(seed, purpose, index).word();
        let base = first(1, Purpose::GUESS, 1);
        assert_eq!(base, first(1, Purpose::GUESS, 1));
        for other in [first(2, Purpose::GUESS, 1), first(1, Purpose::SUBSET, 1), first(1, Purpose::GUESS, 2)] {
            assert_ne!(base, other);
        }
        let splits = [Split::Train, Split::Validation, Split::Test];
        let words: std::collections::HashSet<u64> = splits
            .iter()
            .flat_map(|&split| {
                let later = [
                    Purpose::of_split("retrieval", split),
                    Purpose::of_split("retrieval label", split),
                    Purpose::of_split("pathfinder", split),
                ];
                let recall = [
                    Purpose::of_split("associative recall", split),
                    Purpose::of_split("induction heads", split),
                    Purpose::of_split("selective copying", split),
                    Purpose::of_split("passkey", split),
                    Purpose::of_split("filler", split),
                ];
                [Purpose::of_split("mqar", split), Purpose::of_split("listops", split)]
                    .into_iter()
                    .chain(later)
                    .chain(recall)
            })
            .map(|purpose| first(0, purpose, 0))
            .collect();
        assert_eq!(words.len(), 30);
    }

    #[test]
    fn draws_below_n_are_uniform() {
        let (mut stream, mut seen) = (stream(0), [0_u32; 6]);
        for _ in 0..60_000 {
            seen[stream.below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count.abs_diff(10_000) < 400), "4 deviations are 365: {seen:?}");
    }

    #[test]
    fn unit_draws_lie_in_the_half_open_interval_with_mean_one_half() {
        let mut stream = stream(1);
        let draws: Vec<f64> = (0..10_000).map(|_| stream.unit()).collect();
        assert!(draws.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = draws.iter().sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.012, "4 deviations are 0.0115: {mean}");
    }

    #[test]
    fn weighted_draws_follow_their_weights_and_never_pick_a_zero() {
        let (mut stream, mut seen) = (stream(2), [0_u32; 4]);
        for _ in 0..60_000 {
            seen[stream.weighted(&[3, 0, 2, 1], 6)] += 1;
        }
        assert_eq!(seen[1], 0);
        assert!(seen.iter().zip([30_000, 0, 20_000, 10_000]).all(|(n, want)| n.abs_diff(want) < 500), "{seen:?}");
    }

    #[test]
    fn distinct_values_are_uniform_at_every_place_whether_few_or_many_are_drawn() {
        for (k, n, draws) in [(2, 40_usize, 80_000_u32), (3, 4, 8_000)] {
            let mut seen = vec![vec![0_u32; n]; k];
            for index in 0..draws {
                let values = stream(u64::from(index)).distinct(k, n);
                values.iter().zip(&mut seen).for_each(|(&value, seen)| seen[value as usize] += 1);
            }
            assert!(seen.iter().flatten().all(|&count| count.abs_diff(2_000) < 220), "{k} of {n}: {seen:?}");
        }
    }

    #[test]
    fn epochs_put_every_item_first_about_equally_often() {
        for n in [2_u64, 3, 5, 10] {
            let mut first = vec![0_u64; n as usize];
            for epoch in 0..2_000 * n {
                first[Permutation::new(n, 11, Purpose::EPOCH, epoch).at(0) as usize] += 1;
            }
            assert!(first.iter().all(|&count| count.abs_diff(2_000) < 200), "n = {n}: {first:?}");
        }
    }

    #[test]
    fn an_empty_permutation_can_be_made_and_a_single_item_stays() {
        assert_eq!(Permutation::new(1, 0, Purpose::EPOCH, 0).at(0), 0);
        let _ = Permutation::new(0, 0, Purpose::EPOCH, 0);
    }

    proptest! {
        #[test]
        fn every_index_is_hit_once(n in 0_u64..3_000, seed in any::<u64>(), epoch in any::<u64>()) {
            let order = Permutation::new(n, seed, Purpose::EPOCH, epoch);
            let mut hit: Vec<u64> = (0..n).map(|i| order.at(i)).collect();
            hit.sort_unstable();
            prop_assert!(hit.into_iter().eq(0..n));
        }

        #[test]
        fn the_largest_domains_stay_inside(n in (u64::MAX - 5)..=u64::MAX, i in 0..u64::MAX - 6, seed in any::<u64>()) {
            prop_assert!(Permutation::new(n, seed, Purpose::EPOCH, 0).at(i) < n);
        }

        #[test]
        fn distinct_values_are_distinct_and_in_range(k in 0_usize..40, spare in 0_usize..1_000, seed in any::<u64>()) {
            let n = k + spare;
            let mut drawn = Stream::new(seed, Purpose::GUESS, 0).distinct(k, n);
            drawn.sort_unstable();
            prop_assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(drawn.iter().all(|&value| (0..n as i64).contains(&value)));
            prop_assert_eq!(drawn.len(), k);
        }
    }
}
