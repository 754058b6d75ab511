//! Dumps of recurrent layers, in the words of their references.

use super::{Made, built, joined, leaf};
use crate::{Context, Dims};
use serde_json::{Value, json};

/// A layer whose config has `theirs` and whose settings are `ours`, `[batch, length, width]` in and out.
fn layer(family: &'static str, name: &str, theirs: &Value, ours: &Value) -> Made {
    let config = joined(&json!({ "batch": 2, "L": 11, "causal": true }), theirs);
    let width = ["hidden_size", "d_model"].iter().find_map(|key| config[key].as_i64()).expect("a width");
    let (_vs, mixer, params) = built(name, ours, &Dims { d_model: width, seq_len: 11, causal: true });
    let x = leaf(&[2, 11, width], 77);
    let y = mixer.forward(&x, &Context::eval());
    Made::new(family, &config.to_string(), &[("x", &x)], &params, &[("y", &y)])
}

fn of_fla() -> Vec<Made> {
    let convolved = json!({ "use_short_conv": true, "conv_size": 3, "conv_bias": true });
    let ours = json!({ "d_conv": 3, "conv_bias": true });
    let mut made = Vec::new();
    for (family, more, same) in [
        ("gla", json!({ "num_heads": 2, "gate_low_rank_dim": 3 }), json!({ "n_heads": 2, "gate_rank": 3 })),
        ("retnet", json!({ "num_heads": 2 }), json!({ "n_heads": 2 })),
        ("hgrn2", json!({ "expand_ratio": 4 }), json!({ "n_heads": 2 })),
    ] {
        let theirs = joined(&json!({ "hidden_size": 8 }), &more);
        made.push(layer(family, family, &theirs, &same));
        made.push(layer(family, family, &joined(&theirs, &convolved), &joined(&same, &ours)));
        if family != "hgrn2" {
            let gate =
                (json!({ "use_output_gate": false, "expand_k": 2.0 }), json!({ "gate": false, "expand_k": 2.0 }));
            made.push(layer(family, family, &joined(&theirs, &gate.0), &joined(&same, &gate.1)));
        }
    }
    // What the references leave at their defaults.
    made.push(layer("gla", "gla", &json!({ "hidden_size": 16 }), &json!({})));
    made.push(layer("retnet", "retnet", &json!({ "hidden_size": 16 }), &json!({})));
    made.push(layer("rwkv6", "rwkv6", &json!({ "hidden_size": 16 }), &json!({})));
    let slow = (json!({ "hidden_size": 8, "gate_logit_normalizer": 2.5 }), json!({ "gate_divisor": 2.5 }));
    made.push(layer("gla", "gla", &slow.0, &slow.1));
    let turned = (json!({ "hidden_size": 16, "rope_base": 20.0 }), json!({ "rope_base": 20.0 }));
    made.push(layer("retnet", "retnet", &turned.0, &turned.1));
    let ranks = (json!({ "proj_low_rank_dim": 2, "gate_low_rank_dim": 3 }), json!({ "mix_rank": 2, "decay_rank": 3 }));
    let wide = json!({ "expand_k": 1.0, "expand_v": 1.5 });
    let theirs = joined(&joined(&json!({ "hidden_size": 8 }), &ranks.0), &wide);
    made.push(layer("rwkv6", "rwkv6", &theirs, &joined(&ranks.1, &wide)));
    made
}

/// mLSTM and the two minimal networks.
pub(super) fn of_layers() -> Vec<Made> {
    let mut made = of_fla();
    let d = json!({ "d_model": 8 });
    made.push(layer("mlstm", "mlstm", &d, &json!({})));
    let theirs =
        json!({ "num_heads": 2, "proj_factor": 1.5, "qkv_proj_blocksize": 3, "bias": true, "conv1d_kernel_size": 2 });
    let ours = json!({ "n_heads": 2, "expand": 1.5, "block": 3, "bias": true, "d_conv": 2 });
    made.push(layer("mlstm", "mlstm", &joined(&d, &theirs), &ours));
    for (family, name) in [("mingru", "min_gru"), ("minlstm", "min_lstm")] {
        made.push(layer(family, name, &joined(&d, &json!({ "proj_out": false })), &json!({})));
        let wide = (json!({ "expansion_factor": 2.5, "proj_out": true }), json!({ "expand": 2.5 }));
        made.push(layer(family, name, &joined(&d, &wide.0), &wide.1));
    }
    made
}
