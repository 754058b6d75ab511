//! Initial dense maps by a rule of the config's, where a mixer's own initial values are not wanted.

use crate::model::block::Block;
use crate::model::head::Head;
use crate::model::settings::{LinearInit, ModelConfig};
use mixers::Dims;
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
    let draw = |map: &str, shape: &[i64], of_head: bool| match (config.linear_init, config.linear_std) {
        (Some(LinearInit::Lra), _) if of_head => Draw::Cut((1.0 / shape[1] as f64).sqrt()),
        (Some(LinearInit::Lra), _) => Draw::Uniform((6.0 / ends(map, shape, config.d_model) as f64).sqrt()),
        (None, std) => Draw::Normal(std.expect("one of the two")),
    };
    // A path cannot list what lies under it: the names are those of a block built aside.
    let aside = nn::VarStore::new(tch::Device::Cpu);
    let block = Block::new(&aside.root(), config, dims, mixer, settings);
    let maps = dense_maps(&aside);
    let last = if config.rescale_residual { block.last_maps() } else { Vec::new() };
    let root = (2.0 * config.n_layers as f64).sqrt();
    for at in (0..blocks).map(|i| vs / "blocks" / i) {
        for (name, bias) in &maps {
            let weight = find(&at, name).expect("a block built alike");
            let draw = match draw(name, &weight.size(), false) {
                Draw::Normal(std) if last.contains(name) => Draw::Normal(std / root),
                draw => draw,
            };
            redraw(weight, find(&at, bias), draw);
        }
    }
    for map in head.maps() {
        let draw = draw("", &map.ws.size(), true);
        redraw(map.ws.shallow_clone(), map.bs.as_ref().map(Tensor::shallow_clone), draw);
    }
}

/// Weight and bias of every dense map of a block, by name, also of those that a mixer holds with an axis for its heads.
fn dense_maps(block: &nn::VarStore) -> Vec<(String, String)> {
    let variables: std::collections::BTreeMap<_, _> = block.variables().into_iter().collect();
    let map = |(name, value): (&String, &Tensor)| {
        let stem = ["weight", "kernel"].iter().find_map(|last| name.strip_suffix(last))?;
        let convolves = value.dim() == 3 && ["conv1d", "output_linear"].iter().any(|part| name.contains(part));
        let dense = value.dim() >= 2 && !convolves && (stem.ends_with('.') || stem.ends_with(".in_proj_"));
        dense.then(|| (name.clone(), format!("{stem}bias")))
    };
    variables.iter().filter_map(map).collect()
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

/// Inputs and outputs of the dense map with this name and shape in a model of width `d`: `[out, in]`, or with an axis for its heads
/// `[d, heads, d_head]` or `[heads, d_head, d]`.
fn ends(name: &str, shape: &[i64], d: i64) -> i64 {
    match *shape {
        // Queries, keys and values end to end.
        [out, inputs] if name.ends_with("in_proj_weight") => out / 3 + inputs,
        [out, inputs] => out + inputs,
        [heads, d_head, out] if out == d => heads * d_head + out,
        [inputs, heads, d_head] => inputs + heads * d_head,
        _ => panic!("`{name}` of shape {shape:?} is no dense map"),
    }
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
