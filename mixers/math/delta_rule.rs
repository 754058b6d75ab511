//! The delta rule step by step, for heads so narrow that their state stays in the first cache: from the input of the short convolution
//! to the normalised output, in one node of the graph.
//!
//! ```text
//! q | k | v = SiLU(conv1d(·)),   k = k / ‖k‖,   q = q / ‖q‖,   β = σ(·) or 2 σ(·)
//! e = v - Sᵀ k,   S ← S + k (β e)ᵀ,   o = Sᵀ q / √d_head,   y = RMSNorm(o) · weight               one S a head
//! ```
//! Time     O(length · d_head²) a head; the products of a chunk take `2 (chunk + d_head) / d_head` times as many operations
//! Memory   kept for the backward: the input, and nothing else. A head's rows are made again there, with S every `BLOCK` tokens, and within
//!          such a block S after every step
//!
//! The second direction takes each row from the end of its valid part: it reads and writes at its own positions, nothing is turned. The
//! plain twin is the chunked form of `deltanet.rs`.
//!
//! In the backward a product with S by rows is a sum over its rows, and one by columns would be a sum within them. So S, and its gradient
//! D, are kept as they are or transposed, whichever is read by rows:
//!
//! ```text
//! dq = S do,   D ← D + q doᵀ                                                            after the last step of a token
//! du = Dᵀ k,   dβ = du·e,   de = dv = β du,   dk = D (β e) - S_before de,   D ← D - k deᵀ
//! ```

use crate::math::real::{Real, by_kind, mad};
use crate::native::{Backward, Shared, attach, elements, elements_mut, parallel_for, worked};
use multiversion::{multiversion, target::selected_target};
use std::ops::Range;
use tch::{Kind, Tensor};

/// The widest head that is worked on this way.
pub(crate) const WIDEST: i64 = 64;

/// Sizes and settings; a direction's channels are q, the keys of each step, their values, and β of each step and head.
#[derive(Clone, Debug)]
pub(crate) struct DeltaRule {
    pub heads: usize,
    pub d_head: usize,
    /// Steps a token.
    pub steps: usize,
    /// Of the convolution.
    pub taps: usize,
    pub directions: usize,
    /// β = 2 σ(·).
    pub doubled: bool,
    /// Whether the output is normalised.
    pub norm: bool,
    /// Valid positions of each row, where the second direction begins.
    pub lengths: Option<Vec<usize>>,
    /// Added to ‖·‖² before the root, and to the mean of squares of the norm.
    pub eps: [f64; 2],
}

impl DeltaRule {
    /// `[batch, length, directions · heads · d_head]` of `x`, `[batch, length, directions · width]` on the CPU; a filter `[channels, 1, taps]`
    /// a direction, and the norm's weight `[d_head]`.
    pub(crate) fn apply(self, x: &Tensor, filters: &[&Tensor], weight: &Tensor) -> Tensor {
        let inputs: Vec<&Tensor> = [x].into_iter().chain(filters.iter().copied()).chain([weight]).collect();
        let y = tch::no_grad(|| {
            let packed: Vec<Tensor> = inputs.iter().map(|t| t.detach().contiguous()).collect();
            by_kind!(x.kind(), forward(&self, &packed))
        });
        attach(self, &inputs, &[&y], &inputs);
        y
    }

    fn inner(&self) -> usize {
        self.heads * self.d_head
    }

    /// q, and a key and a value a step.
    fn parts(&self) -> usize {
        1 + 2 * self.steps
    }

    /// Columns of one direction.
    fn width(&self) -> usize {
        self.parts() * self.inner() + self.steps * self.heads
    }

    /// Operations of a forward pass over one token and head.
    pub(crate) fn flops(steps: i64, d_head: i64) -> i64 {
        (4 * steps + 2) * d_head * d_head
    }
}

/// Whose state this is.
#[derive(Clone, Copy)]
struct Unit<'a> {
    op: &'a DeltaRule,
    batch_row: usize,
    direction: usize,
    head: usize,
    length: usize,
}

impl<'a> Unit<'a> {
    fn new(op: &'a DeltaRule, index: usize, length: usize) -> Self {
        let (outer, head) = (index / op.heads, index % op.heads);
        Self { op, batch_row: outer / op.directions, direction: outer % op.directions, head, length }
    }

    /// Where step `t` stands in the row.
    fn position(&self, t: usize) -> usize {
        let valid = self.op.lengths.as_ref().map_or(self.length, |lengths| lengths[self.batch_row]);
        if self.direction == 1 && t < valid { valid - 1 - t } else { t }
    }

    /// First element of token `t` in x.
    fn token(&self, t: usize) -> usize {
        let (row, width) = (self.batch_row * self.length + self.position(t), self.op.width());
        (row * self.op.directions + self.direction) * width
    }

    /// Of a part, in x.
    fn part(&self, t: usize, part: usize) -> usize {
        self.token(t) + part * self.op.inner() + self.head * self.op.d_head
    }

    /// Of the β of a step, in x.
    fn beta(&self, t: usize, step: usize) -> usize {
        self.token(t) + self.op.parts() * self.op.inner() + step * self.op.heads + self.head
    }

    /// In y.
    fn output(&self, t: usize) -> usize {
        let row = self.batch_row * self.length + self.position(t);
        ((row * self.op.directions + self.direction) * self.op.heads + self.head) * self.op.d_head
    }
}

fn forward<T: Real>(op: &DeltaRule, inputs: &[Tensor]) -> Tensor {
    let (x, filters, weight) = (&inputs[0], &inputs[1..inputs.len() - 1], &inputs[inputs.len() - 1]);
    let (batch, length) = (x.size()[0] as usize, x.size()[1] as usize);
    let mut y =
        Tensor::empty([batch as i64, length as i64, (op.directions * op.inner()) as i64], (T::KIND, x.device()));
    let filters: Vec<Tensor> = filters.iter().map(by_tap).collect();
    let filters: Vec<&[T]> = filters.iter().map(elements::<T>).collect();
    let (x, weight) = (elements::<T>(x), elements::<T>(weight));
    let out = Shared::new(elements_mut::<T>(&mut y));
    parallel_for(batch * op.directions * op.heads, 1, |units| {
        for unit in units.map(|i| Unit::new(op, i, length)) {
            let read = (x, filters[unit.direction], weight);
            match op.d_head {
                ..=8 => forward_unit::<T, 8>(unit, read, &out),
                ..=16 => forward_unit::<T, 16>(unit, read, &out),
                ..=32 => forward_unit::<T, 32>(unit, read, &out),
                _ => forward_unit::<T, 64>(unit, read, &out),
            }
        }
    });
    let conv = 2 * op.taps * op.parts() * op.d_head;
    let rule = DeltaRule::flops(op.steps as i64, op.d_head as i64) as usize;
    worked((batch * length * op.directions * op.heads * (conv + rule)) as f64);
    y
}

/// `[channels, 1, taps]` → `[taps, channels]`, packed.
fn by_tap(filter: &Tensor) -> Tensor {
    filter.squeeze_dim(1).transpose(0, 1).contiguous()
}

/// The first `d` numbers, and zeros up to `D`.
#[inline(always)]
fn load<T: Real, const D: usize>(from: &[T], at: usize, d: usize) -> [T; D] {
    let from = &from[at..at + d];
    if let Ok(whole) = <[T; D]>::try_from(from) {
        return whole;
    }
    let mut row = [T::ZERO; D];
    row[..d].copy_from_slice(from);
    row
}

/// `a·b`.
#[inline(always)]
fn inner<T: Real, const D: usize, const FMA: bool>(a: &[T; D], b: &[T; D]) -> T {
    let mut sums = [T::ZERO; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for i in 0..8 {
            sums[i] = mad::<T, FMA>(a[i], b[i], sums[i]);
        }
    }
    let halves = [sums[0] + sums[4], sums[1] + sums[5], sums[2] + sums[6], sums[3] + sums[7]];
    (halves[0] + halves[2]) + (halves[1] + halves[3])
}

/// `y += f x`.
#[inline(always)]
fn add<T: Real, const D: usize, const FMA: bool>(y: &mut [T; D], f: T, x: &[T; D]) {
    for i in 0..D {
        y[i] = mad::<T, FMA>(f, x[i], y[i]);
    }
}

/// `y += a ⊙ b`.
#[inline(always)]
fn add_products<T: Real, const D: usize, const FMA: bool>(y: &mut [T; D], a: &[T; D], b: &[T; D]) {
    for i in 0..D {
        y[i] = mad::<T, FMA>(a[i], b[i], y[i]);
    }
}

/// `Σ_i f_i rows_i`, in four sums that need not wait for each other.
#[inline(always)]
fn weighted<T: Real, const D: usize, const FMA: bool>(f: &[T; D], rows: &[[T; D]]) -> [T; D] {
    if D > 16 {
        let (mut a, mut b) = ([T::ZERO; D], [T::ZERO; D]);
        for (f, rows) in f.chunks_exact(2).zip(rows.chunks_exact(2)) {
            add::<T, D, FMA>(&mut a, f[0], &rows[0]);
            add::<T, D, FMA>(&mut b, f[1], &rows[1]);
        }
        add::<T, D, FMA>(&mut a, T::ONE, &b);
        return a;
    }
    let [mut a, mut b, mut c, mut d] = [[T::ZERO; D]; 4];
    for (f, rows) in f.chunks_exact(4).zip(rows.chunks_exact(4)) {
        add::<T, D, FMA>(&mut a, f[0], &rows[0]);
        add::<T, D, FMA>(&mut b, f[1], &rows[1]);
        add::<T, D, FMA>(&mut c, f[2], &rows[2]);
        add::<T, D, FMA>(&mut d, f[3], &rows[3]);
    }
    add::<T, D, FMA>(&mut a, T::ONE, &b);
    add::<T, D, FMA>(&mut c, T::ONE, &d);
    add::<T, D, FMA>(&mut a, T::ONE, &c);
    a
}

/// The filters of a head: of each part, tap by tap.
fn head_filters<T: Real, const D: usize>(unit: &Unit<'_>, filters: &[T]) -> Vec<[T; D]> {
    let (op, channels) = (unit.op, unit.op.parts() * unit.op.inner());
    let tap =
        |part: usize, k: usize| load(filters, k * channels + part * op.inner() + unit.head * op.d_head, op.d_head);
    (0..op.parts()).flat_map(|part| (0..op.taps).map(move |k| (part, k))).map(|(part, k)| tap(part, k)).collect()
}

/// What a token holds before the rule: each part before SiLU, and after it (q and k of length 1, with what they were multiplied by), and
/// β of each step.
struct Token<'a, T, const D: usize> {
    before: &'a mut [[T; D]],
    after: &'a mut [[T; D]],
    scales: &'a mut [T],
    betas: &'a mut [T],
}

impl<T: Real, const D: usize> Token<'_, T, D> {
    #[inline(always)]
    fn make<const FMA: bool>(&mut self, unit: &Unit<'_>, x: &[T], filters: &[[T; D]], t: usize) {
        let op = unit.op;
        for part in 0..op.parts() {
            let z = &mut self.before[part];
            *z = [T::ZERO; D];
            for k in (op.taps - 1).saturating_sub(t)..op.taps {
                let seen = load(x, unit.part(t + k + 1 - op.taps, part), op.d_head);
                add_products::<T, D, FMA>(z, &filters[part * op.taps + k], &seen);
            }
            let a = &mut self.after[part];
            for i in 0..D {
                a[i] = z[i] * z[i].sigmoid();
            }
            if part <= op.steps {
                let r = (inner::<T, D, FMA>(a, a) + T::of(op.eps[0])).inverse_sqrt();
                for a in a.iter_mut() {
                    *a = *a * r;
                }
                self.scales[part] = r;
            }
        }
        for step in 0..op.steps {
            let open = x[unit.beta(t, step)].sigmoid();
            self.betas[step] = if op.doubled { open + open } else { open };
        }
    }
}

/// One token: what S holds moves by its steps, `errors` are e of each. Returns o, divided by √d_head.
#[inline(always)]
fn advance<T: Real, const D: usize, const FMA: bool>(
    state: &mut [[T; D]],
    token: &Token<'_, T, D>,
    errors: &mut [[T; D]],
    scale: T,
) -> [T; D] {
    let steps = errors.len();
    let mut o = [T::ZERO; D];
    for step in 0..steps {
        let (k, v, beta) = (&token.after[1 + step], &token.after[1 + steps + step], token.betas[step]);
        let held = weighted::<T, D, FMA>(k, state);
        let mut u = [T::ZERO; D];
        for j in 0..D {
            errors[step][j] = v[j] - held[j];
            u[j] = beta * errors[step][j];
        }
        let read = if step + 1 == steps { token.after[0] } else { [T::ZERO; D] };
        for ((row, k), q) in state.iter_mut().zip(k).zip(&read) {
            add::<T, D, FMA>(row, *k, &u);
            add::<T, D, FMA>(&mut o, *q, row);
        }
    }
    for o in &mut o {
        *o = *o * scale;
    }
    o
}

/// `1 / √(mean of squares + ε)` over the head's own width.
#[inline(always)]
fn norm_scale<T: Real, const D: usize, const FMA: bool>(op: &DeltaRule, o: &[T; D]) -> T {
    (inner::<T, D, FMA>(o, o) / T::of(op.d_head as f64) + T::of(op.eps[1])).inverse_sqrt()
}

fn scale<T: Real>(op: &DeltaRule) -> T {
    T::of(1.0 / (op.d_head as f64).sqrt())
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn forward_unit<T: Real, const D: usize>(unit: Unit<'_>, (x, filters, weight): (&[T], &[T], &[T]), y: &Shared<T>) {
    const FMA: bool = selected_target!().supports_feature_str("fma");
    let (op, d) = (unit.op, unit.op.d_head);
    let filters = head_filters::<T, D>(&unit, filters);
    let weight: [T; D] = load(weight, 0, d);
    let mut state = vec![[T::ZERO; D]; D];
    let (mut before, mut after) = (vec![[T::ZERO; D]; op.parts()], vec![[T::ZERO; D]; op.parts()]);
    let (mut scales, mut betas) = (vec![T::ZERO; op.parts()], vec![T::ZERO; op.steps]);
    let mut errors = vec![[T::ZERO; D]; op.steps];
    let mut token = Token { before: &mut before, after: &mut after, scales: &mut scales, betas: &mut betas };
    for t in 0..unit.length {
        token.make::<FMA>(&unit, x, &filters, t);
        let mut o = advance::<T, D, FMA>(&mut state, &token, &mut errors, scale(op));
        if op.norm {
            let r = norm_scale::<T, D, FMA>(op, &o);
            for i in 0..D {
                o[i] = o[i] * r * weight[i];
            }
        }
        // SAFETY: every unit and position has a place of its own.
        unsafe { y.part(unit.output(t), d) }.copy_from_slice(&o[..d]);
    }
}

impl Backward for DeltaRule {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let Some(grad) = &grads[0] else { return saved.iter().map(|_| None).collect() };
        let packed: Vec<Tensor> = saved.iter().chain([grad]).map(|t| t.detach().contiguous()).collect();
        by_kind!(grad.kind(), backward(self, &packed)).into_iter().map(Some).collect()
    }
}

/// Gradients of x, of each filter and of the norm's weight; the last of `kept` is that of y.
fn backward<T: Real>(op: &DeltaRule, kept: &[Tensor]) -> Vec<Tensor> {
    let directions = op.directions;
    let (x, filters, weight, grad) = (&kept[0], &kept[1..=directions], &kept[1 + directions], &kept[2 + directions]);
    let (batch, length) = (x.size()[0] as usize, x.size()[1] as usize);
    let units = batch * directions * op.heads;
    let mut dx = x.empty_like();
    // A head's own, added up in the end in a fixed order: of the taps, and behind them of the norm's weight.
    let sizes = [batch, directions, op.heads, op.parts() * op.taps + 1, op.d_head].map(|n| n as i64);
    let mut sums = Tensor::zeros(sizes, (T::KIND, x.device()));
    {
        let filters: Vec<Tensor> = filters.iter().map(by_tap).collect();
        let filters: Vec<&[T]> = filters.iter().map(elements::<T>).collect();
        let (x, weight, grad) = (elements::<T>(x), elements::<T>(weight), elements::<T>(grad));
        let (into, sums) = (Shared::new(elements_mut::<T>(&mut dx)), Shared::new(elements_mut::<T>(&mut sums)));
        parallel_for(units, 1, |range| match op.d_head {
            ..=8 => backward_units::<T, 8>(op, range, length, (x, &filters, weight, grad), (&into, &sums)),
            ..=16 => backward_units::<T, 16>(op, range, length, (x, &filters, weight, grad), (&into, &sums)),
            ..=32 => backward_units::<T, 32>(op, range, length, (x, &filters, weight, grad), (&into, &sums)),
            _ => backward_units::<T, 64>(op, range, length, (x, &filters, weight, grad), (&into, &sums)),
        });
    }
    let (parts, taps, d) = (op.parts() as i64, op.taps as i64, op.d_head as i64);
    let over_rows = sums.sum_dim_intlist([0].as_slice(), false, T::KIND);
    let filter = |direction: i64| {
        let sums = over_rows.select(0, direction).narrow(1, 0, parts * taps).unflatten(1, [parts, taps]);
        sums.permute([1, 0, 3, 2]).reshape([parts * op.heads as i64 * d, 1, taps])
    };
    let weight = over_rows.select(2, parts * taps).sum_dim_intlist([0, 1].as_slice(), false, T::KIND);
    [dx].into_iter().chain((0..directions as i64).map(filter)).chain([weight]).collect()
}

/// Tokens of a block, whose states are kept one by one while the backward is in it.
const fn block(d: usize) -> usize {
    if d <= 16 { 32 } else { 512 / d }
}

/// What the backward of one head needs room for.
struct Room<T, const D: usize> {
    before: Vec<[T; D]>,
    after: Vec<[T; D]>,
    scales: Vec<T>,
    betas: Vec<T>,
    errors: Vec<[T; D]>,
    /// Gradient of o, divided by √d_head.
    d_o: Vec<[T; D]>,
    /// S before each block.
    entering: Vec<[T; D]>,
    /// Sᵀ before each step of a block, and after the last.
    states: Vec<[T; D]>,
}

impl<T: Real, const D: usize> Room<T, D> {
    fn new(op: &DeltaRule, length: usize) -> Self {
        let rows = |n: usize| vec![[T::ZERO; D]; n];
        Self {
            before: rows(length * op.parts()),
            after: rows(length * op.parts()),
            scales: vec![T::ZERO; length * op.parts()],
            betas: vec![T::ZERO; length * op.steps],
            errors: rows(length * op.steps),
            d_o: rows(length),
            entering: rows(length.div_ceil(block(D)) * D),
            states: rows((block(D) * op.steps + 1) * D),
        }
    }

    fn token(&mut self, op: &DeltaRule, t: usize) -> (Token<'_, T, D>, &mut [[T; D]]) {
        let (parts, steps) = (op.parts(), op.steps);
        let token = Token {
            before: &mut self.before[t * parts..][..parts],
            after: &mut self.after[t * parts..][..parts],
            scales: &mut self.scales[t * parts..][..parts],
            betas: &mut self.betas[t * steps..][..steps],
        };
        (token, &mut self.errors[t * steps..][..steps])
    }
}

/// x, the filters of each direction, the norm's weight, the gradient of y.
type Read<'a, T> = (&'a [T], &'a [&'a [T]], &'a [T], &'a [T]);

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn backward_units<T: Real, const D: usize>(
    op: &DeltaRule,
    units: Range<usize>,
    length: usize,
    (x, filters, weight, grad): Read<'_, T>,
    (dx, sums): (&Shared<T>, &Shared<T>),
) {
    const FMA: bool = selected_target!().supports_feature_str("fma");
    let mut room = Room::<T, D>::new(op, length);
    let each = (op.parts() * op.taps + 1) * op.d_head;
    for index in units {
        let unit = Unit::new(op, index, length);
        // SAFETY: every unit has sums of its own.
        let (taps, d_weight) = unsafe { sums.part(index * each, each) }.split_at_mut(each - op.d_head);
        let filters = head_filters::<T, D>(&unit, filters[unit.direction]);
        walk::<T, D, FMA>(&unit, &mut room, (x, &filters, weight, grad), d_weight);
        let mut d_state = vec![[T::ZERO; D]; 2 * D];
        for from in (0..length).step_by(block(D)).rev() {
            back_through_block::<T, D, FMA>(&unit, &mut room, &mut d_state, from, dx);
        }
        back_through_taps::<T, D, FMA>(&unit, &room, (x, &filters), (dx, taps));
    }
}

/// From the first token to the last: everything the way back reads, and what the norm makes of the gradient.
#[inline(always)]
fn walk<T: Real, const D: usize, const FMA: bool>(
    unit: &Unit<'_>,
    room: &mut Room<T, D>,
    (x, filters, weight, grad): (&[T], &[[T; D]], &[T], &[T]),
    d_weight: &mut [T],
) {
    let (op, d) = (unit.op, unit.op.d_head);
    let weight: [T; D] = load(weight, 0, d);
    let mut state = vec![[T::ZERO; D]; D];
    for t in 0..unit.length {
        if t % block(D) == 0 {
            room.entering[t / block(D) * D..][..D].copy_from_slice(&state);
        }
        let (mut token, errors) = room.token(op, t);
        token.make::<FMA>(unit, x, filters, t);
        let o = advance::<T, D, FMA>(&mut state, &token, errors, scale(op));
        let mut g: [T; D] = load(grad, unit.output(t), d);
        if op.norm {
            let r = norm_scale::<T, D, FMA>(op, &o);
            for i in 0..d {
                d_weight[i] += g[i] * o[i] * r;
            }
            for i in 0..D {
                g[i] = g[i] * weight[i];
            }
            let along = inner::<T, D, FMA>(&g, &o) * r * r / T::of(d as f64);
            for i in 0..D {
                g[i] = r * (g[i] - o[i] * along);
            }
        }
        for (to, g) in room.d_o[t].iter_mut().zip(&g) {
            *to = *g * scale(op);
        }
    }
}

/// The tokens from `from` on, backwards: gradients in front of SiLU, over what stood there, and those of β. `d_state` is that of S and
/// behind it that of Sᵀ, as it leaves the block and then as it enters.
#[inline(always)]
fn back_through_block<T: Real, const D: usize, const FMA: bool>(
    unit: &Unit<'_>,
    room: &mut Room<T, D>,
    d_state: &mut [[T; D]],
    from: usize,
    dx: &Shared<T>,
) {
    let (op, steps) = (unit.op, unit.op.steps);
    let to = (from + block(D)).min(unit.length);
    let entering = &room.entering[from / block(D) * D..][..D];
    for (i, row) in entering.iter().enumerate() {
        for (turned, x) in room.states.iter_mut().zip(row) {
            turned[i] = *x;
        }
    }
    for row in from * steps..to * steps {
        let (token, step) = (row / steps, row % steps);
        let k = &room.after[token * op.parts() + 1 + step];
        let (done, next) = room.states.split_at_mut((row - from * steps + 1) * D);
        for ((next, last), e) in next[..D].iter_mut().zip(&done[done.len() - D..]).zip(&room.errors[row]) {
            *next = *last;
            add::<T, D, FMA>(next, room.betas[row] * *e, k);
        }
    }
    let (d_state, d_turned) = d_state.split_at_mut(D);
    for t in (from..to).rev() {
        let parts = &room.after[t * op.parts()..][..op.parts()];
        let (q, d_o) = (&parts[0], &room.d_o[t]);
        let state = |row: usize| &room.states[(row - from * steps) * D..][..D];
        for i in 0..D {
            add::<T, D, FMA>(&mut d_state[i], q[i], d_o);
            add::<T, D, FMA>(&mut d_turned[i], d_o[i], q);
        }
        let dq = weighted::<T, D, FMA>(d_o, state((t + 1) * steps));
        let before = &mut room.before[t * op.parts()..][..op.parts()];
        let scales = &room.scales[t * op.parts()..][..op.parts()];
        close_unit::<T, D, FMA>(&mut before[0], &dq, q, scales[0]);
        for step in (0..steps).rev() {
            let row = t * steps + step;
            let (k, e, beta) = (&parts[1 + step], &room.errors[row], room.betas[row]);
            let du = weighted::<T, D, FMA>(k, d_state);
            let (mut u, mut de, mut away) = ([T::ZERO; D], [T::ZERO; D], [T::ZERO; D]);
            for j in 0..D {
                u[j] = beta * e[j];
                de[j] = beta * du[j];
                away[j] = -de[j];
            }
            let mut dk = weighted::<T, D, FMA>(&u, d_turned);
            add::<T, D, FMA>(&mut dk, T::ONE, &weighted::<T, D, FMA>(&away, state(row)));
            for i in 0..D {
                add::<T, D, FMA>(&mut d_state[i], k[i], &away);
                add::<T, D, FMA>(&mut d_turned[i], away[i], k);
            }
            close_unit::<T, D, FMA>(&mut before[1 + step], &dk, k, scales[1 + step]);
            close_silu(&mut before[1 + steps + step], &de);
            let most = if op.doubled { T::ONE + T::ONE } else { T::ONE };
            let d_beta = inner::<T, D, FMA>(&du, e) * beta * (T::ONE - beta / most);
            // SAFETY: every unit and position has a place of its own.
            unsafe { dx.part(unit.beta(t, step), 1) }.fill(d_beta);
        }
    }
}

/// In `z` the gradient in front of SiLU, from that behind it.
#[inline(always)]
fn close_silu<T: Real, const D: usize>(z: &mut [T; D], grad: &[T; D]) {
    for i in 0..D {
        let open = z[i].sigmoid();
        z[i] = grad[i] * open * (T::ONE + z[i] * (T::ONE - open));
    }
}

/// The same behind a norm: `unit` is what came of it, `r` what it multiplied by.
#[inline(always)]
fn close_unit<T: Real, const D: usize, const FMA: bool>(z: &mut [T; D], grad: &[T; D], unit: &[T; D], r: T) {
    let along = inner::<T, D, FMA>(grad, unit);
    let mut da = [T::ZERO; D];
    for i in 0..D {
        da[i] = r * (grad[i] - unit[i] * along);
    }
    close_silu(z, &da);
}

/// From the gradients in front of SiLU to those of x and of the filters.
#[inline(always)]
fn back_through_taps<T: Real, const D: usize, const FMA: bool>(
    unit: &Unit<'_>,
    room: &Room<T, D>,
    (x, filters): (&[T], &[[T; D]]),
    (dx, d_filters): (&Shared<T>, &mut [T]),
) {
    let (op, d) = (unit.op, unit.op.d_head);
    let mut sums = vec![[T::ZERO; D]; op.parts() * op.taps];
    for s in 0..unit.length {
        for part in 0..op.parts() {
            let seen = load(x, unit.part(s, part), d);
            let mut sum = [T::ZERO; D];
            for k in 0..op.taps {
                // The token whose tap k reads this one.
                let t = s + op.taps - 1 - k;
                if t < unit.length {
                    let grad = &room.before[t * op.parts() + part];
                    add_products::<T, D, FMA>(&mut sum, &filters[part * op.taps + k], grad);
                    add_products::<T, D, FMA>(&mut sums[part * op.taps + k], &seen, grad);
                }
            }
            // SAFETY: every unit and position has a place of its own.
            unsafe { dx.part(unit.part(s, part), d) }.copy_from_slice(&sum[..d]);
        }
    }
    for (out, sum) in d_filters.chunks_exact_mut(d).zip(&sums) {
        out.copy_from_slice(&sum[..d]);
    }
}

/// Whether tensors of this kind on this device can be worked on.
pub(crate) fn takes(x: &Tensor) -> bool {
    x.device() == tch::Device::Cpu && matches!(x.kind(), Kind::Float | Kind::Double)
}
