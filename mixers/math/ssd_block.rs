//! What Hydra and Mamba-2 share around the scan, in two nodes of the graph that keep little.
//!
//! ```text
//! x | B | C … = SiLU(conv1d(xBC)),   y = scans(x, dt, B, C) + diagonal · x            [`SsdBlock`]
//! out_proj( RMSNorm(y) · weight · SiLU(z) )   or   out_proj( RMSNorm(y · SiLU(z)) · weight )      [`norm_gate_project`]
//! ```
//! Time     a few passes over `[length, d_inner]` besides the scans and products
//! Memory   kept for the backward: what the input projection gave, y, and nothing else of that size; convolved values,
//!          states and the normalised, gated values are computed again, a few rows at a time

use crate::core::limits::width;
use crate::math::depthwise::Depthwise;
use crate::math::real::{Real, by_kind, dot};
use crate::math::ssd::{self, POSITIONS, Reads, Scans, Stream, add_scaled, add_scaled_back, pieces};
use crate::native::kernels::native_for;
use crate::native::{Backward, Shared, attach, elements, elements_mut, parallel_for};
use crate::{ConfigError, Context, Linear, ParamRule, Precision, at_least, between, divides, linear_flops};
use multiversion::multiversion;
use tch::Tensor;
use tch::nn::{self, Init};

/// Steps drawn at initialisation are no smaller than this.
const DT_FLOOR: f64 = 1e-4;
/// Of the RMS norm.
pub(crate) const EPS: f64 = 1e-5;

/// Sizes of a block: what Hydra's and Mamba-2's settings have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub d_model: i64,
    /// Of each head and scan.
    pub d_state: i64,
    /// `d_inner / d_model`.
    pub expand: i64,
    /// Channels of a head.
    pub headdim: i64,
    /// Groups of heads that share B and C.
    pub ngroups: i64,
    /// Width of the convolution; 0 is none.
    pub d_conv: i64,
    pub chunk_size: i64,
    /// Scans, each with its own dt, B and C.
    pub scans: i64,
    /// Width of y over `d_inner`.
    pub copies: i64,
    /// Bias of `in_proj` and `out_proj`.
    pub bias: bool,
    /// Bias of the convolution.
    pub conv_bias: bool,
    pub learnable_init_states: bool,
    /// Range of the steps drawn at initialisation.
    pub dt: [f64; 2],
    /// Range that steps are clamped to.
    pub dt_limit: Option<[f64; 2]>,
}

impl Sizes {
    /// Channels of x.
    pub fn d_inner(&self) -> i64 {
        self.expand * self.d_model
    }

    /// Of one scan.
    pub fn heads(&self) -> i64 {
        self.d_inner() / self.headdim
    }

    /// Width of B and C of all scans.
    pub fn bc_width(&self) -> i64 {
        2 * self.scans * self.ngroups * self.d_state
    }

    /// Channels that the convolution reads.
    pub fn convolved(&self) -> i64 {
        self.d_inner() + self.bc_width()
    }

    /// Channels that `in_proj` gives: z, x, B, C and dt.
    pub fn projected(&self) -> i64 {
        self.d_inner() + self.convolved() + self.scans * self.heads()
    }

    /// Width of y.
    pub fn width(&self) -> i64 {
        self.copies * self.d_inner()
    }

    /// Everything wrong with these sizes; the convolution is at least `least_conv` wide.
    pub fn check(&self, least_conv: i64) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        if let Some([low, high]) = self.dt_limit.filter(|[low, high]| !(0.0 <= *low && low <= high)) {
            let problem = format!("`dt_limit` is [{low}, {high}], which is no range of positive steps");
            wrong.push(ConfigError { key: "dt_limit", problem, help: "use [low, high] with 0 <= low <= high".into() });
        }
        let d_inner = self.d_inner();
        let heads = if self.headdim > 0 { (d_inner / self.headdim).max(1) } else { 1 };
        let checks = [
            at_least("d_state", self.d_state, 1),
            at_least("expand", self.expand, 1),
            width("expand", "expand · d_model", &[self.expand, self.d_model]),
            width("ngroups", "ngroups · d_state", &[self.ngroups, self.d_state]),
            at_least("d_conv", self.d_conv, least_conv),
            at_least("chunk_size", self.chunk_size, 1),
            divides("headdim", self.headdim, "expand · d_model", d_inner),
            divides("ngroups", self.ngroups, "expand · d_model / headdim", heads),
            between("dt_max", self.dt[1], 1e-9, 1e3),
            between("dt_min", self.dt[0], 1e-9, self.dt[1]),
        ];
        wrong.extend(checks.into_iter().filter_map(Result::err));
        wrong
    }

    /// Numbers of the layer, about, besides `diagonal`; in floats, for the sizes need not be sane.
    pub fn scalars(&self, diagonal: f64) -> f64 {
        let [d, expand, state, groups, conv, scans] =
            [self.d_model, self.expand, self.d_state, self.ngroups, self.d_conv, self.scans].map(|n| n as f64);
        let d_inner = expand * d;
        let (heads, convolved) = (d_inner / self.headdim as f64, d_inner + 2.0 * scans * groups * state);
        let projected = d_inner + convolved + scans * heads;
        let states = if self.learnable_init_states { d_inner * state } else { 0.0 };
        let width = self.copies as f64 * d_inner;
        (d + 1.0) * projected + convolved * (conv + 1.0) + diagonal + 3.0 * heads + width * (d + 1.0) + d + states
    }

    /// Trained numbers; `diagonal` counts D and fc_D.
    pub fn params(&self, diagonal: i64) -> i64 {
        let (d, width) = (self.d_model, self.width());
        let taps = self.d_conv + i64::from(self.conv_bias);
        let filters = if self.d_conv > 0 { self.convolved() * taps } else { 0 };
        let biases = if self.bias { self.projected() + d } else { 0 };
        let states = if self.learnable_init_states { self.d_inner() * self.d_state } else { 0 };
        d * self.projected() + filters + 2 * self.heads() + diagonal + width + width * d + biases + states
    }

    /// Of one sequence. The scan is counted as it runs: C·B of each scan, one product with x where scans are added and one
    /// each where they are not (`products`), and states where there are chunks.
    pub fn flops(&self, length: i64, products: i64) -> i64 {
        let (d, d_inner, chunk) = (self.d_model, self.d_inner(), self.chunk_size.min(length));
        let within = self.scans * linear_flops(length, self.ngroups * self.d_state, chunk)
            + products * linear_flops(length, chunk, d_inner);
        let states = 2 * self.scans * linear_flops(length, self.d_state, d_inner);
        linear_flops(length, d, self.projected())
            + linear_flops(length, self.d_conv, self.convolved())
            + within
            + if chunk < length { states } else { 0 }
            + linear_flops(length, self.width(), d)
    }

    /// A dense layer of the block.
    pub fn dense(&self, vs: nn::Path, from: i64, to: i64) -> Linear {
        Linear::new(vs, from, to, nn::LinearConfig { ws_init: fan_in(from), bias: self.bias, ..Default::default() })
    }

    /// The state that every sequence starts from.
    pub fn init_states(&self, vs: &nn::Path) -> Option<Tensor> {
        let shape = [self.heads(), self.headdim, self.d_state];
        self.learnable_init_states.then(|| vs.zeros("init_states", &shape))
    }
}

/// Neither the decay nor D nor the first state is decayed.
pub(crate) fn param_rules(has_d: bool, has_init_states: bool) -> Vec<ParamRule> {
    let names = [("dt_bias", true), ("A_log", true), ("D", has_d), ("init_states", has_init_states)];
    let there = names.into_iter().filter(|(_, there)| *there);
    there.map(|(name, _)| ParamRule { name: name.into(), lr: None, weight_decay: Some(0.0) }).collect()
}

/// What is done with the results of several scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    /// Added; the diagonal once.
    Add,
    /// Multiplied, each with its diagonal.
    Multiply,
    /// One behind the other, each with its diagonal.
    Concat,
}

/// From what the input projection gave to y.
#[derive(Clone, Debug)]
pub(crate) struct SsdBlock {
    /// One scan each.
    pub reads: Vec<Reads>,
    pub combine: Combine,
    pub chunk: i64,
    pub heads: i64,
    pub groups: i64,
    pub causal: bool,
}

/// What [`SsdBlock`] reads: tensors, or one thing for each of them.
#[derive(Clone, Debug)]
pub(crate) struct ScanInputs<T> {
    /// Before the convolution, `[batch, length, d_inner]`.
    pub x: T,
    /// Before the convolution, `[batch, length, (B | C of each scan)]`.
    pub bc: T,
    /// Of each scan, `[batch, length, heads]`, ready for use.
    pub dt: Vec<T>,
    /// `[heads]`, negative.
    pub a: T,
    /// Weight and bias for `x`, weight and bias for `bc`. Without them there is only SiLU.
    pub conv: Option<[T; 4]>,
    /// Of the diagonal `fc_D x + D`: `[heads, d_inner]`.
    pub fc_d: Option<T>,
    /// `[heads]`.
    pub d: Option<T>,
    /// State that each scan starts from, `[heads, d_head, d_state]`.
    pub initial: Option<T>,
    /// 1 where a position holds data and 0 where it is padding, `[batch, length, 1]`: B and C are 0 there, which keeps a
    /// learned initial state out of the last valid position.
    pub valid: Option<T>,
}

impl<T> ScanInputs<T> {
    /// In the order of the fields; rows of a batch get `by_row` true.
    fn map<'a, U>(&'a self, mut f: impl FnMut(&'a T, bool) -> U) -> ScanInputs<U> {
        ScanInputs {
            x: f(&self.x, true),
            bc: f(&self.bc, true),
            dt: self.dt.iter().map(|t| f(t, true)).collect(),
            a: f(&self.a, false),
            conv: self.conv.as_ref().map(|c| c.each_ref().map(|t| f(t, false))),
            fc_d: self.fc_d.as_ref().map(|t| f(t, false)),
            d: self.d.as_ref().map(|t| f(t, false)),
            initial: self.initial.as_ref().map(|t| f(t, false)),
            valid: self.valid.as_ref().map(|t| f(t, true)),
        }
    }

    fn list(&self) -> Vec<&T> {
        let mut list = Vec::new();
        self.map(|t, _| list.push(t));
        list
    }
}

impl ScanInputs<Tensor> {
    fn rows(&self, from: i64, n: i64) -> Self {
        self.map(|t, by_row| if by_row { t.narrow(0, from, n) } else { t.shallow_clone() })
    }
}

/// What the scans read.
pub(crate) struct Scanned {
    /// `[batch, length, heads, d_head]`.
    pub x: Tensor,
    pub streams: Vec<Stream>,
    /// `[batch, length, heads]`.
    pub diagonal: Option<Tensor>,
}

impl SsdBlock {
    /// y, `[batch, length, d_inner]` (twice as wide where scans are concatenated).
    pub(crate) fn apply(&self, parts: &ScanInputs<Tensor>) -> Tensor {
        struct Op(SsdBlock, ScanInputs<()>);

        impl Backward for Op {
            fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
                let Some(grad) = &grads[0] else { return saved.iter().map(|_| None).collect() };
                let mut saved = saved.iter();
                let parts = self.1.map(|(), _| saved.next().expect("one tensor a part").shallow_clone());
                // Rows are written where they belong, what all rows share is added up.
                let mut all: Vec<Option<Tensor>> = parts.list().iter().map(|_| None).collect();
                for (from, n) in pieces(&parts.x) {
                    let found = self.0.backward(&parts.rows(from, n), &grad.narrow(0, from, n));
                    let mut slots = all.iter_mut();
                    let mut wholes = parts.list().into_iter();
                    found.map(|gradient, by_row| {
                        let (slot, whole) = (slots.next().expect("as many"), wholes.next().expect("as many"));
                        let Some(gradient) = gradient else { return };
                        if by_row {
                            let whole = slot.get_or_insert_with(|| {
                                Tensor::empty(whole.size(), (gradient.kind(), gradient.device()))
                            });
                            whole.narrow(0, from, n).copy_(gradient);
                        } else {
                            *slot = Some(match slot.take() {
                                None => gradient.shallow_clone(),
                                Some(sum) => sum + gradient,
                            });
                        }
                    });
                }
                all
            }
        }

        if !native_for(&parts.x) {
            return self.plain(parts);
        }
        let y = tch::no_grad(|| {
            let parts = parts.map(|t, _| t.detach());
            let mut found: Vec<Tensor> = pieces(&parts.x).map(|(from, n)| self.forward(&parts.rows(from, n))).collect();
            if found.len() == 1 { found.remove(0).detach() } else { Tensor::cat(&found, 0) }
        });
        let inputs = parts.list();
        attach(Op(self.clone(), parts.map(|_, _| ())), &inputs, &[&y], &inputs);
        y
    }

    /// The same from the parts' own forms, with a graph of libtorch's.
    fn plain(&self, parts: &ScanInputs<Tensor>) -> Tensor {
        let [x, bc] = [(&parts.x, 0), (&parts.bc, 2)].map(|(t, at)| match &parts.conv {
            None => t.silu(),
            Some(conv) => self.filter(&conv[at]).apply(t, &conv[at], &conv[at + 1]),
        });
        let Scanned { x, streams, diagonal } = self.scanned(parts, x, bc);
        let initial = parts.initial.as_ref();
        let result = |which: std::ops::Range<usize>| {
            let sides: Vec<_> = streams[which.clone()].iter().zip(self.reads[which].iter().copied()).collect();
            let y = ssd::sum(&x, &parts.a, &sides, self.chunk, initial);
            match &diagonal {
                Some(diagonal) => y + &x * diagonal.unsqueeze(-1),
                None => y,
            }
        };
        self.combined(self.sums().into_iter().map(result).collect())
    }

    /// What the scans read, of the convolved x, B and C.
    fn scanned(&self, parts: &ScanInputs<Tensor>, x: Tensor, bc: Tensor) -> Scanned {
        let bc = match &parts.valid {
            Some(valid) => bc * valid,
            None => bc,
        };
        let maps = bc.chunk(2 * parts.dt.len() as i64, -1);
        let map = |i: usize| maps[i].unflatten(-1, [self.groups, -1]);
        let stream = |(i, dt): (usize, &Tensor)| Stream { dt: dt.shallow_clone(), b: map(2 * i), c: map(2 * i + 1) };
        let shape = [x.size()[0], x.size()[1], self.heads];
        let diagonal = match (&parts.fc_d, &parts.d) {
            (Some(fc_d), d) => Some(x.linear(fc_d, d.as_ref())),
            (None, d) => d.as_ref().map(|d| d.expand(shape, false).contiguous()),
        };
        let streams = parts.dt.iter().enumerate().map(stream).collect();
        Scanned { x: x.unflatten(-1, [self.heads, -1]), streams, diagonal }
    }

    fn filter(&self, weight: &Tensor) -> Depthwise {
        if self.causal { Depthwise::causal(weight, true) } else { Depthwise::centred(weight, true) }
    }

    /// Without a graph.
    pub(crate) fn open(&self, parts: &ScanInputs<Tensor>) -> Scanned {
        let parts = parts.map(|t, _| t.detach());
        let (x, bc) = match &parts.conv {
            Some([wx, bx, wbc, bbc]) => {
                (self.filter(wx).forward(&parts.x, wx, bx), self.filter(wbc).forward(&parts.bc, wbc, bbc))
            }
            None => (parts.x.silu(), parts.bc.silu()),
        };
        self.scanned(&parts, x, bc)
    }

    /// The scans that are added before anything else happens, as ranges of `reads`.
    fn sums(&self) -> Vec<std::ops::Range<usize>> {
        match self.combine {
            Combine::Add => std::iter::once(0..self.reads.len()).collect(),
            Combine::Multiply | Combine::Concat => (0..self.reads.len()).map(|i| i..i + 1).collect(),
        }
    }

    fn scans(&self, which: &std::ops::Range<usize>) -> Scans {
        Scans { reads: self.reads[which.clone()].to_vec(), chunk: self.chunk }
    }

    /// What is combined in the end, each `[rows, length, heads, d_head]`.
    fn results(&self, opened: &Scanned, a: &Tensor, initial: Option<&Tensor>) -> Vec<Tensor> {
        let Scanned { x, streams, diagonal } = opened;
        let result = |which: std::ops::Range<usize>| {
            let mut y = self.scans(&which).forward(x, a, &streams[which], initial).contiguous();
            if let Some(diagonal) = diagonal {
                by_kind!(x.kind(), add_scaled(&mut y, x, diagonal));
            }
            y
        };
        self.sums().into_iter().map(result).collect()
    }

    fn forward(&self, parts: &ScanInputs<Tensor>) -> Tensor {
        self.combined(self.results(&self.open(parts), &parts.a, parts.initial.as_ref()))
    }

    /// y of the results of the scans, each `[batch, length, heads, d_head]`.
    fn combined(&self, results: Vec<Tensor>) -> Tensor {
        let joined = results.into_iter().reduce(|y, next| match self.combine {
            Combine::Add | Combine::Multiply => y * next,
            Combine::Concat => Tensor::cat(&[y, next], 2),
        });
        joined.expect("at least one scan").flatten(2, 3)
    }

    fn backward(&self, parts: &ScanInputs<Tensor>, grad: &Tensor) -> ScanInputs<Option<Tensor>> {
        let opened = self.open(parts);
        let initial = parts.initial.as_ref();
        let sums = self.sums();
        let wide = |t: &Tensor| t.unflatten(-1, [self.heads, -1]).contiguous();
        let grads: Vec<Tensor> = match self.combine {
            Combine::Multiply if sums.len() == 2 => {
                let y = self.results(&opened, &parts.a, initial);
                vec![wide(grad) * &y[1], wide(grad) * &y[0]]
            }
            Combine::Concat => grad.chunk(sums.len() as i64, -1).iter().map(wide).collect(),
            Combine::Add | Combine::Multiply => vec![wide(grad)],
        };
        let Scanned { x, streams, diagonal } = &opened;
        let mut dx: Option<Tensor> = None;
        let mut d_diagonal = diagonal.as_ref().map(Tensor::zeros_like);
        let mut da = parts.a.zeros_like();
        let mut d_initial = initial.map(Tensor::zeros_like);
        let (mut d_dt, mut d_bc) = (Vec::new(), Vec::new());
        for (which, grad) in sums.into_iter().zip(grads) {
            let found = self.scans(&which).backward(x, &parts.a, &streams[which], initial, &grad);
            let mut here = found.x.contiguous();
            da += found.a;
            if let Some((sum, found)) = d_initial.as_mut().zip(found.initial) {
                *sum += found;
            }
            for Stream { dt, b, c } in found.streams {
                d_dt.push(Some(dt));
                d_bc.extend([b.flatten(2, 3), c.flatten(2, 3)]);
            }
            if let (Some(diagonal), Some(sum)) = (diagonal, &mut d_diagonal) {
                let mut found = sum.empty_like();
                by_kind!(x.kind(), add_scaled_back(&mut here, &grad, x, diagonal, &mut found));
                *sum += found;
            }
            dx = Some(match dx.take() {
                None => here,
                Some(sum) => sum + here,
            });
        }
        let dx = dx.expect("at least one scan");
        let (mut d_fc_d, mut d_d) = (None, None);
        if let Some(grad) = d_diagonal {
            let grad = grad.flatten(0, 1); // [positions, heads]
            if let Some(fc_d) = &parts.fc_d {
                let _ = dx.flatten(2, 3).flatten(0, 1).addmm_(&grad, fc_d);
                d_fc_d = Some(grad.transpose(0, 1).matmul(&x.flatten(2, 3).flatten(0, 1)));
            }
            d_d = parts.d.as_ref().map(|_| grad.sum_dim_intlist([0].as_slice(), false, grad.kind()));
        }
        drop(opened);
        let d_bc = Tensor::cat(&d_bc, -1);
        let d_bc = match &parts.valid {
            Some(valid) => d_bc * valid,
            None => d_bc,
        };
        let dx = dx.flatten(2, 3);
        let (dx, d_bc, conv) = match &parts.conv {
            Some([wx, bx, wbc, bbc]) => {
                let [dx, dwx, dbx] = self.filter(wx).backward(&parts.x, wx, bx, &dx);
                let [d_bc, dwbc, dbbc] = self.filter(wbc).backward(&parts.bc, wbc, bbc, &d_bc);
                (dx, d_bc, Some([dwx, dbx, dwbc, dbbc].map(Some)))
            }
            None => (parts.x.silu_backward(&dx), parts.bc.silu_backward(&d_bc), None),
        };
        ScanInputs {
            x: Some(dx),
            bc: Some(d_bc),
            dt: d_dt,
            a: Some(da),
            conv,
            fc_d: parts.fc_d.as_ref().map(|_| d_fc_d),
            d: parts.d.as_ref().map(|_| d_d),
            initial: initial.map(|_| d_initial),
            valid: parts.valid.as_ref().map(|_| None),
        }
    }
}

/// Which comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `RMSNorm(y) · weight · SiLU(z)`: Hydra.
    NormThenGate,
    /// `RMSNorm(y · SiLU(z)) · weight`: Mamba-2.
    GateThenNorm,
}

/// `out_proj` of the normalised and gated y; `y` and `z` are `[…, width]` and `weight` `[width]`.
pub(crate) fn norm_gate_project(y: &Tensor, z: &Tensor, weight: &Tensor, out_proj: &Linear, order: Order) -> Tensor {
    struct Op(Order, bool);

    impl Backward for Op {
        fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            let Some(grad) = &grads[0] else {
                return std::iter::repeat_with(|| None).take(4 + usize::from(self.1)).collect();
            };
            let [y, z, weight, project] = saved else { panic!("four tensors were kept") };
            let (y, z) = (positions(y), positions(z));
            let grad = positions(grad);
            let (dy, dz) = (y.empty_like(), z.empty_like());
            let mut d_project = project.zeros_like();
            let mut d_weight = weight.zeros_like();
            let (count, kind) = (y.size()[0], y.kind());
            for from in (0..count).step_by(POSITIONS as usize) {
                let rows = |t: &Tensor| t.narrow(0, from, POSITIONS.min(count - from));
                let (grad, y, z) = (rows(&grad), rows(&y), rows(&z));
                let gated = norm_gate(&y, &z, weight, self.0);
                let _ = d_project.addmm_(&grad.transpose(0, 1), &gated);
                let grad = grad.mm(project);
                let read = [&y, &z, weight, &grad];
                let (mut dy, mut dz) = (rows(&dy), rows(&dz));
                d_weight += by_kind!(kind, norm_gate_back(read, [&mut dy, &mut dz], self.0));
            }
            let mut found =
                vec![Some(dy.view_as(&saved[0])), Some(dz.view_as(&saved[1])), Some(d_weight), Some(d_project)];
            if self.1 {
                found.push(Some(grad.sum_dim_intlist([0].as_slice(), false, kind)));
            }
            found
        }
    }

    if out_proj.precision != Precision::F32 || !native_for(y) {
        return plain_norm_gate(y, z, weight, order).apply(out_proj);
    }
    let bias = out_proj.bs.as_ref();
    let out = tch::no_grad(|| {
        let ([y, z], weight) = ([y, z].map(|t| positions(&t.detach())), weight.detach());
        let (count, project) = (y.size()[0], out_proj.ws.detach().transpose(0, 1));
        let out = Tensor::empty([count, project.size()[1]], (y.kind(), y.device()));
        for from in (0..count).step_by(POSITIONS as usize) {
            let rows = |t: &Tensor| t.narrow(0, from, POSITIONS.min(count - from));
            let gated = norm_gate(&rows(&y), &rows(&z), &weight, order);
            let _ = gated.mm_out(&rows(&out), &project);
        }
        match bias {
            Some(bias) => out + bias.detach(),
            None => out,
        }
    });
    let mut shape = y.size();
    *shape.last_mut().expect("axes") = out_proj.ws.size()[0];
    let out = out.view(shape.as_slice()).detach();
    let mut inputs = vec![y, z, weight, &out_proj.ws];
    inputs.extend(bias);
    attach(Op(order, bias.is_some()), &inputs, &[&out], &inputs[..4]);
    out
}

/// The norm and the gate in libtorch's operations.
fn plain_norm_gate(y: &Tensor, z: &Tensor, weight: &Tensor, order: Order) -> Tensor {
    let norm = |t: &Tensor| t.rms_norm([weight.size()[0]], Some(weight), EPS);
    match order {
        Order::NormThenGate => norm(y) * z.silu(),
        Order::GateThenNorm => norm(&(y * z.silu())),
    }
}

/// `[…, width]` → `[positions, width]`, packed.
fn positions(t: &Tensor) -> Tensor {
    t.contiguous().view([-1, *t.size().last().expect("axes")])
}

/// Without a graph; `[positions, width]`.
fn norm_gate(y: &Tensor, z: &Tensor, weight: &Tensor, order: Order) -> Tensor {
    fn run<T: Real>(y: &Tensor, z: &Tensor, weight: &Tensor, order: Order) -> Tensor {
        let mut out = y.empty_like();
        let n = y.size()[1] as usize;
        let (y, z, weight) = (elements::<T>(y), elements::<T>(z), elements::<T>(weight));
        let shared = Shared::new(elements_mut::<T>(&mut out));
        parallel_for(y.len() / n, GRAIN, |r| {
            let wide = r.start * n..r.end * n;
            // SAFETY: pieces do not overlap.
            let out = unsafe { shared.part(wide.start, wide.len()) };
            norm_gate_rows(out, &y[wide.clone()], &z[wide], weight, order);
        });
        out
    }
    let weight = weight.detach().contiguous();
    by_kind!(y.kind(), run(y, z, &weight, order))
}

/// Positions that a thread takes at least.
const GRAIN: usize = 32;

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn norm_gate_rows<T: Real>(out: &mut [T], y: &[T], z: &[T], weight: &[T], order: Order) {
    let n = weight.len();
    for ((out, y), z) in out.chunks_exact_mut(n).zip(y.chunks_exact(n)).zip(z.chunks_exact(n)) {
        match order {
            Order::NormThenGate => {
                let r = scale_of(y);
                for i in 0..n {
                    out[i] = y[i] * r * weight[i] * (z[i] * z[i].sigmoid());
                }
            }
            Order::GateThenNorm => {
                for i in 0..n {
                    out[i] = y[i] * (z[i] * z[i].sigmoid());
                }
                let r = scale_of(out);
                for i in 0..n {
                    out[i] = out[i] * r * weight[i];
                }
            }
        }
    }
}

/// `1 / √(mean of squares + ε)`.
#[inline(always)]
fn scale_of<T: Real>(y: &[T]) -> T {
    (dot(y, y) / T::of(y.len() as f64) + T::of(EPS)).inverse_sqrt()
}

/// Gradients of y and z into the last two, that of the weight returned; `read` is y, z, the weight and the gradient.
fn norm_gate_back<T: Real>(read: [&Tensor; 4], written: [&mut Tensor; 2], order: Order) -> Tensor {
    let weight = read[2].contiguous();
    let (n, count) = (weight.numel(), read[0].size()[0] as usize);
    let pieces = count.div_ceil(GRAIN);
    let mut partial = Tensor::zeros([pieces as i64, n as i64], (T::KIND, weight.device()));
    let [y, z, grad] = [read[0], read[1], read[3]].map(elements::<T>);
    let weight = elements::<T>(&weight);
    let [dy, dz] = written.map(|t| Shared::new(elements_mut::<T>(t)));
    let sums = Shared::new(elements_mut::<T>(&mut partial));
    parallel_for(pieces, 1, |range| {
        for piece in range {
            let wide = piece * GRAIN * n..((piece + 1) * GRAIN).min(count) * n;
            // SAFETY: pieces do not overlap.
            let (dy, dz, sum) =
                unsafe { (dy.part(wide.start, wide.len()), dz.part(wide.start, wide.len()), sums.part(piece * n, n)) };
            norm_gate_back_rows([&y[wide.clone()], &z[wide.clone()], weight, &grad[wide]], [dy, dz, sum], order);
        }
    });
    partial.sum_dim_intlist([0].as_slice(), false, T::KIND)
}

/// With `u` the normalised vector's source and `t` the gradient of `u r`: `du = r (t - u r² mean(t u))`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn norm_gate_back_rows<T: Real>([y, z, weight, grad]: [&[T]; 4], [dy, dz, d_weight]: [&mut [T]; 3], order: Order) {
    let n = weight.len();
    let d_weight = &mut d_weight[..n];
    let read = y.chunks_exact(n).zip(z.chunks_exact(n)).zip(grad.chunks_exact(n));
    for ((dy, dz), ((y, z), grad)) in dy.chunks_exact_mut(n).zip(dz.chunks_exact_mut(n)).zip(read) {
        match order {
            Order::NormThenGate => {
                let r = scale_of(y);
                for i in 0..n {
                    let open = z[i].sigmoid();
                    let (gate, slope) = (z[i] * open, open * (T::ONE + z[i] * (T::ONE - open)));
                    let normed = y[i] * r;
                    dz[i] = grad[i] * normed * weight[i] * slope;
                    d_weight[i] += grad[i] * gate * normed;
                    dy[i] = grad[i] * gate * weight[i];
                }
                let mean = dot(dy, y) / T::of(n as f64) * r * r;
                for i in 0..n {
                    dy[i] = r * (dy[i] - y[i] * mean);
                }
            }
            Order::GateThenNorm => {
                for i in 0..n {
                    dy[i] = y[i] * (z[i] * z[i].sigmoid()); // the gated y
                    dz[i] = grad[i] * weight[i];
                }
                let r = scale_of(dy);
                let mean = dot(dz, dy) / T::of(n as f64) * r * r;
                for i in 0..n {
                    let open = z[i].sigmoid();
                    let (gate, slope) = (z[i] * open, open * (T::ONE + z[i] * (T::ONE - open)));
                    d_weight[i] += grad[i] * dy[i] * r;
                    let d_gated = r * (dz[i] - dy[i] * mean);
                    dy[i] = d_gated * gate;
                    dz[i] = d_gated * y[i] * slope;
                }
            }
        }
    }
}

/// PyTorch's default for a weight or bias that sums `fan_in` terms; tch's own default is wider.
pub(crate) fn fan_in(fan_in: i64) -> Init {
    let bound = 1.0 / (fan_in as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// The parameter `name`, `[steps]`: the inverse softplus of steps drawn log-uniformly.
pub(crate) fn step_bias(vs: &nn::Path, name: &str, steps: i64, dt_min: f64, dt_max: f64) -> Tensor {
    let mut dt_bias = vs.var(name, &[steps], Init::Uniform { lo: dt_min.ln(), up: dt_max.ln() });
    tch::no_grad(|| {
        let dt = dt_bias.exp().clamp_min(DT_FLOOR);
        dt_bias.copy_(&(&dt + (-(-&dt).expm1()).log()));
    });
    dt_bias
}

/// A dense layer cut into its outputs. The weights are cut, not the activations: each part then lies packed, and its
/// gradient needs no padding back.
pub(crate) fn project<const N: usize>(u: &Tensor, layer: &Linear, widths: [i64; N]) -> [Tensor; N] {
    let weights = layer.ws.split_with_sizes(widths, 0);
    let biases = layer.bs.as_ref().map(|b| b.split_with_sizes(widths, 0));
    std::array::from_fn(|i| layer.precision.linear(u, &weights[i], biases.as_ref().map(|b| &b[i])))
}

/// The convolution's parameters for `x` and for B and C.
pub(crate) fn cut_filters(weight: &Tensor, bias: &Tensor, widths: [i64; 2]) -> [Tensor; 4] {
    let (weights, biases) = (weight.split_with_sizes(widths, 0), bias.split_with_sizes(widths, 0));
    [&weights[0], &biases[0], &weights[1], &biases[1]].map(Tensor::shallow_clone)
}

/// [`ScanInputs::valid`].
pub(crate) fn valid(u: &Tensor, ctx: &Context) -> Option<Tensor> {
    ctx.valid(u.size()[1], u.device()).map(|valid| valid.unsqueeze(-1).to_kind(u.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{assert_twins, noise};
    use tch::Kind;

    fn leaf(shape: &[i64], salt: i64, kind: Kind) -> Tensor {
        noise(shape, salt).to_kind(kind).set_requires_grad(true)
    }

    #[test]
    fn norm_gate_and_projection_are_their_plain_twins_in_values_and_gradients() {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5)] {
            for (order, bias) in [(Order::NormThenGate, true), (Order::GateThenNorm, false)] {
                for shape in [[2, 5, 6], [1, 1, 40], [3, 50, 24]] {
                    let width = shape[2];
                    let [y, z] = [1, 2].map(|salt| leaf(&shape, salt, kind));
                    let weight = leaf(&[width], 3, kind);
                    let bias = bias.then(|| leaf(&[4], 4, kind));
                    let layer = Linear { ws: leaf(&[4, width], 5, kind), bs: bias, precision: Precision::F32 };
                    let fast = norm_gate_project(&y, &z, &weight, &layer, order);
                    let plain = plain_norm_gate(&y, &z, &weight, order);
                    let mut leaves = vec![&y, &z, &weight, &layer.ws];
                    leaves.extend(&layer.bs);
                    assert_twins(
                        &fast,
                        &plain.apply(&layer),
                        &leaves,
                        tolerance,
                        &format!("{order:?} {shape:?} {kind:?}"),
                    );
                }
            }
        }
    }

    #[test]
    fn the_inside_is_its_plain_twin_in_values_and_gradients() {
        let (batch, length, heads, d_head, d_state, groups) = (3, 11, 4, 3, 5, 2);
        let kind = Kind::Double;
        for combine in [Combine::Add, Combine::Multiply, Combine::Concat] {
            for (scans, strict, conv, fc_d, d, initial, padded) in [
                (2, true, true, true, true, false, false),
                (2, false, true, false, true, true, true),
                (1, false, true, false, true, true, false),
                (2, true, false, false, false, true, false),
            ] {
                let (d_inner, bc) = (heads * d_head, 2 * scans * groups * d_state);
                let width = 3;
                let positive = |salt| (noise(&[batch, length, heads], salt) / 4.0 + 0.3).set_requires_grad(true);
                let filters = || {
                    [
                        leaf(&[d_inner, 1, width], 5, kind),
                        leaf(&[d_inner], 6, kind),
                        leaf(&[bc, 1, width], 7, kind),
                        leaf(&[bc], 8, kind),
                    ]
                };
                let parts = ScanInputs {
                    x: leaf(&[batch, length, d_inner], 1, kind),
                    bc: leaf(&[batch, length, bc], 2, kind),
                    dt: (0..scans).map(|i| positive(3 + 20 * i)).collect(),
                    a: (noise(&[heads], 4) / 2.0 - 1.0).set_requires_grad(true),
                    conv: conv.then(filters),
                    fc_d: fc_d.then(|| leaf(&[heads, d_inner], 9, kind)),
                    d: d.then(|| leaf(&[heads], 10, kind)),
                    initial: initial.then(|| leaf(&[heads, d_head, d_state], 11, kind)),
                    valid: padded.then(|| {
                        let ctx = Context {
                            train: false,
                            lengths: Some(Tensor::from_slice(&[11i64, 4, 7])),
                            ..Context::default()
                        };
                        valid(&Tensor::zeros([batch, length, 1], (kind, tch::Device::Cpu)), &ctx).expect("lengths")
                    }),
                };
                let reads = (0..scans).map(|i| Reads::new(i == 1, strict)).collect();
                let inside = SsdBlock { reads, combine, chunk: 4, heads, groups, causal: scans == 1 };
                let leaves: Vec<&Tensor> = parts.list().into_iter().filter(|t| t.requires_grad()).collect();
                let case = format!("{inside:?}");
                assert_twins(&inside.apply(&parts), &inside.plain(&parts), &leaves, 1e-10, &case);
            }
        }
    }

    #[test]
    fn rows_worked_on_one_after_another_give_what_they_give_together() {
        let (heads, d_head, d_state) = (2, 4, 3);
        let run = |batch: i64, length: i64| {
            let parts = ScanInputs {
                x: leaf(&[batch, length, heads * d_head], 1, Kind::Double),
                bc: leaf(&[batch, length, 4 * d_state], 2, Kind::Double),
                dt: vec![(noise(&[batch, length, heads], 3) / 4.0 + 0.3).set_requires_grad(true)],
                a: Tensor::from_slice(&[-1.0, -0.5]).set_requires_grad(true),
                conv: None,
                fc_d: None,
                d: None,
                initial: None,
                valid: None,
            };
            let inside = SsdBlock {
                reads: vec![Reads::PastAndSelf],
                combine: Combine::Add,
                chunk: 64,
                heads,
                groups: 2,
                causal: true,
            };
            (inside, parts)
        };
        // Two rows past POSITIONS: three pieces.
        let (inside, parts) = run(3, POSITIONS - 100);
        assert_eq!(pieces(&parts.x).count(), 3);
        let leaves: Vec<&Tensor> = parts.list();
        assert_twins(&inside.apply(&parts), &inside.plain(&parts), &leaves, 1e-10, "three pieces");
    }
}
