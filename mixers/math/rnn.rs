//! The layer around recurrent networks: one direction or two, and the way back to the model's width.
//!
//! ```text
//! h = run(x)                                         causal
//! h = [run(x) | reverse(run'(reverse(x)))]           bidirectional: two networks, each reads its row from its own end
//! y = out_proj h                                     left out where h is as wide as x already
//! ```
//! Names, layout of the gates and initial values are those of `torch.nn.LSTM` and `torch.nn.GRU`. On a CPU both directions of a GRU are
//! one loop (`rnn_scan.rs`); elsewhere, and for an LSTM, libtorch runs each.

use crate::math::rnn_scan::scan;
use crate::native::kernels::native_for;
use crate::{
    ConfigError, Context, Cost, Dims, Linear, Mixer, NotLinear, Recurrent, at_least, linear, linear_flops, tensor_bytes,
};
use tch::Tensor;
use tch::nn::{self, Init};

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell {
    /// Gates i, f, g, o; the biases of f add up to this.
    Lstm { forget_bias: f64 },
    /// Gates r, z, n.
    Gru,
}

impl Cell {
    fn gates(self) -> i64 {
        match self {
            Self::Lstm { .. } => 4,
            Self::Gru => 3,
        }
    }

    /// Tensors of state, each as wide as h, which is the first.
    fn states(self) -> usize {
        match self {
            Self::Lstm { .. } => 2,
            Self::Gru => 1,
        }
    }

    /// h of every position and of one direction or two, side by side, `[batch, length, directions · d_hidden]`.
    fn read(self, x: &Tensor, networks: &[&[Tensor; 4]], lengths: Option<&Tensor>) -> Tensor {
        if self == Self::Gru && native_for(x) { scan(x, networks, lengths) } else { self.plain(x, networks, lengths) }
    }

    /// The same by libtorch's networks.
    fn plain(self, x: &Tensor, networks: &[&[Tensor; 4]], lengths: Option<&Tensor>) -> Tensor {
        let ctx = Context { lengths: lengths.map(Tensor::shallow_clone), ..Context::default() };
        match networks {
            [past] => self.run(x, past),
            [past, future] => Tensor::cat(&[self.run(x, past), ctx.reversed(&self.run(&ctx.reversed(x), future))], -1),
            _ => unreachable!("one direction or two"),
        }
    }

    /// `[batch, length, d_model]` → h of every position, `[batch, length, d_hidden]`, by libtorch.
    fn run(self, x: &Tensor, weights: &[Tensor; 4]) -> Tensor {
        let size = [1, x.size()[0], weights[1].size()[1]];
        let start: Vec<Tensor> = (0..self.states()).map(|_| Tensor::zeros(size, (x.kind(), x.device()))).collect();
        match self {
            Self::Lstm { .. } => x.lstm(&start, weights, true, 1, 0.0, false, false, true).0,
            Self::Gru => x.gru(&start[0], weights, true, 1, 0.0, false, false, true).0,
        }
    }
}

/// The settings both networks have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Width of h; `None`: `d_model`.
    pub d_hidden: Option<i64>,
    /// W_hh of each gate starts orthogonal.
    pub orthogonal: bool,
}

impl Sizes {
    /// Numbers of a layer whose cell has so many gates.
    pub fn scalars(self, gates: f64, dims: &Dims) -> f64 {
        let d = dims.d_model as f64;
        let h = self.d_hidden.map_or(d, |h| h as f64);
        let ends = if dims.causal { 1.0 } else { 2.0 };
        ends * gates * h * (d + h + 2.0) + (ends * h + 1.0) * d
    }

    pub fn check(self) -> Option<ConfigError> {
        at_least("d_hidden", self.d_hidden.unwrap_or(1), 1).err()
    }
}

/// W_ih `[gates · d_hidden, d_model]`, W_hh `[gates · d_hidden, d_hidden]`, b_ih and b_hh `[gates · d_hidden]`.
#[derive(Debug)]
pub(crate) struct Network {
    cell: Cell,
    pub weights: [Tensor; 4],
}

impl Network {
    /// `suffix` is torch's: empty, or `_reverse`.
    fn new(vs: &nn::Path, cell: Cell, d_model: i64, d_hidden: i64, orthogonal: bool, suffix: &str) -> Self {
        let bound = 1.0 / (d_hidden as f64).sqrt();
        let rows = cell.gates() * d_hidden;
        let var = |name: &str, shape: &[i64]| {
            vs.var(&format!("{name}_l0{suffix}"), shape, Init::Uniform { lo: -bound, up: bound })
        };
        let w_ih = var("weight_ih", &[rows, d_model]);
        let w_hh = var("weight_hh", &[rows, d_hidden]);
        let [b_ih, b_hh] = ["bias_ih", "bias_hh"].map(|name| var(name, &[rows]));
        tch::no_grad(|| {
            if orthogonal {
                (0..cell.gates())
                    .for_each(|gate| w_hh.narrow(0, gate * d_hidden, d_hidden).init(Init::Orthogonal { gain: 1.0 }));
            }
            if let Cell::Lstm { forget_bias } = cell {
                let forget = |bias: &Tensor| bias.narrow(0, d_hidden, d_hidden);
                let _ = (forget(&b_ih).fill_(forget_bias), forget(&b_hh).fill_(0.0));
            }
        });
        Self { cell, weights: [w_ih, w_hh, b_ih, b_hh] }
    }

    fn d_hidden(&self) -> i64 {
        self.weights[1].size()[1]
    }

    /// The state of `batch` sequences that have not begun, each tensor `[batch, d_hidden]`.
    fn start(&self, batch: i64) -> Vec<Tensor> {
        let like = &self.weights[1];
        (0..self.cell.states()).map(|_| Tensor::zeros([batch, self.d_hidden()], (like.kind(), like.device()))).collect()
    }

    /// One token, `[batch, d_model]`.
    fn step(&self, x: &Tensor, state: &[Tensor]) -> Vec<Tensor> {
        let [w_ih, w_hh, b_ih, b_hh] = &self.weights;
        match self.cell {
            Cell::Lstm { .. } => {
                let state: Vec<&Tensor> = state.iter().collect();
                let (h, c) = x.lstm_cell(&state, w_ih, w_hh, Some(b_ih), Some(b_hh));
                vec![h, c]
            }
            Cell::Gru => vec![x.gru_cell(&state[0], w_ih, w_hh, Some(b_ih), Some(b_hh))],
        }
    }
}

/// The layer; see the head of this file.
#[derive(Debug)]
pub(crate) struct Layer {
    /// The causal one, or both directions.
    pub networks: Vec<Network>,
    pub out_proj: Option<Linear>,
    d_model: i64,
}

impl Layer {
    pub fn new(vs: &nn::Path, dims: &Dims, cell: Cell, sizes: Sizes) -> Self {
        let d = dims.d_model;
        let d_hidden = sizes.d_hidden.unwrap_or(d);
        let suffixes: &[&str] = if dims.causal { &[""] } else { &["", "_reverse"] };
        let network = |suffix: &&str| Network::new(vs, cell, d, d_hidden, sizes.orthogonal, suffix);
        let networks: Vec<Network> = suffixes.iter().map(network).collect();
        let width = networks.len() as i64 * d_hidden;
        let out_proj = (width != d || !dims.causal).then(|| linear(&(vs / "out_proj"), width, d, true));
        Self { networks, out_proj, d_model: d }
    }

    /// h of every position and direction, side by side.
    fn read(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let (cell, count) = (self.networks[0].cell, self.networks.len());
        let mut inputs = vec![x];
        inputs.extend(self.networks.iter().flat_map(|network| &network.weights));
        inputs.extend(ctx.lengths.as_ref().filter(|_| count > 1));
        let read = move |t: &[Tensor]| {
            let weights: Vec<&[Tensor; 4]> = t[1..].as_chunks::<4>().0.iter().take(count).collect();
            cell.read(&t[0], &weights, t.get(1 + 4 * count))
        };
        read(&inputs.into_iter().map(Tensor::shallow_clone).collect::<Vec<_>>())
    }

    fn project(&self, h: Tensor) -> Tensor {
        match &self.out_proj {
            None => h,
            Some(out_proj) => h.apply(out_proj),
        }
    }

    fn not_linear<T>(&self) -> Result<T, NotLinear> {
        Err(NotLinear(
            "the gates of a recurrent network read its own past outputs, so that Y is no linear map of any V",
        ))
    }
}

impl Mixer for Layer {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        self.project(self.read(x, ctx))
    }

    fn materialize(&self, _: &Tensor, _: &Context) -> Result<Tensor, NotLinear> {
        self.not_linear()
    }

    fn values(&self, _: &Tensor, _: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        self.not_linear()
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        let [network] = self.networks.as_slice() else { return None };
        Some(Box::new(Stepper { layer: self, network, state: network.start(1) }))
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, count) = (self.d_model, self.networks.len() as i64);
        let (cell, h) = (self.networks[0].cell, self.networks[0].d_hidden());
        let rows = cell.gates() * h;
        let (projection, projecting) = match self.out_proj {
            None => (0, 0),
            Some(_) => ((count * h + 1) * d, linear_flops(length, count * h, d)),
        };
        Cost {
            params: count * rows * (d + h + 2) + projection,
            state_bytes: if count == 1 { 4 * cell.states() as i64 * h } else { 0 },
            flops: count * linear_flops(length, d + h, rows) + projecting,
        }
    }

    fn output_map(&self) -> Option<&'static str> {
        self.out_proj.as_ref().map(|_| "out_proj.weight")
    }
}

/// h, and c where there is one.
struct Stepper<'a> {
    layer: &'a Layer,
    network: &'a Network,
    state: Vec<Tensor>,
}

impl Recurrent for Stepper<'_> {
    fn reset(&mut self, batch: i64) {
        self.state = self.network.start(batch);
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        self.state = self.network.step(x, &self.state);
        self.layer.project(self.state[0].shallow_clone())
    }

    fn state_bytes(&self) -> i64 {
        self.state.iter().map(tensor_bytes).sum()
    }

    fn state(&self) -> Vec<Tensor> {
        self.state.iter().map(Tensor::shallow_clone).collect()
    }
}

/// The layer against its equations, one token after another, in float64, in values and gradients: `cell` makes the next state of
/// `x_t`, the last state and the weights.
#[cfg(test)]
pub(crate) fn assert_plain_twin(
    build: impl Fn(&nn::Path, &Dims) -> Layer,
    cell: impl Fn(&Tensor, &[Tensor], &[Tensor; 4]) -> Vec<Tensor>,
) {
    use crate::laws::testing::noise;
    use tch::{Device, Kind};
    let run = |network: &Network, x: &Tensor| {
        let mut state = network.start(1);
        let outputs = (0..x.size()[1]).map(|t| {
            state = cell(&x.select(1, t), &state, &network.weights);
            state[0].shallow_clone()
        });
        Tensor::stack(&outputs.collect::<Vec<_>>(), 1)
    };
    for (causal, lengths) in [(true, [11, 11]), (false, [11, 11]), (false, [11, 4])] {
        let mut vs = nn::VarStore::new(Device::Cpu);
        let layer = build(&vs.root(), &Dims { d_model: 6, seq_len: 11, causal });
        vs.double();
        let x = noise(&[2, 11, 6], 3).set_requires_grad(true);
        let ctx = Context { lengths: Some(Tensor::from_slice(&lengths)), ..Context::default() };
        let fast = ctx.zero_padding(&layer.forward(&x, &ctx));
        // Each row by itself and without its padding.
        let rows = lengths.iter().zip(0..).map(|(&length, row)| {
            let x = x.narrow(0, row, 1).narrow(1, 0, length);
            let mut sides = vec![run(&layer.networks[0], &x)];
            sides.extend(layer.networks.get(1).map(|network| run(network, &x.flip([1])).flip([1])));
            layer.project(Tensor::cat(&sides, -1)).constant_pad_nd([0, 0, 0, 11 - length])
        });
        let slow = Tensor::cat(&rows.collect::<Vec<_>>(), 0);
        let mut leaves = vs.trainable_variables();
        leaves.push(x);
        let error = crate::laws::goldens::relative_error(&fast, &slow);
        assert!(error < 1e-12, "values are {error:.1e} off, causal {causal}, {lengths:?}");
        let gradients =
            |y: &Tensor| Tensor::run_backward(&[(y * noise(&y.size(), 4)).sum(Kind::Double)], &leaves, false, false);
        for (i, (fast, slow)) in gradients(&fast).iter().zip(gradients(&slow)).enumerate() {
            let error = crate::laws::goldens::relative_error(fast, &slow);
            assert!(error < 1e-11, "gradient {i} is {error:.1e} off, causal {causal}, {lengths:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{assert_twins, noise};
    use crate::native::kernels::{Kernels, with};
    use tch::nn::VarStore;
    use tch::{Device, Kind};

    #[test]
    fn one_loop_over_both_directions_is_libtorch_s_networks_in_values_and_gradients() {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 2e-5)] {
            for (causal, d_hidden, lengths) in
                [(true, 8, None), (false, 33, None), (false, 5, Some([13i64, 1, 7])), (false, 5, Some([13, 0, 7]))]
            {
                for length in [1, 13] {
                    let mut vs = VarStore::new(Device::Cpu);
                    let sizes = Sizes { d_hidden: Some(d_hidden), orthogonal: false };
                    let layer = Layer::new(&vs.root(), &Dims { d_model: 6, seq_len: length, causal }, Cell::Gru, sizes);
                    if kind == Kind::Double {
                        vs.double();
                    }
                    let x = noise(&[3, length, 6], 1).to_kind(kind).set_requires_grad(true);
                    let lengths = lengths.map(|l| Tensor::from_slice(&l.map(|n| n.min(length))));
                    let ctx = Context { lengths, ..Context::default() };
                    let mut leaves: Vec<&Tensor> = layer.networks.iter().flat_map(|n| &n.weights).collect();
                    leaves.push(&x);
                    let case = format!("causal {causal}, d_hidden {d_hidden}, length {length}, {kind:?}");
                    let plain = with(Kernels::Plain, || layer.read(&x, &ctx));
                    assert_twins(&layer.read(&x, &ctx), &plain, &leaves, tolerance, &case);
                }
            }
        }
    }

    #[test]
    fn rows_and_threads_change_nothing() {
        let vs = VarStore::new(Device::Cpu);
        let dims = Dims { d_model: 4, seq_len: 9, causal: false };
        let layer = Layer::new(&vs.root(), &dims, Cell::Gru, Sizes { d_hidden: None, orthogonal: false });
        let x = noise(&[40, 9, 4], 1).to_kind(Kind::Float);
        let all = tch::no_grad(|| layer.read(&x, &Context::eval()));
        for row in [0, 17, 39] {
            let alone = tch::no_grad(|| layer.read(&x.narrow(0, row, 1), &Context::eval()));
            assert!(alone.allclose(&all.narrow(0, row, 1), 1e-6, 1e-6, false), "row {row}");
        }
    }
}
