//! Initial dense maps by a rule of the config's, where a mixer's own initial values are not wanted.

use crate::model::block::Block;
use crate::model::head::Head;
use crate::model::settings::{LinearInit, ModelConfig};
use mixers::{DenseMap, Dims};
use tch::Tensor;
use tch::nn;

/// Draws the dense maps of the first `blocks` blocks under `vs` and those of the head again, where `config` asks for it.
pub(super) fn dense(
    vs: &nn::Path,
    config: &ModelConfig,
    dims: &Dims,
    (mixer, settings): (&mixers::Entry, &serde_json::Value),
    blocks: i64,
    head: &Head,
) {
    if config.linear_init.is_none() && config.linear_std.is_none() {
        return;
    }
    let draw = |inputs: i64, ends: Option<[i64; 2]>| match (config.linear_init, config.linear_std, ends) {
        (Some(LinearInit::Lra), _, None) => Draw::Cut((1.0 / inputs as f64).sqrt()),
        (Some(LinearInit::Lra), _, Some([d_in, d_out])) => Draw::Uniform((6.0 / (d_in + d_out) as f64).sqrt()),
        (None, std, _) => Draw::Normal(std.expect("one of the two")),
    };
    // A path cannot list what lies under it: the names are those of a block built aside.
    let aside = nn::VarStore::new(tch::Device::Cpu);
    let (block, maps) = mixers::recorded(|| Block::new(&aside.root(), config, dims, mixer, settings));
    let maps = named(&aside, maps);
    let last = if config.rescale_residual { block.last_maps() } else { Vec::new() };
    let root = (2.0 * config.n_layers as f64).sqrt();
    for at in (0..blocks).map(|i| vs / "blocks" / i) {
        for Named { weight, bias, ends } in &maps {
            let draw = match draw(ends[0], Some(*ends)) {
                Draw::Normal(std) if last.contains(weight) => Draw::Normal(std / root),
                draw => draw,
            };
            let bias = bias.as_ref().and_then(|bias| find(&at, bias));
            redraw(find(&at, weight).expect("a block built alike"), bias, draw);
        }
    }
    for map in head.maps() {
        let draw = draw(map.ws.size()[1], None);
        redraw(map.ws.shallow_clone(), map.bs.as_ref().map(Tensor::shallow_clone), draw);
    }
}

/// A dense map of a block by the names of its weight and bias.
pub(super) struct Named {
    pub(super) weight: String,
    bias: Option<String>,
    pub(super) ends: [i64; 2],
}

/// The maps by name, in the order of the names.
pub(super) fn named(block: &nn::VarStore, maps: Vec<DenseMap>) -> Vec<Named> {
    let variables = block.variables();
    let name = |tensor: &Tensor| {
        let same = |variable: &&Tensor| variable.data_ptr() == tensor.data_ptr();
        variables.iter().find(|(_, variable)| same(variable)).map(|(name, _)| name.clone())
    };
    let one = |map: DenseMap| Named {
        weight: name(&map.weight).expect("a map's weight is a parameter of its block"),
        bias: map.bias.as_ref().and_then(name),
        ends: map.ends,
    };
    let mut found: Vec<Named> = maps.into_iter().map(one).collect();
    found.sort_by(|a, b| a.weight.cmp(&b.weight));
    found
}

/// The variable of a dotted name under `vs`.
fn find(vs: &nn::Path, name: &str) -> Option<Tensor> {
    let (folders, last) = name.rsplit_once('.')?;
    folders.split('.').fold(vs.clone(), |at, part| at / part).get(last)
}

/// What a dense map is drawn from.
#[derive(Clone, Copy, Debug)]
enum Draw {
    /// N(0, σ²).
    Normal(f64),
    /// U(−b, b).
    Uniform(f64),
    /// A normal cut at two of its deviations, whose own deviation after the cut is this.
    Cut(f64),
}

fn redraw(mut weight: Tensor, bias: Option<Tensor>, draw: Draw) {
    tch::no_grad(|| {
        let _ = match draw {
            Draw::Normal(std) => weight.normal_(0.0, std),
            Draw::Uniform(bound) => weight.uniform_(-bound, bound),
            Draw::Cut(std) => {
                // Φ(±2) bounds a uniform number, whose quantile is the draw; a unit normal cut there deviates by 0.8796.
                let _ = weight.uniform_(-TWO_SIGMA, TWO_SIGMA);
                let _ = weight.erfinv_();
                weight.g_mul_scalar_(std * std::f64::consts::SQRT_2 / DEVIATION_OF_CUT)
            }
        };
        if let Some(mut bias) = bias {
            let _ = bias.zero_();
        }
    });
}

/// `2 Φ(2) − 1`: the share of a normal within two deviations.
pub(super) const TWO_SIGMA: f64 = 0.954_499_736_103_642;
/// Deviation of a unit normal cut at ±2: `√(1 − 4 φ(2) / (2 Φ(2) − 1))`.
pub(super) const DEVIATION_OF_CUT: f64 = 0.879_625_661_034_239_8;
