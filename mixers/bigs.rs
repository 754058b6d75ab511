//! BiGS: a gated unit whose gate reads the sequence through two state spaces, one from each end.
//!
//! ```text
//! v = σ(W_v h)                                 d → f
//! a = W_a SSM_f(σ(W_uf h))                     d → d, position t reads s ≤ t
//! b = W_b SSM_b(σ(W_ub h))                     d → d, position t reads s ≥ t
//! y = W_o (σ(W_l (a ⊙ b)) ⊙ v)                 d → f → d;  σ = GELU, every map with a bias
//! SSM:  y = K * u + D u,   K[l] = Re Σ_n C_n (e^{dt A_n} - 1)/A_n e^{l dt A_n}     one kernel for all channels
//! ```
//! Paper    Wang et al. 2022, arXiv:2212.10544, §3-4
//! Time     O(length · (d_model · d_ff + d_model · log length) + d_state · length)
//! Memory   O(length · (d_model + d_ff))
//! Matches  jxiw/BiGS `96fa408`, the PyTorch port (dumps `bigs_kernel`, `bigs_ssm`, `bigs_layer`), parameter names included
//! Departs  - LayerNorm and residual of the reference layer are the backbone's; `bigs_layer` is replayed with both.
//!          - Padding: the reference does not mask inside its layers, so what stands in the padding changes valid
//!            positions through SSM_b. Here `mask_padding` (on unless switched off) zeroes what both SSMs read there; a
//!            valid position then does not depend on padding. Without padding both are the same.
//! Decay    None of its parameters is exempt: the reference decays A, C, D and log_step at the full learning rate, though
//!          a comment of the official JAX code promises otherwise.

use crate::goldens::{Golden, GoldenError, Replay};
use crate::math::conv::{complex_expm1, exponential_kernel, fft_conv, fft_conv_anticausal, fft_conv_flops, rfft_flops};
use crate::{ConfigError, Context, Cost, Dims, Family, Mixer, NotLinear, at_least, between, linear_flops};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor, nn};

/// `mixer: { bigs: { d_state: 64 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Width of the gate (f). Null is 3 d_model, as in the published models.
    pub d_ff: Option<i64>,
    /// Complex modes of each state space (N); they do not come in conjugate pairs.
    pub d_state: i64,
    /// Least initial step dt, in units of a position; dt is drawn log-uniformly, once per direction.
    pub dt_min: f64,
    /// Largest initial step dt.
    pub dt_max: f64,
    /// Let neither state space read what stands in the padding. The reference does read it.
    pub mask_padding: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { d_ff: None, d_state: 64, dt_min: 0.01, dt_max: 1.0, mask_padding: true }
    }
}

impl Config {
    fn d_ff(&self, dims: &Dims) -> i64 {
        self.d_ff.unwrap_or(3 * dims.d_model)
    }
}

impl Family for Config {
    const NAME: &'static str = "bigs";
    const ABOUT: &'static str =
        "bidirectional gated state spaces: the product of a forward and a backward SSM as a gate";
    const PAPER: &'static str = "Wang et al. 2022, arXiv:2212.10544, §3";
    const COMPLEXITY: &'static str = "time O(d_model · length · log length), memory O(length · d_ff)";
    const VERSION: u32 = 1;

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let both_ways = ConfigError {
            key: "bigs",
            problem: "`bigs` reads the sequence from both ends, but the task is causal".into(),
            help: "set `causal: false` on the task or leave this mixer out".into(),
        };
        let checks = [
            if dims.causal { Err(both_ways) } else { Ok(()) },
            at_least("d_ff", self.d_ff(dims), 1),
            at_least("d_state", self.d_state, 1),
            between("dt_max", self.dt_max, 1e-6, 1e4),
            between("dt_min", self.dt_min, 1e-6, self.dt_max.max(1e-6)),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Bigs::new(vs, dims, self))
    }
}

/// The gated layer; fields are named as the reference's parameters.
#[derive(Debug)]
struct Bigs {
    dv: nn::Linear,
    du_forward: nn::Linear,
    du_backward: nn::Linear,
    duc_forward: nn::Linear,
    duc_backward: nn::Linear,
    dol: nn::Linear,
    out: nn::Linear,
    fs4: Ssm,
    bs4: Ssm,
    cfg: Config,
    dims: Dims,
}

impl Bigs {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let (d, f) = (dims.d_model, cfg.d_ff(dims));
        let init = nn::LinearConfig {
            ws_init: Init::Randn { mean: 0.0, stdev: 0.02 },
            bs_init: Some(Init::Const(0.0)),
            bias: true,
        };
        let linear = |name: &str, d_in, d_out| nn::linear(vs / name, d_in, d_out, init);
        Self {
            dv: linear("dv", d, f),
            du_forward: linear("du_forward", d, d),
            du_backward: linear("du_backward", d, d),
            duc_forward: linear("duc_forward", d, d),
            duc_backward: linear("duc_backward", d, d),
            dol: linear("dol", d, f),
            out: linear("do", f, d),
            fs4: Ssm::new(&(vs / "fs4"), cfg),
            bs4: Ssm::new(&(vs / "bs4"), cfg),
            cfg: cfg.clone(),
            dims: *dims,
        }
    }

    /// What a state space reads: `[batch, length, d_model]` with the padding at zero, which no SSM of either direction
    /// carries into a valid position.
    fn masked(&self, u: Tensor, ctx: &Context) -> Tensor {
        if self.cfg.mask_padding { ctx.zero_padding(&u) } else { u }
    }
}

impl Mixer for Bigs {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let gelu = |t: Tensor| t.gelu("none");
        let read = |through: &nn::Linear| self.masked(gelu(x.apply(through)), ctx);
        let a = self.fs4.forward(&read(&self.du_forward)).apply(&self.duc_forward);
        let b = self.bs4.backward(&read(&self.du_backward)).apply(&self.duc_backward);
        let v = gelu(x.apply(&self.dv));
        (gelu((a * b).apply(&self.dol)) * v).apply(&self.out)
    }

    fn materialize(&self, _x: &Tensor, _ctx: &Context) -> Result<Tensor, NotLinear> {
        Err(NotLinear("the two directions are multiplied, so the layer is quadratic in what they read"))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        self.materialize(x, ctx).map(|_| unreachable!("BiGS has no mixing matrix"))
    }

    /// A kernel counts once per direction and sequence, since all channels share it.
    fn cost(&self, length: i64) -> Cost {
        let (d, f, n) = (self.dims.d_model, self.cfg.d_ff(&self.dims), self.cfg.d_state);
        let maps = 2 * linear_flops(length, d, f) + linear_flops(length, f, d) + 4 * linear_flops(length, d, d);
        let ssm = 4 * n * length + rfft_flops(2 * length) + d * (fft_conv_flops(length, length) + 2 * length);
        Cost {
            params: 3 * d * f + 2 * f + d + 4 * d * (d + 1) + 2 * (4 * n + 2),
            state_bytes: 0,
            flops: maps + 2 * ssm,
        }
    }
}

/// One scalar state space with a skip connection, the same for every channel.
#[derive(Debug)]
struct Ssm {
    kernel: Kernel,
    /// `[1]`.
    d: Tensor,
}

impl Ssm {
    fn new(vs: &nn::Path, cfg: &Config) -> Self {
        Self { kernel: Kernel::new(&(vs / "kernel"), cfg), d: vs.randn_standard("D", &[1]) }
    }

    /// `[batch, length, d]` → same; position t reads s ≤ t.
    fn forward(&self, u: &Tensor) -> Tensor {
        self.apply(u, fft_conv)
    }

    /// `[batch, length, d]` → same; position t reads s ≥ t, as if the reversed sequence ran through and was turned back.
    fn backward(&self, u: &Tensor) -> Tensor {
        self.apply(u, fft_conv_anticausal)
    }

    fn apply(&self, u: &Tensor, convolve: fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
        let k = self.kernel.kernel(u.size()[1]);
        convolve(&u.transpose(1, 2), &k).transpose(1, 2) + u * &self.d
    }
}

/// S4D's kernel with zero-order hold and B = 1, its modes unpaired.
#[derive(Debug)]
struct Kernel {
    /// `[n, 2]`.
    c: Tensor,
    /// `[n]`.
    a_re: Tensor,
    /// `[n]`.
    a_im: Tensor,
    /// log dt, `[1]`.
    log_step: Tensor,
}

impl Kernel {
    fn new(vs: &nn::Path, cfg: &Config) -> Self {
        let n = cfg.d_state;
        let frequencies = Tensor::arange(n, (Kind::Double, Device::Cpu)) * PI;
        Self {
            c: vs.randn("C", &[n, 2], 0.0, 0.5f64.sqrt()),
            a_re: vs.var("A_re", &[n], Init::Const(-0.5)),
            a_im: vs.var_copy("A_im", &frequencies),
            log_step: vs.uniform("log_step", &[1], cfg.dt_min.ln(), cfg.dt_max.ln()),
        }
    }

    /// `[1, length]`.
    fn kernel(&self, length: i64) -> Tensor {
        let a = Tensor::complex(&self.a_re.clamp_max(-1e-4), &self.a_im);
        let lambda = &a * self.log_step.exp();
        let weights = self.c.view_as_complex() * complex_expm1(&lambda) / a;
        exponential_kernel(&weights.unsqueeze(0), &lambda, length)
    }
}

/// `bigs_kernel`: the kernel alone.
pub(crate) fn replay_kernel(golden: &Golden) -> Result<Replay, GoldenError> {
    let mut vs = VarStore::new(Device::Cpu);
    let cfg = Config { d_state: golden.int("N")?, ..Config::default() };
    let kernel = Kernel::new(&vs.root(), &cfg);
    golden.fill(&mut vs)?;
    golden.replay(&[("K", &kernel.kernel(golden.int("L")?))], &[], Some(&vs))
}

/// `bigs_ssm`: one direction with its skip.
pub(crate) fn replay_ssm(golden: &Golden) -> Result<Replay, GoldenError> {
    let mut vs = VarStore::new(Device::Cpu);
    let ssm = Ssm::new(&vs.root(), &Config { d_state: golden.int("num_ssm")?, ..Config::default() });
    golden.fill(&mut vs)?;
    let u = golden.input("u")?;
    golden.replay(&[("y", &ssm.forward(&u))], &[("u", &u)], Some(&vs))
}

/// `bigs_layer`: the layer between the reference's LayerNorm and residual.
pub(crate) fn replay_layer(golden: &Golden) -> Result<Replay, GoldenError> {
    let mut vs = VarStore::new(Device::Cpu);
    let d_model = golden.int("hidden_size")?;
    let cfg =
        Config { d_ff: Some(golden.int("intermediate_size")?), d_state: golden.int("num_ssm")?, ..Config::default() };
    let layer = Bigs::new(&vs.root(), &Dims { d_model, seq_len: golden.int("L")?, causal: false }, &cfg);
    let eps = golden.config["layer_norm_eps"].as_f64().unwrap_or(1e-12);
    let norm = nn::LayerNormConfig { eps, ..Default::default() };
    let norm = nn::layer_norm(vs.root() / "LayerNorm", vec![d_model], norm);
    golden.fill(&mut vs)?;
    let x = golden.input("x")?;
    let y = &x + layer.forward(&x.apply(&norm), &Context::eval());
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goldens::{GroupResult, Verdict, relative_error, verify};

    const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

    /// A float64 layer of width 6 with maps large enough for its gate to matter.
    fn layer(cfg: &Config) -> (VarStore, Bigs) {
        tch::manual_seed(7);
        let mut vs = VarStore::new(Device::Cpu);
        let layer = Bigs::new(&vs.root(), &Dims { d_model: 6, seq_len: 16, causal: false }, cfg);
        vs.set_kind(Kind::Double);
        for (name, mut variable) in vs.variables() {
            if name.ends_with("weight") || name.ends_with("bias") {
                tch::no_grad(|| variable.copy_(&(variable.randn_like() * 0.5)));
            }
        }
        (vs, layer)
    }

    fn small() -> Config {
        Config { d_state: 5, ..Config::default() }
    }

    /// The value of `f` and the gradient of a fixed functional of it by every parameter.
    fn with_gradients(vs: &VarStore, f: impl Fn() -> Tensor) -> Vec<(String, Tensor)> {
        for (_, mut variable) in vs.variables() {
            variable.zero_grad();
        }
        let y = f();
        (&y * Tensor::arange(y.numel() as i64, F64).sin().view_as(&y)).sum(Kind::Double).backward();
        let mut all = vec![("value".to_string(), y.detach())];
        all.extend(vs.variables().into_iter().map(|(name, v)| (name, v.grad().copy())));
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The kernel as the formula writes it, power by power.
    fn powers(kernel: &Kernel, length: i64) -> Tensor {
        let a = Tensor::complex(&kernel.a_re.clamp_max(-1e-4), &kernel.a_im);
        let step = (&a * kernel.log_step.exp()).exp();
        let mut term = kernel.c.view_as_complex() * (&step - 1.0) / a;
        let mut taps = Vec::new();
        for _ in 0..length {
            taps.push(term.real().sum(Kind::Double));
            term = &term * &step;
        }
        Tensor::stack(&taps, 0)
    }

    /// The formula in the head of this file line by line: sums instead of FFTs, the backward side between two flips.
    fn plain(layer: &Bigs, x: &Tensor) -> Tensor {
        let gelu = |t: Tensor| t.gelu("none");
        let flip = |t: &Tensor| t.flip([1]);
        let ssm = |ssm: &Ssm, u: &Tensor| {
            let length = u.size()[1];
            let k = powers(&ssm.kernel, length);
            let at = |t: i64| (0..=t).map(|s| u.select(1, s) * k.get(t - s)).reduce(|sum, term| sum + term);
            Tensor::stack(&(0..length).filter_map(at).collect::<Vec<_>>(), 1) + u * &ssm.d
        };
        let v = gelu(x.apply(&layer.dv));
        let a = ssm(&layer.fs4, &gelu(x.apply(&layer.du_forward))).apply(&layer.duc_forward);
        let b = flip(&ssm(&layer.bs4, &gelu(flip(x).apply(&layer.du_backward))).apply(&layer.duc_backward));
        (gelu((a * b).apply(&layer.dol)) * v).apply(&layer.out)
    }

    #[test]
    fn the_layer_is_the_formula_in_values_and_gradients() {
        let (vs, layer) = layer(&small());
        for length in [1, 2, 11, 20] {
            let x = Tensor::randn([2, length, 6], F64);
            let fast = with_gradients(&vs, || layer.forward(&x, &Context::eval()));
            let slow = with_gradients(&vs, || plain(&layer, &x));
            for ((name, got), (_, want)) in fast.iter().zip(&slow) {
                let error = relative_error(got, want);
                assert!(error < 1e-9, "{name} at {length} is off by {error:.1e}");
            }
        }
    }

    #[test]
    fn masked_padding_reaches_no_valid_position_and_unmasked_padding_does() {
        for mask_padding in [true, false] {
            let (_vs, layer) = layer(&Config { mask_padding, ..small() });
            let ctx = Context { train: false, lengths: Some(Tensor::from_slice(&[5i64, 3])) };
            let x = Tensor::randn([2, 7, 6], F64);
            let longer = Tensor::cat(&[x.shallow_clone(), Tensor::randn([2, 4, 6], F64)], 1);
            let valid = |x: &Tensor| layer.forward(x, &ctx).get(1).narrow(0, 0, 3);
            let error = relative_error(&valid(&longer), &valid(&x));
            assert_eq!(error < 1e-12, mask_padding, "off by {error:.1e}");
        }
    }

    #[test]
    fn a_causal_task_is_refused_with_a_way_out() {
        let dims = |causal| Dims { d_model: 6, seq_len: 16, causal };
        assert!(Config::default().check(&dims(false)).is_empty());
        let errors = Config::default().check(&dims(true));
        assert!(errors.len() == 1 && errors[0].help.contains("causal: false"));
    }

    #[test]
    fn cost_counts_the_parameters_there_are() {
        for cfg in [small(), Config { d_ff: Some(4), ..small() }] {
            let (vs, layer) = layer(&cfg);
            let counted: i64 = vs.variables().values().map(|v| v.numel() as i64).sum();
            assert_eq!(layer.cost(16).params, counted);
        }
    }

    #[test]
    fn a_layer_of_the_published_width_has_13_65_million_parameters() {
        let layer = |d_model| {
            let vs = VarStore::new(Device::Cpu);
            let dims = Dims { d_model, seq_len: 128, causal: false };
            Bigs::new(&vs.root(), &dims, &Config::default()).cost(128).params + 2 * d_model // with its LayerNorm
        };
        assert_eq!((layer(1024) + 5_000) / 10_000, 1_365);
    }

    #[test]
    fn the_kept_reference_dumps_are_met() {
        let mut seen = 0;
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/goldens")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.starts_with("bigs_") {
                continue;
            }
            match verify(&path) {
                Verdict::Compared(groups) => assert!(groups.iter().all(GroupResult::passed), "{name}: {groups:?}"),
                other => panic!("{name}: {other:?}"),
            }
            seen += 1;
        }
        assert!(seen >= 6, "only {seen} dumps");
    }
}
