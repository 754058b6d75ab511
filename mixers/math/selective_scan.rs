//! The selective scan of S6: a state of d_state numbers a channel, whose steps, inputs and outputs depend on the token.
//!
//! ```text
//! h_t[d,n] = exp(dt_t[d] A[d,n]) h_{t-1}[d,n] + dt_t[d] x_t[d] B_t[n],   y_t[d] = Σ_n C_t[n] h_t[d,n]
//! ```
//! x, dt and y are `[batch, length, channels]`, A is `[channels, d_state]` and at most 0, B and C are `[batch, length, d_state]`.
//!
//! After    Gu & Dao 2023, arXiv:2312.00752, §3.2 (the recurrence), §3.3.2 (what is kept, what is computed again)
//! Time     O(length · channels · d_state) on a CPU, one position after another: a few channels at a time, whose states stay in the first
//!          cache. Elsewhere a scan in ⌈log₂ length⌉ passes over all states
//! Memory   nothing but the inputs is kept for the backward; while it runs, O(√length · d_state) a thread for states computed again
//!
//! The backward, with G the gradient of h_t from everything that reads it and e = exp(dt A), all of channel d and state n:
//!
//! ```text
//! G += C[n] dy[d];   dC[n] = Σ_d dy h,   dB[n] = Σ_d G dt x,   du = Σ_n G B[n],   dx = dt du
//! ddt = x du + Σ_n G h_{t-1} e A,   dA = Σ_t G h_{t-1} e dt,   then  G ← e G
//! ```

use crate::math::diagonal_scan;
use crate::math::real::{Real, by_kind, product};
use crate::native::kernels::native_for;
use crate::native::{Backward, Shared, attach, elements, elements_mut, parallel_for, recompute, worked};
use multiversion::multiversion;
use tch::Tensor;

/// Channels that go through the sequence together.
const TILE: usize = 16;
/// Parts of the channels whose shares of dB and dC are kept apart until the end.
const PARTS: usize = 4;

/// y, from x, dt, A, B and C.
///
/// # Panics
/// If shapes do not fit each other.
pub fn scan(inputs: [&Tensor; 5]) -> Tensor {
    struct Op;

    impl Backward for Op {
        fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            let Some(grad) = &grads[0] else { return saved.iter().map(|_| None).collect() };
            let saved = std::array::from_fn(|i| &saved[i]);
            by_kind!(grad.kind(), backward(saved, grad)).map(Some).into()
        }
    }

    if !native_for(inputs[0]) {
        return recompute(|inputs| doubled(std::array::from_fn(|i| &inputs[i])), &inputs);
    }
    let y = tch::no_grad(|| by_kind!(inputs[0].kind(), forward(inputs)));
    attach(Op, &inputs, &[&y], &inputs);
    y
}

/// What a state decays by and what it is fed, each `[batch, length, channels, d_state]`.
pub(crate) fn decay_and_feed([x, dt, a, b, _]: [&Tensor; 5]) -> [Tensor; 2] {
    [(dt.unsqueeze(-1) * a).exp(), (x * dt).unsqueeze(-1) * b.unsqueeze(2)]
}

/// The scan from operations on all states at once, on any device.
fn doubled(inputs: [&Tensor; 5]) -> Tensor {
    let [decay, feed] = decay_and_feed(inputs);
    let flat = |t: &Tensor| t.flatten(2, 3);
    let start = flat(&feed).select(1, 0).zeros_like();
    let h = diagonal_scan::real(&flat(&decay), &flat(&feed), &start).view_as(&feed);
    h.matmul(&inputs[4].unsqueeze(-1)).squeeze_dim(-1)
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    length: usize,
    channels: usize,
    d_state: usize,
}

impl Sizes {
    fn of([x, dt, a, b, c]: [&Tensor; 5]) -> Self {
        let [batch, length, channels] = x.size3().expect("x is [batch, length, channels]").into();
        let d_state = a.size()[1];
        let maps = [b, c].iter().all(|t| t.size() == [batch, length, d_state]);
        let fits = dt.size() == x.size() && a.size() == [channels, d_state] && maps;
        assert!(fits, "selective_scan: {x:?}, {dt:?}, {a:?}, {b:?}, {c:?}");
        let [batch, length, channels, d_state] = [batch, length, channels, d_state].map(|n| n as usize);
        Self { batch, length, channels, d_state }
    }

    fn tiles(&self) -> usize {
        self.channels.div_ceil(TILE)
    }

    /// Where `width` numbers of position `t` of a row of the batch lie.
    #[inline(always)]
    fn at(&self, row: usize, t: usize, width: usize) -> usize {
        (row * self.length + t) * width
    }

    /// A multiply-add a state for each product.
    fn work(&self, products: usize) {
        worked(2.0 * (products * self.batch * self.length * self.channels * self.d_state) as f64);
    }
}

/// A few channels of one row of the batch.
#[derive(Clone, Copy)]
struct Tile<'a, T> {
    /// x, dt, A, B and C.
    tensors: [&'a [T]; 5],
    sizes: Sizes,
    row: usize,
    /// First channel.
    from: usize,
}

impl<'a, T: Real> Tile<'a, T> {
    /// Channels that there are of the tile's.
    fn count(&self) -> usize {
        TILE.min(self.sizes.channels - self.from)
    }

    /// Of the tile's channels at position `t`, zeros past the last.
    #[inline(always)]
    fn channels(&self, of: &[T], t: usize) -> [T; TILE] {
        let n = self.count();
        let mut found = [T::ZERO; TILE];
        found[..n].copy_from_slice(&of[self.sizes.at(self.row, t, self.sizes.channels) + self.from..][..n]);
        found
    }

    /// x, dt and their product.
    #[inline(always)]
    fn read(&self, t: usize) -> [[T; TILE]; 3] {
        let (x, dt) = (self.channels(self.tensors[0], t), self.channels(self.tensors[1], t));
        let mut fed = [T::ZERO; TILE];
        for j in 0..TILE {
            fed[j] = x[j] * dt[j];
        }
        [x, dt, fed]
    }

    /// B or C at position `t`.
    #[inline(always)]
    fn states(&self, i: usize, t: usize) -> &'a [T] {
        let of: &'a [T] = self.tensors[i];
        &of[self.sizes.at(self.row, t, self.sizes.d_state)..][..self.sizes.d_state]
    }

    /// A, channels side by side.
    fn rates(&self) -> Vec<[T; TILE]> {
        let n = self.count();
        let rate = |state: usize| {
            let mut found = [T::ZERO; TILE];
            for (j, found) in found[..n].iter_mut().enumerate() {
                *found = self.tensors[2][(self.from + j) * self.sizes.d_state + state];
            }
            found
        };
        (0..self.sizes.d_state).map(rate).collect()
    }
}

/// The states after a position and what they decayed by, from those before.
#[inline(always)]
fn advance<T: Real>(
    next: &mut [[T; TILE]],
    decays: &mut [[T; TILE]],
    h: &[[T; TILE]],
    rates: &[[T; TILE]],
    (dt, fed, b): (&[T; TILE], &[T; TILE], &[T]),
) {
    for (n, ((next, decay), h)) in next.iter_mut().zip(decays).zip(h).enumerate() {
        for j in 0..TILE {
            decay[j] = (dt[j] * rates[n][j]).exp();
            next[j] = decay[j] * h[j] + fed[j] * b[n];
        }
    }
}

fn forward<T: Real>(inputs: [&Tensor; 5]) -> Tensor {
    let sizes = Sizes::of(inputs);
    let packed = inputs.map(|t| t.detach().contiguous());
    let tensors = packed.each_ref().map(|t| elements::<T>(t));
    let mut y = packed[0].empty_like();
    let out = Shared::new(elements_mut::<T>(&mut y));
    parallel_for(sizes.batch * sizes.tiles(), 1, |pieces| {
        for piece in pieces {
            let (row, from) = (piece / sizes.tiles(), piece % sizes.tiles() * TILE);
            forward_tile(Tile { tensors, sizes, row, from }, &out);
        }
    });
    sizes.work(2);
    y
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn forward_tile<T: Real>(tile: Tile<'_, T>, out: &Shared<T>) {
    let (sizes, rates, n) = (tile.sizes, tile.rates(), tile.count());
    let mut h = vec![[T::ZERO; TILE]; sizes.d_state];
    let (mut next, mut decays) = (h.clone(), h.clone());
    for t in 0..sizes.length {
        let [_, dt, fed] = tile.read(t);
        advance(&mut next, &mut decays, &h, &rates, (&dt, &fed, tile.states(3, t)));
        std::mem::swap(&mut next, &mut h);
        let mut y = [T::ZERO; TILE];
        for (h, c) in h.iter().zip(tile.states(4, t)) {
            for j in 0..TILE {
                y[j] += *c * h[j];
            }
        }
        // SAFETY: rows, tiles and positions do not overlap, and the tensor is alive and read by nobody else.
        unsafe { out.part(sizes.at(tile.row, t, sizes.channels) + tile.from, n) }.copy_from_slice(&y[..n]);
    }
}

/// Gradients of x, dt, A, B and C.
fn backward<T: Real>(inputs: [&Tensor; 5], grad: &Tensor) -> [Tensor; 5] {
    let sizes = Sizes::of(inputs);
    let packed = inputs.map(|t| t.detach().contiguous());
    let tensors = packed.each_ref().map(|t| elements::<T>(t));
    let grad = grad.contiguous();
    let grad = elements::<T>(&grad);
    let (batch, length, d_state) = (sizes.batch as i64, sizes.length as i64, sizes.d_state as i64);
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (T::KIND, packed[0].device()));
    let parts = PARTS.min(sizes.tiles());
    let shares = [parts as i64, batch, length, d_state];
    let mut found = [
        packed[0].empty_like(),
        packed[0].empty_like(),
        zeros(&[batch, sizes.channels as i64, d_state]),
        zeros(&shares),
        zeros(&shares),
    ];
    let into = found.each_mut().map(|t| Shared::new(elements_mut::<T>(t)));
    parallel_for(sizes.batch * parts, 1, |pieces| {
        for piece in pieces {
            let (row, part) = (piece / parts, piece % parts);
            for from in (part * TILE..sizes.channels).step_by(parts * TILE) {
                backward_tile(Tile { tensors, sizes, row, from }, part, grad, &into);
            }
        }
    });
    sizes.work(9);
    let [x, dt, a, b, c] = found;
    let sum = |t: Tensor| t.sum_dim_intlist([0].as_slice(), false, T::KIND);
    [x, dt, sum(a), sum(b), sum(c)]
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn backward_tile<T: Real>(tile: Tile<'_, T>, part: usize, grad: &[T], into: &[Shared<T>; 5]) {
    let (sizes, rates, d_state) = (tile.sizes, tile.rates(), tile.sizes.d_state);
    let chunk = sizes.length.isqrt().max(8).min(sizes.length);
    // The states before each chunk.
    let mut starts = vec![[T::ZERO; TILE]; sizes.length.div_ceil(chunk) * d_state];
    let mut h = vec![[T::ZERO; TILE]; d_state];
    let (mut next, mut decays) = (h.clone(), vec![[T::ZERO; TILE]; chunk * d_state]);
    for t in 0..sizes.length {
        if t % chunk == 0 {
            starts[t / chunk * d_state..][..d_state].copy_from_slice(&h);
        }
        let [_, dt, fed] = tile.read(t);
        advance(&mut next, &mut decays[..d_state], &h, &rates, (&dt, &fed, tile.states(3, t)));
        std::mem::swap(&mut next, &mut h);
    }
    // The states before and after each position of one chunk.
    let mut states = vec![[T::ZERO; TILE]; (chunk + 1) * d_state];
    let mut of_rates = vec![[T::ZERO; TILE]; d_state];
    let mut g = vec![[T::ZERO; TILE]; d_state];
    for (i, start) in starts.chunks_exact(d_state).enumerate().rev() {
        let (first, end) = (i * chunk, ((i + 1) * chunk).min(sizes.length));
        states[..d_state].copy_from_slice(start);
        for t in first..end {
            let [_, dt, fed] = tile.read(t);
            let (before, after) = states[(t - first) * d_state..].split_at_mut(d_state);
            let decays = &mut decays[(t - first) * d_state..][..d_state];
            advance(&mut after[..d_state], decays, before, &rates, (&dt, &fed, tile.states(3, t)));
        }
        for t in (first..end).rev() {
            let around = &states[(t - first) * d_state..][..2 * d_state];
            let decays = &decays[(t - first) * d_state..][..d_state];
            back(tile, t, (part, grad), around, decays, &rates, (&mut g, &mut of_rates), into);
        }
    }
    // SAFETY: rows and tiles do not overlap, and the tensor is alive and read by nobody else.
    let of_a = unsafe { into[2].part((tile.row * sizes.channels + tile.from) * d_state, tile.count() * d_state) };
    for (j, of_a) in of_a.chunks_exact_mut(d_state).enumerate() {
        for (of_a, of_rates) in of_a.iter_mut().zip(&of_rates) {
            *of_a = of_rates[j];
        }
    }
}

/// One position: `around` holds the states before it and after it.
#[expect(clippy::too_many_arguments, reason = "what one position reads and writes")]
#[inline(always)]
fn back<T: Real>(
    tile: Tile<'_, T>,
    t: usize,
    (part, grad): (usize, &[T]),
    around: &[[T; TILE]],
    decays: &[[T; TILE]],
    rates: &[[T; TILE]],
    (g, of_rates): (&mut [[T; TILE]], &mut [[T; TILE]]),
    into: &[Shared<T>; 5],
) {
    let (sizes, d_state) = (tile.sizes, tile.sizes.d_state);
    let (before, after) = around.split_at(d_state);
    let ([x, dt, fed], dy) = (tile.read(t), tile.channels(grad, t));
    let (b, c) = (tile.states(3, t), tile.states(4, t));
    let share = sizes.at(part * sizes.batch + tile.row, t, d_state);
    // SAFETY: rows, parts and positions do not overlap, and the tensors are alive and read by nobody else.
    let (of_b, of_c) = unsafe { (into[3].part(share, d_state), into[4].part(share, d_state)) };
    let (mut of_fed, mut of_dt) = ([T::ZERO; TILE], [T::ZERO; TILE]);
    for n in 0..d_state {
        let mut written = [T::ZERO; TILE];
        for j in 0..TILE {
            let here = g[n][j] + c[n] * dy[j];
            written[j] = here;
            of_fed[j] += here * b[n];
            let kept = here * decays[n][j];
            let of_exponent = kept * before[n][j];
            of_dt[j] += of_exponent * rates[n][j];
            of_rates[n][j] += of_exponent * dt[j];
            g[n][j] = kept;
        }
        of_b[n] += product(&written, &fed);
        of_c[n] += product(&dy, &after[n]);
    }
    for j in 0..TILE {
        of_dt[j] += of_fed[j] * x[j];
        of_fed[j] = of_fed[j] * dt[j];
    }
    let (at, n) = (sizes.at(tile.row, t, sizes.channels) + tile.from, tile.count());
    // SAFETY: as above.
    unsafe {
        into[0].part(at, n).copy_from_slice(&of_fed[..n]);
        into[1].part(at, n).copy_from_slice(&of_dt[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{assert_twins, noise};
    use tch::{Device, Kind};

    #[test]
    fn the_kernel_and_the_doubled_form_are_the_recurrence_in_values_and_gradients() {
        for (length, channels, d_state) in [(1, 1, 1), (2, 3, 4), (17, 16, 2), (40, 35, 3), (70, 90, 1)] {
            let leaf = |shape: &[i64], salt| noise(shape, salt).set_requires_grad(true);
            let x = leaf(&[2, length, channels], 1);
            let dt = (noise(&[2, length, channels], 2) + 1.1).set_requires_grad(true);
            let a = (noise(&[channels, d_state], 3) * 2.0 - 2.1).set_requires_grad(true);
            let [b, c] = [4, 5].map(|salt| leaf(&[2, length, d_state], salt));
            let leaves = [&x, &dt, &a, &b, &c];
            let slow = || {
                let mut h = Tensor::zeros([2, channels, d_state], (Kind::Double, Device::Cpu));
                let mut outputs = Vec::new();
                for t in 0..length {
                    let dt = dt.select(1, t).unsqueeze(-1);
                    h = (&dt * &a).exp() * h + dt * x.select(1, t).unsqueeze(-1) * b.select(1, t).unsqueeze(1);
                    let read = &h * c.select(1, t).unsqueeze(1);
                    outputs.push(read.sum_dim_intlist([-1].as_slice(), false, Kind::Double));
                }
                Tensor::stack(&outputs, 1)
            };
            let case = format!("length {length}, {channels} channels of {d_state}");
            assert_twins(&scan(leaves), &slow(), &leaves, 1e-11, &format!("kernel, {case}"));
            assert_twins(&doubled(leaves), &slow(), &leaves, 1e-11, &format!("doubled, {case}"));
        }
    }

    /// Steps so large that nothing is kept, in float32: no gradient is strange.
    #[test]
    fn the_strongest_decay_forgets_everything() {
        let [x, b, c] = [1, 2, 3].map(|salt| noise(&[2, 30, 4], salt).to_kind(Kind::Float).set_requires_grad(true));
        let dt = Tensor::full([2, 30, 4], 50.0, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let a = Tensor::full([4, 4], -3000.0, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let y = scan([&x, &dt, &a, &b, &c]);
        let want = (&x * &dt) * (&b * &c).sum_dim_intlist([-1].as_slice(), true, Kind::Float);
        assert!(y.allclose(&want, 1e-4, 1e-4, false));
        for gradient in Tensor::run_backward(&[y.square().sum(Kind::Float)], &[&x, &dt, &a, &b, &c], false, false) {
            assert_eq!(gradient.isfinite().all().int64_value(&[]), 1);
        }
    }
}
