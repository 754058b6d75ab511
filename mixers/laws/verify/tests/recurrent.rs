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

/// Gated DeltaNet, and what it is with several steps a token and without decays.
fn of_delta() -> Vec<Made> {
    let sizes = json!({ "hidden_size": 8, "num_heads": 2, "head_dim": 3 });
    let ours = json!({ "n_heads": 2, "d_head": 3 });
    let mut made = Vec::new();
    let mut push = |family: &'static str, theirs: [&Value; 2], same: [&Value; 2]| {
        made.push(layer(family, "gated_deltanet", &joined(theirs[0], theirs[1]), &joined(same[0], same[1])));
    };
    for (more, same) in [
        (json!({}), json!({})),
        (json!({ "expand_v": 1.0, "use_gate": false }), json!({ "expand_v": 1.0, "gate": false })),
        (json!({ "allow_neg_eigval": true, "conv_size": 3 }), json!({ "negative_eigenvalues": true, "d_conv": 3 })),
        (json!({ "conv_bias": true, "num_v_heads": 2 }), json!({ "conv_bias": true })),
        (json!({ "use_short_conv": false }), json!({ "d_conv": 0 })),
    ] {
        push("gated_deltanet", [&sizes, &more], [&ours, &same]);
    }
    let twice = json!({ "householder": 2, "negative_eigenvalues": true, "forget": false });
    for (more, same) in [
        (json!({}), json!({})),
        (json!({ "num_householder": 3, "use_forget_gate": true }), json!({ "householder": 3, "forget": true })),
        (json!({ "allow_neg_eigval": false }), json!({ "negative_eigenvalues": false })),
        (json!({ "use_output_gate": false, "expand_v": 1.0 }), json!({ "gate": false, "expand_v": 1.0 })),
        (json!({ "use_short_conv": false }), json!({ "d_conv": 0 })),
    ] {
        push("deltaproduct", [&sizes, &more], [&joined(&ours, &twice), &same]);
    }
    let plain = json!({ "hidden_size": 8, "num_heads": 2 });
    let same_plain = json!({ "n_heads": 2, "expand_v": 1.0, "forget": false, "gate": false });
    for (more, same) in [
        (json!({}), json!({})),
        (json!({ "use_gate": true, "allow_neg_eigval": true }), json!({ "gate": true, "negative_eigenvalues": true })),
        (json!({ "expand_k": 0.5, "expand_v": 1.5 }), json!({ "d_head": 2, "expand_v": 3.0 })),
        (json!({ "use_short_conv": false, "qk_activation": "silu" }), json!({ "d_conv": 0 })),
    ] {
        push("deltanet", [&plain, &more], [&same_plain, &same]);
    }
    made
}

/// mLSTM and the two minimal networks.
pub(super) fn of_layers() -> Vec<Made> {
    let mut made = of_fla();
    made.extend(of_delta());
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
