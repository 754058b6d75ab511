//! A user's mistakes: each with its file, line and column, what is wrong and what to write; nothing is trained.

use std::sync::LazyLock;
use tests::Folder;

/// What `sweep bad.yaml` says of this config.
#[track_caller]
fn refused(text: &str) -> String {
    refused_with(text, "")
}

/// The same with more arguments.
#[track_caller]
fn refused_with(text: &str, arguments: &str) -> String {
    let folder = Folder::with("bad.yaml", text);
    let ended = folder.run(&format!("sweep bad.yaml {arguments}")).expect(2);
    assert_eq!(ended.out, "");
    assert_eq!(folder.names(""), ["bad.yaml"], "nothing is trained, no store is made");
    ended.err
}

/// The text with `…` for the names of all mixers and of all tasks, which must stand there whole.
fn abbreviated(text: &str) -> String {
    static NAMES: LazyLock<[(String, &str); 2]> = LazyLock::new(|| {
        ["mixers", "tasks"].map(|kind| {
            let listed = Folder::new().run(&format!("list {kind} --json")).expect(0).out;
            let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).expect("JSON");
            let names: Vec<&str> = listed.iter().map(|one| one["name"].as_str().expect("a name")).collect();
            (format!("{kind} are {}\n", names.join(", ")), kind)
        })
    });
    NAMES.iter().fold(text.to_owned(), |text, (list, kind)| text.replace(list, &format!("{kind} are …\n")))
}

#[test]
fn an_unknown_key_is_named_with_the_one_that_was_meant() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
modle: { d_model: 16 }
model: { d_model: 16, n_layer: 1 }
mixers:
  - s4: { d_sate: 4 }
  - mixer: { attention: { n_heads: 2 } }
    optimiser: { lr: 1e-3 }
",
    );
    insta::assert_snapshot!(said, @"
    error: bad.yaml:2:1: unknown key `modle` of the config
      help: did you mean `model`? keys are name, question, extends, tasks, mixers, model, optimizer, schedule, budget, pretrain, analysis, seeds, grid, list, random, tune, ablate, figures, expect, match, published
    error: bad.yaml:3:23: unknown field `n_layer` of `model`
      help: did you mean `n_layers`? fields are block, d_model, n_layers, norm, norm_place, norm_eps, ffn, d_ff, positions, embedding_norm, ffn_activation, ffn_dropout, dropout, tied_dropout, embedding_dropout, shared_depth, pooling, pair_head, init, init_std, embedding_std, cls_std, head, head_bias, classifier_dropout, token_types, max_positions, linear_std, linear_init, rescale_residual, precision, checkpoint_activations, preset
    error: bad.yaml:5:11: unknown field `d_sate` of `s4`
      help: did you mean `d_state`? fields are mode, init, rank, disc, d_state, n_ssm, channels, dt_min, dt_max, dt_tie, dt_transform, real_transform, bandlimit, l_max, rate, step_mode, lr, dropout, tie_dropout, bidirectional, final_act
    error: bad.yaml:7:5: unknown key `optimiser` of this mixer's entry
      help: did you mean `optimizer`? keys are mixer, name, published, start, tasks, reference_parameters, grid, model, optimizer, schedule, budget, pretrain, analysis
    4 mistakes in bad.yaml; nothing was run
    ");
}

#[test]
fn initial_values_and_rates_by_width_name_what_they_can_be() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
model: { d_model: 16, init: foo, init_std: 0 }
optimizer: { width_scaling: up }
mixers: [{ attention: { n_heads: 2 } }]
",
    );
    insta::assert_snapshot!(said, @"
    error: bad.yaml:2:29: `init` is `foo`, expected one of scaled, published
      help: the default is `scaled`
    error: bad.yaml:3:29: `width_scaling` is `up`, expected one of none, mup
      help: did you mean `mup`? the default is `none`
    2 mistakes in bad.yaml; nothing was run
    ");
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
model: { d_model: 16 }
optimizer: { width_scaling: mup, base_width: 25 }
mixers:
  - attention: { n_heads: 2 }
  - mixer: { gru: {} }
    optimizer: { width_scaling: none }
",
    );
    insta::assert_snapshot!(said, @"
    error: bad.yaml:3:46: `width_scaling` is mup, but there is no such model of width 25: `n_heads` is 2, which does not divide `d_model` = 25
      help: set `base_width` to a width that the mixer can have, such as the model's own
    error: bad.yaml:3:46: `base_width` is set, but `width_scaling` is none: no rate travels from it
      help: leave it out, or set `width_scaling: mup`
    2 mistakes in bad.yaml; nothing was run
    ");
}

#[test]
fn a_key_given_twice_is_refused() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
model:
  d_model: 16
  n_layers: 1
  d_model: 32
mixers: [attention]
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:5:3: `d_model` is given twice
      help: keep one of the two
    1 mistake in bad.yaml; nothing was run
    "#);
}

#[test]
fn a_value_of_the_wrong_type_is_told_what_is_expected() {
    let said = refused(
        r#"tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
model: { d_model: wide, block: hidra }
budget: { steps: 1.5, batch_size: -3, eval_every: [1] }
optimizer: { lr: "fast" }
mixers:
  - attention: { bias: yes }
"#,
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:2:19: `d_model` is `wide`, expected a whole number
      help: write a whole number; the default is `128`
    error: bad.yaml:2:32: `block` is `hidra`, expected one of transformer, s4, bigs, hydra
      help: did you mean `hydra`? the default is `transformer`
    error: bad.yaml:3:18: `steps` is `1.5`, expected a whole number, 0 or more
      help: write a whole number, 0 or more; the default is `1000`
    error: bad.yaml:3:35: `batch_size` is `-3`, expected a whole number, 0 or more
      help: write a whole number, 0 or more; the default is `32`
    error: bad.yaml:3:51: `eval_every` is a list, expected a whole number, 0 or more
      help: write a whole number, 0 or more; the default is `100`
    error: bad.yaml:4:18: `lr` is `fast`, expected a number
      help: write a number; the default is `0.001`
    error: bad.yaml:6:24: `bias` is `yes`, expected true or false
      help: write true or false; the default is `true`
    7 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn a_value_out_of_range_is_told_the_range() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
model: { d_model: 0, dropout: 1.5 }
budget: { steps: 40, batch_size: 0, stop_at: 2 }
optimizer: { lr: -1, beta2: 1 }
schedule: { warmup_steps: 99, final_factor: 3 }
seeds: 0
mixers: [attention]
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:2:19: `d_model` is 0, which is below 1
      help: use 1 or more
    error: bad.yaml:2:31: `dropout` is 1.5, which is not a probability below 1
      help: use 0 to turn it off, or a number such as 0.1
    error: bad.yaml:3:34: `batch_size` is 0, which is below 1
      help: use 1 or more
    error: bad.yaml:3:46: `stop_at` is 2, which is not a score above 0 and up to 1
      help: use a share such as 0.999
    error: bad.yaml:4:18: `lr` is -1, which is not above 0
      help: use a number that is above 0
    error: bad.yaml:4:29: `beta2` is 1, which is not at least 0 and below 1
      help: use a number that is at least 0 and below 1
    error: bad.yaml:5:27: `warmup_steps` is 99, more than the 40 steps of the budget
      help: use 40 or fewer; a tenth of the budget is common
    error: bad.yaml:5:45: `final_factor` is 3, which is not between 0 and 1
      help: use a share of the peak rate, such as 0 or 0.1
    error: bad.yaml:6:8: `seeds` names no seed
      help: write a count, `seeds: 3`, or a list, `seeds: [0, 1, 2]`
    9 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn heads_that_do_not_divide_the_width_are_told_which_do() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
model:
  d_model: 16
mixers:
  - attention: { n_heads: 6 }
  - mixer: combiner
    model: { d_model: 18 }
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:5:27: `n_heads` is 6, which does not divide `d_model` = 16
      help: use 4 or 8, or change `d_model` on line 3
    error: bad.yaml:7:23: `n_heads` is 4, which does not divide `d_model` = 18
      help: use 3 or 6, or change `d_model` on line 7
    2 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn a_grid_of_nothing_is_refused() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
mixers: [attention]
grid: {}
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:3:7: `grid` is an empty mapping, expected paths with their values
      help: write `grid: { optimizer.lr: [1e-3, 3e-3] }`, or leave `grid` out
    1 mistake in bad.yaml; nothing was run
    "#);
}

#[test]
fn a_grid_that_leads_nowhere_is_refused() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
mixers: [attention]
grid:
  optimizer.lr: []
  optimzer.lr: [1e-3]
  mixer.s4.d_state: [4, 8]
  model.d_modle: [16]
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:4:17: axis `optimizer.lr` of `grid` is an empty list, expected a list of values
      help: write `grid: { optimizer.lr: [1e-3, 3e-3] }`, or leave `grid` out
    error: bad.yaml:5:3: `optimzer.lr` is not a setting
      help: did you mean `optimizer`? paths are model.KEY, optimizer.KEY, schedule.KEY, budget.KEY, pretrain.KEY, analysis.KEY, task.NAME.KEY and mixer.NAME.KEY (NAME as used in this config), and seeds for --set
    error: bad.yaml:6:3: `mixer.s4.d_state` is not a setting
      help: paths are model.KEY, optimizer.KEY, schedule.KEY, budget.KEY, pretrain.KEY, analysis.KEY, task.NAME.KEY and mixer.NAME.KEY (NAME as used in this config), and seeds for --set
    error: bad.yaml:7:3: unknown field `d_modle` of `model`
      help: did you mean `d_model`? fields are block, d_model, n_layers, norm, norm_place, norm_eps, ffn, d_ff, positions, embedding_norm, ffn_activation, ffn_dropout, dropout, tied_dropout, embedding_dropout, shared_depth, pooling, pair_head, init, init_std, embedding_std, cls_std, head, head_bias, classifier_dropout, token_types, max_positions, linear_std, linear_init, rescale_residual, precision, checkpoint_activations, preset
    4 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn a_sweep_needs_a_mixer() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
mixers: []
",
    );
    insta::assert_snapshot!(abbreviated(&said), @r#"
    error: bad.yaml:2:9: `mixers` is an empty list, expected a list of at least one
      help: write `mixers:` and below it `- attention: {}`; mixers are …
    1 mistake in bad.yaml; nothing was run
    "#);
}

#[test]
fn a_sweep_needs_tasks_and_mixers() {
    let said = refused(
        "\
name: nothing
",
    );
    insta::assert_snapshot!(abbreviated(&said), @r#"
    error: bad.yaml:1:1: `tasks` is missing
      help: write `tasks:` and below it `- mqar: {}`; tasks are …
    error: bad.yaml:1:1: `mixers` is missing
      help: write `mixers:` and below it `- attention: {}`; mixers are …
    2 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn an_unknown_mixer_or_task_is_named_with_the_one_that_was_meant() {
    let said = refused(
        "\
tasks: [mqa]
mixers: [atention, hydrra]
",
    );
    insta::assert_snapshot!(abbreviated(&said), @r#"
    error: bad.yaml:1:9: unknown task `mqa`
      help: did you mean `mqar`? tasks are …
    error: bad.yaml:2:10: unknown mixer `atention`
      help: did you mean `attention`? mixers are …
    error: bad.yaml:2:20: unknown mixer `hydrra`
      help: did you mean `hydra`? mixers are …
    3 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let ended = Folder::new().run("sweep nothere.yaml").expect(2);
    insta::assert_snapshot!(ended.err, @r#"
    error: nothere.yaml: cannot be read: No such file or directory (os error 2)
      help: give the path of a YAML file, such as configs/quick.yaml
    1 mistake in nothere.yaml; nothing was run
    "#);
}

#[test]
fn an_empty_file_is_no_config() {
    let said = refused("");
    insta::assert_snapshot!(said, @"
    error: bad.yaml:1:1: a config is a mapping, not nothing
      help: keys are name, question, extends, tasks, mixers, model, optimizer, schedule, budget, pretrain, analysis, seeds, grid, list, random, tune, ablate, figures, expect, match, published
    1 mistake in bad.yaml; nothing was run
    ");
}

#[test]
fn mixers_that_read_both_directions_refuse_a_causal_task() {
    let said = refused(
        "\
tasks:
  - mqar
mixers:
  - hydra: {}
  - bigs: {}
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:4:5: `hydra` reads both directions and cannot be causal
      help: set `causal: false` on the task or leave this mixer out
    error: bad.yaml:5:5: `bigs` reads the sequence from both ends, but the task is causal
      help: set `directions: one`, or `causal: false` on the task, or leave this mixer out
    2 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn pairs_and_queries_must_fit_in_the_sequence() {
    let said = refused(
        "\
tasks:
  - mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 5, causal: false }
mixers: [attention]
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:2:52: `kv_pairs` 5 and `passes` 1 need 2·5·1 + 2·5 = 20 tokens, more than `seq_len` = 16
      help: raise `seq_len` to 20 or lower `kv_pairs` to 4
    1 mistake in bad.yaml; nothing was run
    "#);
}

#[test]
fn a_bracket_left_open_has_a_place() {
    let said = refused(
        "\
tasks:
  - mqar: { vocab_size: 64
mixers: [attention]
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:3:7: while parsing a flow mapping, did not find expected ',' or '}'
      help: check indentation, brackets and quotes here and on the lines above
    1 mistake in bad.yaml; nothing was run
    "#);
}

#[test]
fn indentation_that_does_not_fit_has_a_place() {
    let said = refused(
        "\
tasks:
  - mqar
 mixers:
  - attention
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:3:2: while parsing a block mapping, did not find expected key
      help: check indentation, brackets and quotes here and on the lines above
    1 mistake in bad.yaml; nothing was run
    "#);
}

#[test]
fn a_typo_in_set_is_shown_as_it_was_typed() {
    let said = refused_with(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
mixers: [attention]
",
        "--set modle.d_model=4 --set model.d_modle=4 --set budget.steps=many --set optimizer.lr --set seeds=[0,0]",
    );
    insta::assert_snapshot!(said, @r#"
    error: --set budget.steps=many: `steps` is `many`, expected a whole number, 0 or more
      help: write a whole number, 0 or more; the default is `1000`
    error: --set model.d_modle=4: unknown field `d_modle` of `model`
      help: did you mean `d_model`? fields are block, d_model, n_layers, norm, norm_place, norm_eps, ffn, d_ff, positions, embedding_norm, ffn_activation, ffn_dropout, dropout, tied_dropout, embedding_dropout, shared_depth, pooling, pair_head, init, init_std, embedding_std, cls_std, head, head_bias, classifier_dropout, token_types, max_positions, linear_std, linear_init, rescale_residual, precision, checkpoint_activations, preset
    error: --set modle.d_model=4: `modle.d_model` is not a setting
      help: did you mean `model`? paths are model.KEY, optimizer.KEY, schedule.KEY, budget.KEY, pretrain.KEY, analysis.KEY, task.NAME.KEY and mixer.NAME.KEY (NAME as used in this config), and seeds for --set
    error: --set optimizer.lr: no `=` in it
      help: write PATH=VALUE, as in --set model.d_model=128; more of them each have a --set of their own
    error: --set seeds=[0,0]: seed 0 is listed twice
      help: list every seed once
    5 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn two_entries_of_one_label_are_refused() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
name: a/b
mixers:
  - attention: {}
  - attention: { n_heads: 2 }
  - mixer: { s4: {} }
    tasks: [mqarr]
  - { s4: {}, hydra: {} }
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:2:7: `name` is `a/b`, which contains `/`
      help: use letters, digits, `-`, `_` and `.`, at most 100 characters, the first of them not `-` or `.`
    error: bad.yaml:5:5: two mixers are labelled `attention`
      help: give one of them another `name`, as in `- name: attention_2`
    error: bad.yaml:7:13: no task is labelled `mqarr`
      help: did you mean `mqar`? labels of tasks are mqar
    error: bad.yaml:8:7: this entry has 2 keys and no `mixer`
      help: write `- mixer: { attention: {} }` and put overrides beside it
    4 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn mistakes_in_every_section_are_shown_at_once() {
    let said = refused(
        "\
question: How many?
seeds: [0, 0, -1]
tasks:
  - mqar: { vocab_size: 32, seq_len: 15, causal: false }
model: { d_model: 20, pooling: max }
optimizer: { lr: 0 }
schedule: { shape: cosin }
budget: { steps: many }
mixers:
  - hydra: { headdim: 16, d_stat: 4 }
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:2:12: seed 0 is listed twice
      help: list every seed once
    error: bad.yaml:2:15: a seed is `-1`, expected a whole number, 0 or more
      help: write a count, `seeds: 3`, or a list, `seeds: [0, 1, 2]`
    error: bad.yaml:4:38: `seq_len` is 15, which is odd; slots are two tokens wide
      help: use 14 or 16
    error: bad.yaml:4:38: `kv_pairs` 4 and `passes` 1 need 2·4·1 + 2·4 = 16 tokens, more than `seq_len` = 15
      help: raise `seq_len` to 16 or lower `kv_pairs` to 3
    error: bad.yaml:5:32: `pooling` is `max`, expected one of mean, last, cls, first
      help: did you mean `mean`? the default is `mean`
    error: bad.yaml:6:18: `lr` is 0, which is not above 0
      help: use a number that is above 0
    error: bad.yaml:7:20: `shape` is `cosin`, expected one of constant, cosine, linear, inverse_sqrt
      help: did you mean `cosine`? the default is `cosine`
    error: bad.yaml:8:18: `steps` is `many`, expected a whole number, 0 or more
      help: write a whole number, 0 or more; the default is `1000`
    error: bad.yaml:10:27: unknown field `d_stat` of `hydra`
      help: did you mean `d_state`? fields are d_state, expand, headdim, ngroups, d_conv, chunk_size, bias, conv_bias, dt_min, dt_max, dt_limit, learnable_init_states, bidirectional, shift, diagonal
    9 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn not_a_number_is_no_number_and_hides_no_other_mistake() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
optimizer: { lr: .nan }
budget: { steps: 0 }
mixers: [attentoin]
",
    );
    insta::assert_snapshot!(abbreviated(&said), @r#"
    error: bad.yaml:2:18: `lr` is `.nan`, expected a number
      help: write a number; the default is `0.001`
    error: bad.yaml:4:10: unknown mixer `attentoin`
      help: did you mean `attention`? mixers are …
    2 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn clm_on_mixers_that_cannot_be_causal_names_mixer_and_key() {
    let text = "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
model: { d_model: 16 }
pretrain: clm
mixers:
  - attention
  - hydra: { headdim: 8 }
  - bigs
  - { mixer: { s4: { bidirectional: true } }, pretrain: mlm }
";
    insta::assert_snapshot!(refused(text), @r#"
    error: bad.yaml:3:11: `objective` is clm, for which mixers are made causal, but `hydra` on `mqar` cannot be: `hydra` reads both directions and cannot be causal
      help: put `pretrain: mlm` or `pretrain: none` into the entry of `hydra`
    error: bad.yaml:3:11: `objective` is clm, for which mixers are made causal, but `bigs` on `mqar` cannot be: `bigs` reads the sequence from both ends
      help: put `pretrain: mlm` or `pretrain: none` into the entry of `bigs`, or change its `directions`
    2 mistakes in bad.yaml; nothing was run
    "#);
    let grid =
        text.replace("pretrain: clm", "grid: { pretrain.objective: [none, mlm, clm] }").replace("  - bigs\n", "");
    insta::assert_snapshot!(refused(&grid), @r#"
    error: bad.yaml:3:41: `objective` is clm, for which mixers are made causal, but `hydra` on `mqar` cannot be: `hydra` reads both directions and cannot be causal
      help: take clm out of the values here, or `hydra` out of the config
    error: bad.yaml:3:41: `objective` is clm, for which mixers are made causal, but `s4` on `mqar` cannot be: `bidirectional` is true: no position may read a later one
      help: take clm out of the values here, or `s4` out of the config, or change its `bidirectional`
    2 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn a_mistake_in_pretraining_is_told_like_any_other() {
    let said = refused(
        "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
pretrain: { objective: mml, steps: 0, mask_rate: 15, rate: 1 }
mixers:
  - { mixer: attention, pretrain: [mlm], reference_parameters: many }
",
    );
    insta::assert_snapshot!(said, @r#"
    error: bad.yaml:2:24: `objective` is `mml`, expected one of none, mlm, clm
      help: did you mean `mlm`? the default is `none`
    error: bad.yaml:2:54: unknown field `rate` of `pretrain`
      help: fields are objective, steps, mask_rate, lr, warmup_steps
    error: bad.yaml:4:35: `pretrain` is a list, expected a mapping
      help: write `pretrain: mlm`, or `pretrain: { objective: mlm, steps: 500 }`
    error: bad.yaml:4:64: `reference_parameters` is `many`, expected a count
      help: write a whole number, such as 1043000
    4 mistakes in bad.yaml; nothing was run
    "#);
}

#[test]
fn models_that_are_not_matched_are_refused_with_the_width_that_would_be() {
    let text = "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
match: { parameters: 0.02 }
model: { d_model: 32 }
mixers:
  - attention
  - { mixer: { combiner: { n_heads: 4 } }, model: { d_ff: 100 } }
  - { mixer: { s4: { d_state: 8 } }, model: { block: s4 } }
  - { name: alike, mixer: attention, model: { d_ff: 129 } }
";
    insta::assert_snapshot!(refused(text), @r#"
    error: bad.yaml:2:1: on `mqar`, `combiner` has 24,168 parameters, 0.861 times the 28,064 of `attention`: more than 2 % away
      help: `model: { d_ff: 130 }` in the entry of `combiner` has 28,068 (1.000)
    error: bad.yaml:2:1: on `mqar`, `s4` has 9,184 parameters, 0.327 times the 28,064 of `attention`: more than 2 % away
      help: `model: { d_model: 66 }` in the entry of `s4` has 27,884 (0.994)
    2 mistakes in bad.yaml; nothing was run
    "#);
    let folder = Folder::with("bad.yaml", text);
    let planned = folder.run("plan bad.yaml").expect(2);
    assert_eq!((planned.out.as_str(), planned.err), ("", refused(text)), "plan and sweep say the same");
    assert_eq!(refused_with(text, "--filter mixer=s4").lines().count(), 5, "a filter changes nothing");
    folder.run("plan bad.yaml --set model.d_ff=128 --filter mixer=alike").expect(2);
}

/// A config with this `match` or `ablate` in its second line.
fn with_second_line(line: &str) -> String {
    format!(
        "tasks: [{{ mqar: {{ vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: true }} }}]\n{line}\n\
         model: {{ d_model: 16, n_layers: 1, ffn: none }}\nmixers: [attention: {{ n_heads: 4 }}, s4: {{ d_state: 4 }}]\n"
    )
}

#[test]
fn matches_and_ablations_that_cannot_be_are_refused_at_their_place() {
    let all = [
        (
            "match: { parameters: 1000000, by: d_model, tolerance: 0.0001 }",
            "bad.yaml:2:22: no `d_model` gives `attention` on `mqar` 1,000,000 parameters within 0.01 %; the nearest: d_model 488 has 995,552 (0.996); d_model 492 has 1,011,584 (1.012)",
        ),
        (
            "match: { parameters: { of: attention }, by: d_ff }",
            "bad.yaml:2:22: `s4` on `mqar` has no whole number `d_ff`",
        ),
        ("match: { step_time: { of: attention } }", "bad.yaml:2:10: models cannot be matched by `step_time`"),
        ("match: { parameters: { of: atention } }", "bad.yaml:2:28: no mixer's entry is labelled `atention`"),
        ("match: { parameters: 1000, by: width }", "bad.yaml:2:32: `by` has `width`"),
        ("match: { parameters: 0.02, by: d_model }", "bad.yaml:2:32: `parameters` is below 1"),
        ("match: { state: 4096 }", "bad.yaml:2:17: `attention` on `mqar` has a state that grows with the length"),
        ("grid: { model.d_model: [8, 16] }\nmatch: { parameters: 5000 }", "bad.yaml:2:9: `model.d_model` is set here"),
        (
            "ablate: { base: s5, changes: { a: { model.ffn: mlp } } }",
            "bad.yaml:2:17: no mixer's entry is labelled `s5`",
        ),
        (
            "ablate: { base: s4, changes: { a: { mixer.s4.d_sate: 2 } } }",
            "bad.yaml:2:37: unknown field `d_sate` of `s4`",
        ),
        (
            "ablate: { base: s4, changes: { same: { mixer.s4.d_state: 4 } } }",
            "bad.yaml:2:32: `same` changes nothing: its run is that of `s4`",
        ),
        (
            "ablate: { base: s4, changes: { a: { task.mqar.seq_len: 8 } } }",
            "bad.yaml:2:37: `task.mqar.seq_len` is the task's",
        ),
    ];
    for (line, said) in all {
        let found = refused(&with_second_line(line));
        assert!(found.contains(said) && found.contains("\n  help: "), "{line}:\n{found}");
    }
}

/// What `plan CONFIG` says of the last of these files.
#[track_caller]
fn refused_of(files: &[(&str, &str)]) -> String {
    let folder = Folder::new();
    files.iter().for_each(|(name, text)| folder.write(name, text));
    let (last, _) = files.last().expect("a config");
    folder.run(&format!("plan {last}")).expect(2).err
}

const RUNNABLE: &str = "\
tasks: [{ mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false } }]
model: { d_model: 16, n_layers: 1 }
mixers: [attention: { n_heads: 2 }, s4: { d_state: 4 }]
";

#[test]
fn files_that_extend_each_other_are_named_in_their_order() {
    let said = refused_of(&[
        ("a.yaml", "extends: parts/b.yaml\n"),
        ("parts/b.yaml", "model: { d_model: 16 }\nextends: ../a.yaml\n"),
        ("top.yaml", "extends: a.yaml\n"),
    ]);
    insta::assert_snapshot!(said, @"
    error: parts/b.yaml:2:10: files extend each other: a.yaml extends parts/b.yaml extends parts/../a.yaml
      help: leave one `extends` out
    1 mistake in top.yaml; nothing was run
    ");
}

#[test]
fn a_file_to_extend_must_be_there_and_be_a_config() {
    let said = refused_of(&[("base.yaml", RUNNABLE), ("bad.yaml", "name: x\nextends: bse.yaml\n")]);
    insta::assert_snapshot!(said, @"
    error: bad.yaml:2:10: there is no file `bse.yaml`
      help: did you mean `base.yaml`? write `extends: base.yaml`, the path of another config from the folder of this one
    1 mistake in bad.yaml; nothing was run
    ");
    let said = refused_of(&[("base.yaml", "- attention\n- s4\n"), ("bad.yaml", "extends: base.yaml\n")]);
    insta::assert_snapshot!(said, @"
    error: base.yaml:1:1: a config is a mapping, not a list
      help: `extends` in bad.yaml names this file: name a config there
    1 mistake in bad.yaml; nothing was run
    ");
    let said = refused_of(&[("bad.yaml", "extends: [base.yaml]\n")]);
    insta::assert_snapshot!(said, @"
    error: bad.yaml:1:10: `extends` is a list, expected the path of a config
      help: write `extends: base.yaml`, the path of another config from the folder of this one
    1 mistake in bad.yaml; nothing was run
    ");
    let said = refused_of(&[("folder/x.yaml", ""), ("bad.yaml", "extends: folder\n")]);
    insta::assert_snapshot!(said, @"
    error: bad.yaml:1:10: `folder` is no file
      help: write `extends: base.yaml`, the path of another config from the folder of this one
    1 mistake in bad.yaml; nothing was run
    ");
}

#[test]
fn a_mistake_in_an_extended_file_has_its_place_there() {
    let base = RUNNABLE.replace("d_state", "d_sate").replace("n_layers: 1", "n_layers: 1, n_layers: 2");
    let said = refused_of(&[
        ("parts/base.yaml", &base),
        ("bad.yaml", "extends: parts/base.yaml\nmodel: { d_model: 17, dropout: 2 }\nbudgt: {}\n"),
    ]);
    insta::assert_snapshot!(said, @"
    error: bad.yaml:2:32: `dropout` is 2, which is not a probability below 1
      help: use 0 to turn it off, or a number such as 0.1
    error: bad.yaml:3:1: unknown key `budgt` of the config
      help: did you mean `budget`? keys are name, question, extends, tasks, mixers, model, optimizer, schedule, budget, pretrain, analysis, seeds, grid, list, random, tune, ablate, figures, expect, match, published
    error: parts/base.yaml:2:36: `n_layers` is given twice
      help: keep one of the two
    error: parts/base.yaml:3:43: unknown field `d_sate` of `s4`
      help: did you mean `d_state`? fields are mode, init, rank, disc, d_state, n_ssm, channels, dt_min, dt_max, dt_tie, dt_transform, real_transform, bandlimit, l_max, rate, step_mode, lr, dropout, tie_dropout, bidirectional, final_act
    4 mistakes in bad.yaml; nothing was run
    ");
}

#[test]
fn an_axis_in_an_entry_must_have_values_and_be_that_entry_s() {
    let with = |grid: &str| {
        RUNNABLE.replace("s4: { d_state: 4 }]", &format!("{{ mixer: {{ s4: {{ d_state: 4 }} }},\n  {grid} }}]"))
    };
    let said = refused(&with("grid: {}"));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:4:9: `grid` is an empty mapping, expected paths with their values
      help: write `grid: { optimizer.lr: [1e-3, 3e-3] }`, or leave `grid` out
    1 mistake in bad.yaml; nothing was run
    ");
    let said = refused(&with("grid: { mixer.s4.d_state: [] }"));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:4:29: axis `mixer.s4.d_state` of `grid` is an empty list, expected a list of values
      help: write `grid: { optimizer.lr: [1e-3, 3e-3] }`, or leave `grid` out
    1 mistake in bad.yaml; nothing was run
    ");
    let axes = "grid: { mixer.attention.n_heads: [1, 2], task.mqar.kv_pairs: [1, 2], mixer.s4.d_sate: [4], optimizer.lr: [1, 1.0] }";
    let said = refused(&with(axes));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:4:11: `mixer.attention.n_heads` is a setting of `attention`, and this entry is of `s4`
      help: write mixer.s4.n_heads, or put the axis into an entry of `attention`
    error: bad.yaml:4:44: `task.mqar.kv_pairs` is the task's, and this entry is a mixer's
      help: put the axis under `grid` at the top of the file or in the task's entry
    error: bad.yaml:4:65: `kv_pairs` is 1, and with fewer than two pairs there is nothing to tell apart
      help: use 2 or more
    error: bad.yaml:4:72: unknown field `d_sate` of `s4`
      help: did you mean `d_state`? fields are mode, init, rank, disc, d_state, n_ssm, channels, dt_min, dt_max, dt_tie, dt_transform, real_transform, bandlimit, l_max, rate, step_mode, lr, dropout, tie_dropout, bidirectional, final_act
    error: bad.yaml:4:112: `1.0` is listed twice on the axis `optimizer.lr`
      help: list every value once
    5 mistakes in bad.yaml; nothing was run
    ");
}

#[test]
fn a_list_of_settings_that_go_together_is_told_what_is_wrong_with_it() {
    let said = refused(&format!(
        "{RUNNABLE}\
list:
  - {{ optimizer.lr: 1, model.d_modle: 2 }}
  - {{ optimizer.lr: 1.0, model.d_modle: 2 }}
  - {{ name: x, optimizr.lr: 1 }}
  - {{ name: y }}
  - 3
"
    ));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:5:24: unknown field `d_modle` of `model`
      help: did you mean `d_model`? fields are block, d_model, n_layers, norm, norm_place, norm_eps, ffn, d_ff, positions, embedding_norm, ffn_activation, ffn_dropout, dropout, tied_dropout, embedding_dropout, shared_depth, pooling, pair_head, init, init_std, embedding_std, cls_std, head, head_bias, classifier_dropout, token_types, max_positions, linear_std, linear_init, rescale_residual, precision, checkpoint_activations, preset
    error: bad.yaml:6:5: two points of the list `list` set the same
      help: leave one of them out
    error: bad.yaml:7:5: some points of the list `list` have a name and some have none
      help: name all of them, or none: names are the words of a table
    error: bad.yaml:7:16: `optimizr.lr` is not a setting
      help: did you mean `optimizer`? paths are model.KEY, optimizer.KEY, schedule.KEY, budget.KEY, pretrain.KEY, analysis.KEY, task.NAME.KEY and mixer.NAME.KEY (NAME as used in this config), and seeds for --set
    error: bad.yaml:8:5: a point of the list `list` is a name, expected settings with their values
      help: write `list: [{ optimizer.lr: 1e-2, schedule.warmup_steps: 10 }, { optimizer.lr: 1e-3, schedule.warmup_steps: 100 }]`
    error: bad.yaml:9:5: a point of the list `list` is `3`, expected settings with their values
      help: write `list: [{ optimizer.lr: 1e-2, schedule.warmup_steps: 10 }, { optimizer.lr: 1e-3, schedule.warmup_steps: 100 }]`
    6 mistakes in bad.yaml; nothing was run
    ");
    let said = refused(&format!("{RUNNABLE}list: {{ optimizer.lr: [1, 2] }}\n"));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:4:9: `optimizer.lr` is a setting, and lists have plain names
      help: an axis of one setting belongs under `grid`; write `list: [{ optimizer.lr: 1e-2, schedule.warmup_steps: 10 }, { optimizer.lr: 1e-3, schedule.warmup_steps: 100 }]`
    1 mistake in bad.yaml; nothing was run
    ");
    let said = refused(&format!("{RUNNABLE}list: [{{ optimizer.lr: 1 }}]\ngrid: {{ optimizer.lr: [2] }}\n"));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:4:10: `optimizer.lr` is swept by `grid` and by `list`
      help: leave it in one of them
    1 mistake in bad.yaml; nothing was run
    ");
}

#[test]
fn a_random_axis_is_told_what_is_wrong_with_it() {
    let said = refused(&format!("{RUNNABLE}random: {{ seeds: 1, samples: 0, digits: 20 }}\n"));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:4:1: `random` has no `over`
      help: write `random: { over: { optimizer.lr: { log_uniform: [1e-4, 1e-1] } }, samples: 8, seed: 0 }`
    error: bad.yaml:4:11: unknown key `seeds` of `random`
      help: did you mean `seed`? keys are over, samples, seed, digits
    error: bad.yaml:4:30: `samples` is `0`, expected a whole number from 1 to 10000
      help: write `random: { over: { optimizer.lr: { log_uniform: [1e-4, 1e-1] } }, samples: 8, seed: 0 }`
    error: bad.yaml:4:41: `digits` is `20`, expected a whole number from 1 to 15
      help: write `random: { over: { optimizer.lr: { log_uniform: [1e-4, 1e-1] } }, samples: 8, seed: 0 }`
    4 mistakes in bad.yaml; nothing was run
    ");
    let said = refused(&format!(
        "{RUNNABLE}\
random:
  samples: 4
  over:
    optimizer.lr: {{ log_uniform: [0, 1] }}
    optimizer.eps: {{ uniform: [1, 0] }}
    model.dropout: {{ unifrm: [0, 1] }}
    model.n_layers: {{ int_uniform: [1.5, 2] }}
    model.norm: {{ choice: [] }}
    model.d_model: [16, 32]
"
    ));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:7:34: `log_uniform` is `[0,1]`, expected two numbers above 0, the smaller first
      help: write `optimizer.lr: { log_uniform: [1e-4, 1e-1] }`
    error: bad.yaml:8:31: `uniform` is `[1,0]`, expected two numbers, the smaller first
      help: write `optimizer.eps: { uniform: [1e-4, 1e-1] }`
    error: bad.yaml:9:22: there is no distribution `unifrm`
      help: did you mean `uniform`? distributions are uniform, log_uniform, int_uniform, choice
    error: bad.yaml:10:36: `int_uniform` is `[1.5,2]`, expected two whole numbers, the smaller first
      help: write `model.n_layers: { int_uniform: [1, 4] }`, both ends included
    error: bad.yaml:11:27: `choice` is an empty list, expected a list of values
      help: write `model.norm: { choice: [a, b] }`
    error: bad.yaml:12:20: `model.d_model` is a list, expected one distribution
      help: write `model.d_model: { uniform: [0, 1] }`; distributions are uniform, log_uniform, int_uniform, choice
    6 mistakes in bad.yaml; nothing was run
    ");
    let said = refused(&format!(
        "{RUNNABLE}random: {{ samples: 4, over: {{ model.n_layers: {{ int_uniform: [1, 3] }} }} }}\n"
    ));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:4:1: `random` asks for 4 points, and only 3 different ones can be drawn
      help: set `samples: 3`, widen a range, or keep more `digits`
    1 mistake in bad.yaml; nothing was run
    ");
    let said =
        refused(&format!("{RUNNABLE}random: {{ samples: 2, over: {{ model.n_layers: {{ uniform: [1, 3] }} }} }}\n"));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:4:47: `n_layers` is `1.75`, expected a whole number
      help: write a whole number; the default is `2`
    error: bad.yaml:4:47: `n_layers` is `1.77`, expected a whole number
      help: write a whole number; the default is `2`
    2 mistakes in bad.yaml; nothing was run
    ");
}

#[test]
fn what_is_tuned_or_expected_must_be_there() {
    let said = refused(&format!("{RUNNABLE}tune: {{ over: {{ mixer.s4.d_sate: [4, 8] }} }}\n"));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:4:17: unknown field `d_sate` of `s4`
      help: did you mean `d_state`? fields are mode, init, rank, disc, d_state, n_ssm, channels, dt_min, dt_max, dt_tie, dt_transform, real_transform, bandlimit, l_max, rate, step_mode, lr, dropout, tie_dropout, bidirectional, final_act
    1 mistake in bad.yaml; nothing was run
    ");
    let said = refused(&format!("{RUNNABLE}expect: [{{ mixer: s4, task: mqr, at_least: 0.9 }}]\n"));
    insta::assert_snapshot!(said, @"
    error: bad.yaml:4:29: no task is labelled `mqr`
      help: did you mean `mqar`? labels of tasks are mqar
    1 mistake in bad.yaml; nothing was run
    ");
}
