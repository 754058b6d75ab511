//! Decoding with one layer: how long a prompt takes to read, how long the next token takes after it, and how large the state is then.
//!
//! ```text
//! prefill   the parallel form on all tokens of the context at once, without gradients
//! decode    the step form, token by token; the last [`WINDOW`] steps before the context's end are timed
//! state     bytes of the tensors that the step form holds at the context's end, for the whole batch
//! ```
//! All mixers read only the past. One that has no step form is listed as such.

use super::suite::Chosen;
use crate::base::process::{panic_reason, panic_text};
use crate::registry::Registry;
use mixers::{Context, Dims, Mixer};
use results::bench::{Spread, YARDSTICK};
use serde::Serialize;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use tch::{Device, Kind, Tensor, nn, no_grad};

/// Steps that are timed at the end of a context.
pub const WINDOW: i64 = 32;

/// What is decoded, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Width.
    pub d_model: i64,
    /// Sequences.
    pub batch: i64,
    /// Tokens of the contexts, rising, each [`WINDOW`] or more.
    pub contexts: Vec<i64>,
    /// Times that each context is read and decoded.
    pub repeats: u64,
    /// Seconds that one mixer may take in a repeat; longer contexts are left out then.
    pub cap: f64,
}

/// What decoding took at the end of one context.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Decoded {
    /// Tokens read before.
    pub context: i64,
    /// Seconds of the parallel form on the context, one each repeat.
    pub prefill: Vec<f64>,
    /// Seconds of one step, the mean over the window, one each repeat.
    pub step: Vec<f64>,
    /// Bytes of state for the whole batch, measured.
    pub state_bytes: i64,
}

/// One mixer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decoder {
    /// The mixer.
    pub label: String,
    /// By context.
    pub contexts: Vec<Decoded>,
    /// Why there is nothing, or nothing longer.
    pub remark: String,
}

/// Measures them, one after the other; what libtorch refuses is a remark.
pub fn measure(chosen: &[Chosen], plan: &Plan, registry: &Registry) -> Vec<Decoder> {
    chosen.iter().map(|one| decoder(one, plan, registry)).collect()
}

fn decoder(chosen: &Chosen, plan: &Plan, registry: &Registry) -> Decoder {
    let mut found = Decoder { label: chosen.label.clone(), contexts: Vec::new(), remark: String::new() };
    let timed = catch_unwind(AssertUnwindSafe(|| decode(chosen, plan, registry, &mut found.contexts)));
    found.remark = match timed {
        Ok(remark) => remark,
        Err(panic) => panic_reason(&panic_text(&*panic)),
    };
    found
}

/// Fills `found`; what is returned says why it is not whole.
fn decode(chosen: &Chosen, plan: &Plan, registry: &Registry, found: &mut Vec<Decoded>) -> String {
    let entry = registry.mixer(&chosen.mixer).expect("the name was checked");
    let longest = *plan.contexts.last().expect("a context");
    let dims = Dims { d_model: plan.d_model, seq_len: longest, causal: true };
    let settings = match (entry.resolve)(&chosen.settings) {
        Ok(settings) => settings,
        Err(error) => return error.to_string(),
    };
    if let Some(wrong) = entry.check(&settings, &dims).first() {
        return wrong.problem.clone();
    }
    tch::manual_seed(0);
    let vs = nn::VarStore::new(Device::Cpu);
    let mixer = entry.build(&settings, &vs.root(), &dims);
    if mixer.recurrent().is_none() {
        return "no step form".into();
    }
    let input = Tensor::randn([plan.batch, longest, plan.d_model], (Kind::Float, Device::Cpu));
    let mut contexts = plan.contexts.clone();
    for _ in 0..plan.repeats {
        let begun = Instant::now();
        let read = no_grad(|| once(mixer.as_ref(), &input, &contexts, &|| begun.elapsed().as_secs_f64() > plan.cap));
        contexts.truncate(read.len());
        found.truncate(read.len());
        found.resize(read.len(), Decoded::default());
        for (all, one) in found.iter_mut().zip(read) {
            all.context = one.context;
            all.state_bytes = one.state_bytes;
            all.prefill.extend(one.prefill);
            all.step.extend(one.step);
        }
    }
    match contexts.len() == plan.contexts.len() {
        true => String::new(),
        false => format!("longer contexts took more than {} s", plan.cap),
    }
}

/// Each context once; a context that is begun is ended.
fn once(mixer: &dyn Mixer, input: &Tensor, contexts: &[i64], enough: &dyn Fn() -> bool) -> Vec<Decoded> {
    let mut steps = mixer.recurrent().expect("it has a step form");
    steps.reset(input.size()[0]);
    let (mut found, mut at) = (Vec::new(), 0);
    for &context in contexts {
        if enough() && !found.is_empty() {
            break;
        }
        let begun = Instant::now();
        let _ = mixer.forward(&input.narrow(1, 0, context), &Context::eval());
        let prefill = begun.elapsed().as_secs_f64();
        while at < context - WINDOW {
            let _ = steps.step(&input.select(1, at));
            at += 1;
        }
        let (begun, timed) = (Instant::now(), context - at);
        while at < context {
            let _ = steps.step(&input.select(1, at));
            at += 1;
        }
        let step = begun.elapsed().as_secs_f64() / timed as f64;
        found.push(Decoded { context, prefill: vec![prefill], step: vec![step], state_bytes: steps.state_bytes() });
    }
    found
}

/// A line a mixer and context: milliseconds of the prefill, microseconds of a step, its ratio to the yardstick's, tokens a second of
/// the whole batch, bytes of state.
pub fn table(decoders: &[Decoder], plan: &Plan) -> String {
    let median = |values: &[f64]| Spread::of(values).map(|spread| spread.median);
    let yardstick = decoders.iter().find(|one| one.label == YARDSTICK);
    let mut lines = format!(
        "{:<18} {:>8}  {:>12} {:>12} {:>13} {:>12} {:>14}\n",
        "mixer", "context", "prefill, ms", "step, µs", "x attention", "tokens/s", "state, bytes"
    );
    for one in decoders {
        for (i, at) in one.contexts.iter().enumerate() {
            let (prefill, step) = (median(&at.prefill).unwrap_or(f64::NAN), median(&at.step).unwrap_or(f64::NAN));
            let its = yardstick.and_then(|all| median(&all.contexts.get(i)?.step));
            let ratio = its.map_or("-".into(), |its| format!("{:.2}", step / its));
            lines += &format!(
                "{:<18} {:>8}  {:>12.2} {:>12.1} {ratio:>13} {:>12.0} {:>14}\n",
                one.label,
                at.context,
                prefill * 1e3,
                step * 1e6,
                plan.batch as f64 / step,
                at.state_bytes
            );
        }
        if !one.remark.is_empty() {
            lines += &format!("{:<18} {}\n", one.label, one.remark);
        }
    }
    lines
}

/// The same as JSON, with every repeat.
pub fn document(decoders: &[Decoder], plan: &Plan) -> Value {
    json!({ "d_model": plan.d_model, "batch": plan.batch, "window": WINDOW, "mixers": decoders })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(registry: &Registry) -> Vec<Chosen> {
        let of = |entry: &mixers::Entry| Chosen {
            label: entry.name.into(),
            mixer: entry.name.into(),
            settings: (entry.small)(),
        };
        registry.mixers.iter().map(of).collect()
    }

    #[test]
    fn every_mixer_is_decoded_or_says_why_not_and_its_state_is_that_of_its_cost() {
        let registry = Registry::default();
        let plan = Plan { d_model: 16, batch: 2, contexts: vec![32, 48], repeats: 2, cap: 1e9 };
        let decoders = measure(&chosen(&registry), &plan, &registry);
        assert_eq!(decoders.len(), registry.mixers.len());
        assert!(decoders.iter().filter(|one| one.remark.is_empty()).count() >= 6, "{decoders:?}");
        for one in &decoders {
            assert_eq!(one.contexts.is_empty(), !one.remark.is_empty(), "{one:?}");
            for at in &one.contexts {
                assert!(at.prefill.len() == 2 && at.step.len() == 2, "{one:?}");
                let entry = registry.mixer(&one.label).expect("registered");
                let dims = Dims { d_model: 16, seq_len: 48, causal: true };
                let settings = (entry.resolve)(&(entry.small)()).expect("small settings");
                let vs = nn::VarStore::new(Device::Cpu);
                let cost = entry.build(&settings, &vs.root(), &dims).cost(at.context);
                assert_eq!(at.state_bytes, 2 * cost.state_bytes, "{} at {}", one.label, at.context);
            }
        }
        let lines = table(&decoders, &plan);
        assert!(lines.contains("no step form") || lines.contains("read"), "{lines}");
        assert_eq!(document(&decoders, &plan)["mixers"].as_array().map(Vec::len), Some(decoders.len()));
    }

    #[test]
    fn a_mixer_that_takes_too_long_leaves_out_longer_contexts_and_says_so() {
        let registry = Registry::default();
        let plan = Plan { d_model: 16, batch: 1, contexts: vec![32, 64], repeats: 2, cap: 0.0 };
        let attention = chosen(&registry).into_iter().find(|one| one.label == YARDSTICK).expect("registered");
        let decoded = measure(&[attention], &plan, &registry).swap_remove(0);
        assert_eq!((decoded.contexts.len(), decoded.contexts[0].context), (1, 32));
        assert_eq!(decoded.remark, "longer contexts took more than 0 s");
    }
}
