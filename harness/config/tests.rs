//! Configs as a user writes them: what they come to, and what is said of mistakes.

use super::explain::fields_of;
use super::*;
use crate::train::pretrain::Objective;

fn parse(text: &str, sets: &[&str]) -> Result<Config, Diagnostics> {
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    Config::parse(text, "x.yaml", "x", &sets, &Registry::default())
}

const BASE: &str = "tasks: [mqar: { causal: false }]\nmixers:\n  - attention\n";

/// Combiner's `d_head` is left out of its JSON at its default, so that older runs keep their identity.
#[test]
fn a_setting_that_json_leaves_out_at_its_default_can_be_written() {
    let registry = Registry::default();
    for entry in mixers::registry() {
        let defaults = (entry.defaults)();
        let fields = fields_of(&defaults, entry.accepts);
        assert!(defaults.as_object().unwrap().keys().all(|key| fields.contains(key)), "{}: {fields:?}", entry.name);
    }
    for entry in tasks::registry() {
        let defaults = (entry.defaults)();
        let fields = fields_of(&defaults, entry.accepts);
        assert!(defaults.as_object().unwrap().keys().all(|key| fields.contains(key)), "{}: {fields:?}", entry.name);
    }
    let text = |key: &str| {
        format!(
            "tasks: [mqar: {{ vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }}]\n\
             model: {{ d_model: 16 }}\nmixers: [combiner: {{ {key}: 5, n_heads: 2 }}]\n"
        )
    };
    let parse = |key: &str| Config::parse(&text(key), "x.yaml", "x", &[], &registry);
    let config = parse("d_head").unwrap_or_else(|e| panic!("{}", e.render()));
    assert_eq!(config.runs[0].mixer.settings["d_head"], 5);
    assert!(parse("d_hed").unwrap_err().render().contains("did you mean `d_head`?"));
}

#[test]
fn sections_are_laid_over_each_other_and_the_command_line_wins() {
    let text = "\
optimizer: { lr: 1, weight_decay: 1 }
tasks:
  - task: mqar
    optimizer: { lr: 2 }
mixers:
  - attention
  - mixer: combiner
    optimizer: { lr: 3 }
";
    let lrs = |c: Config| c.runs.iter().map(|r| (r.optimizer.lr, r.optimizer.weight_decay)).collect::<Vec<_>>();
    assert_eq!(lrs(parse(text, &[]).unwrap()), [(2.0, 1.0), (3.0, 1.0)]);
    assert_eq!(lrs(parse(text, &["optimizer.lr=4"]).unwrap()), [(4.0, 1.0), (4.0, 1.0)]);
}

#[test]
fn a_grid_is_the_product_of_its_axes_and_of_the_seeds() {
    let text =
        format!("{BASE}seeds: [3, 5]\ngrid: {{ optimizer.lr: [1e-3, 1e-2], mixer.attention.n_heads: [1, 2] }}\n");
    let config = parse(&text, &[]).unwrap();
    assert_eq!(config.runs.len(), 8);
    assert_eq!(
        config.runs[2].settings,
        [("optimizer.lr".into(), "0.001".to_string()), ("mixer.attention.n_heads".into(), "2".into())]
    );
    assert_eq!(config.runs[2].mixer.settings["n_heads"], 2);
    assert_eq!(config.runs.iter().map(|r| r.seed).collect::<Vec<_>>(), [3, 5, 3, 5, 3, 5, 3, 5]);
}

#[test]
fn a_task_may_have_a_grid_of_its_own_and_starts_from_the_point_that_it_shares() {
    let config = |first: &str, second: &str| {
        let task = "task: { mqar: { causal: false } }";
        format!(
            "seeds: 2\ngrid: {{ optimizer.lr: [1, 2] }}\ntasks:\n  - {{ name: a, {task}, {first} }}\n  \
             - {{ name: b, {task}, start: a, {second} }}\nmixers: [attention]\n"
        )
    };
    let found = |first: &str, second: &str| -> Vec<(String, f64, f64, Option<f64>)> {
        let runs = parse(&config(first, second), &[]).unwrap().runs;
        let start = |draft: &Draft| match &draft.start {
            Some(Start::Run(first)) => Some(first.optimizer.lr),
            _ => None,
        };
        let of_seed_one = runs.iter().filter(|run| run.seed == 1);
        of_seed_one
            .map(|run| (run.task_label.clone(), run.optimizer.lr, run.optimizer.weight_decay, start(run)))
            .collect()
    };
    let run = |task: &str, lr: f64, decay: f64, start: Option<f64>| (task.to_string(), lr, decay, start);
    let (both, decay) = (Some(1.0), 0.01);
    assert_eq!(
        found("grid: null", "optimizer: {}"),
        [run("a", 1e-3, decay, None), run("b", 1.0, decay, Some(1e-3)), run("b", 2.0, decay, Some(1e-3))]
    );
    assert_eq!(
        found("grid: { optimizer.lr: [1] }", "grid: { optimizer.lr: [1], optimizer.weight_decay: [3, 4] }"),
        [run("a", 1.0, decay, None), run("b", 1.0, 3.0, both), run("b", 1.0, 4.0, both)]
    );
    let refused = parse(&config("optimizer: {}", "grid: { optimizer.weight_decay: [3] }"), &[]).unwrap_err();
    let said = refused.lines().concat();
    assert!(said.contains("`a` is swept over `optimizer.lr` and `b` not over the same values"), "{said}");
    assert!(parse(&config("grid: 3", ""), &[]).unwrap_err().lines()[0].contains("expected paths with their values"));
}

#[test]
fn equal_settings_written_differently_resolve_to_equal_specs() {
    let a = parse(&format!("{BASE}optimizer: {{ lr: 1 }}\n"), &[]).unwrap();
    let b = parse(&format!("{BASE}optimizer: {{ lr: 1.0, beta1: 0.9 }}\nmodel: {{ d_ff: 512 }}\n"), &[]).unwrap();
    let id = |c: &Config| c.runs[0].spec(&Registry::default(), 1, None).id();
    assert_eq!(id(&a), id(&b));
}

#[test]
fn what_does_not_change_a_number_does_not_change_the_identity() {
    let id = |sets: &[&str]| parse(BASE, sets).unwrap().runs[0].spec(&Registry::default(), 1, None).id();
    assert_eq!(id(&[]), id(&["budget.timeout_minutes=5", "budget.checkpoint_every=7"]));
    for change in [
        "budget.steps=7",
        "model.d_model=64",
        "seeds=[9]",
        "mixer.attention.bias=false",
        "task.mqar.kv_pairs=5",
        "optimizer.eps=1e-7",
    ] {
        assert_ne!(id(&[]), id(&[change]), "{change}");
    }
}

#[test]
fn learning_from_scratch_is_one_spec_however_it_is_written() {
    let id =
        |text: &str| parse(&format!("{BASE}{text}"), &[]).unwrap().runs[0].spec(&Registry::default(), 1, None).id();
    let none = id("");
    for same in ["pretrain: none\n", "pretrain: { objective: none, steps: 7 }\n", "pretrain: { mask_rate: 0.3 }\n"] {
        assert_eq!(id(same), none, "{same}");
    }
    let mlm = id("pretrain: mlm\n");
    assert_eq!(id("pretrain: { objective: mlm, steps: 500, mask_rate: 0.15, lr: 1e-3 }\n"), mlm);
    assert_eq!(id("optimizer: { lr: 0.001 }\npretrain: { objective: mlm, lr: 0.001, warmup_steps: 0 }\n"), mlm);
    let clm = id("pretrain: clm\n");
    assert_eq!(id("pretrain: { objective: clm, mask_rate: 0.3 }\n"), clm, "clm hides nothing");
    let others =
        [none, mlm, clm, id("pretrain: { objective: mlm, steps: 7 }\n"), id("pretrain: { objective: mlm, lr: 1 }\n")];
    assert!(others.iter().enumerate().all(|(i, a)| others[..i].iter().all(|b| a != b)), "{others:?}");
}

#[test]
fn pretraining_is_overridden_by_entries_swept_by_a_grid_and_set_on_the_command_line() {
    let text = "\
pretrain: { steps: 9 }
tasks: [{ task: { mqar: { causal: false } }, pretrain: mlm }]
mixers: [attention, { mixer: s4, pretrain: { steps: 5 } }]
";
    let found = |text: &str, sets: &[&str]| -> Vec<Option<(Objective, u64)>> {
        let config = parse(text, sets).unwrap();
        config.runs.iter().map(|r| r.pretrain.as_ref().map(|p| (p.objective, p.steps))).collect()
    };
    let mlm = |steps| Some((Objective::Mlm, steps));
    assert_eq!(found(text, &[]), [mlm(9), mlm(5)]);
    assert_eq!(found(text, &["pretrain=none"]), [None, None]);
    for path in ["pretrain", "pretrain.objective"] {
        let grid = format!("{text}grid: {{ {path}: [none, mlm, clm] }}\n");
        let clm = |steps| Some((Objective::Clm, steps));
        assert_eq!(found(&grid, &[]), [None, mlm(9), clm(9), None, mlm(5), clm(5)]);
        assert_eq!(parse(&grid, &[]).unwrap().runs[1].settings, [("pretrain.objective".into(), "mlm".to_string())]);
    }
}

#[test]
fn a_cls_vector_that_can_read_nothing_is_refused() {
    let text = "tasks: [{ listops: {} }]\nmodel: { pooling: cls }\nmixers: [attention]\n";
    assert!(parse(text, &["pretrain=mlm"]).is_ok());
    let found = parse(text, &["pretrain=clm"]).unwrap_err().lines();
    assert!(found[0].starts_with("x.yaml:2:19: `pooling` is cls, but `objective: clm`"), "{found:#?}");
}

#[test]
fn a_mixer_entry_may_be_limited_to_tasks_and_share_its_label() {
    let text = "\
tasks: [{ name: a, task: { mqar: { kv_pairs: 2 } } }, { name: b, task: mqar }]
mixers:
  - { name: m, tasks: a, mixer: attention }
  - { name: m, tasks: [b], mixer: combiner }
";
    let pairs: Vec<_> =
        parse(text, &[]).unwrap().runs.iter().map(|r| (r.task_label.clone(), r.mixer.name.clone())).collect();
    assert_eq!(pairs, [("a".to_string(), "attention".to_string()), ("b".into(), "combiner".into())]);
    let clash = text.replace("tasks: [b]", "tasks: [a, b]");
    assert!(parse(&clash, &[]).unwrap_err().lines()[0].contains("labelled `m`"));
    let unknown = text.replace("tasks: [b]", "tasks: [c]");
    assert!(parse(&unknown, &[]).unwrap_err().lines()[0].starts_with("x.yaml:4:24: no task is labelled `c`"));
}

#[test]
fn several_mistakes_are_shown_at_once_in_the_order_of_the_file() {
    let text = "\
model: { d_model: 64, n_layer: 2 }
tasks: [mqar: { kv_pairs: 99, causal: false }]
mixers:
  - attention: { n_heads: 5, n_head: 2 }
  - atention
budget: { steps: 0, batch_size: abc }
optimizer: { lr: -1 }
seeds: []
";
    let lines = parse(text, &[]).unwrap_err().lines();
    let places: Vec<&str> = lines.iter().map(|l| l.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "x.yaml:1:23",
            "x.yaml:2:27",
            "x.yaml:4:27",
            "x.yaml:4:30",
            "x.yaml:5:5",
            "x.yaml:6:33",
            "x.yaml:7:18",
            "x.yaml:8:8"
        ],
        "{lines:#?}"
    );
}

#[test]
fn published_numbers_are_named_by_mixer_and_task_and_leave_the_identity_alone() {
    let text = "\
published: Transformer
tasks:
  - text: {}
  - { name: short, task: { mqar: { causal: false } }, published: Path-X }
  - { name: other, task: { text: {} }, published: ~ }
mixers:
  - attention
  - { mixer: s4, published: S4D-LegS }
  - { mixer: bigs, published: ~ }
";
    let config = parse(text, &[]).unwrap();
    let beside: Vec<_> = config.runs.iter().map(|run| run.published.clone()).collect();
    let cell = |task: &str, model: Option<&str>, stand_in| {
        Some(Beside { task: task.into(), model: model.map(str::to_owned), stand_in })
    };
    let models = [Some("Transformer"), Some("S4D-LegS"), None];
    assert_eq!(beside[..3], models.map(|model| cell("Text", model, false)));
    assert_eq!(beside[3..6], models.map(|model| cell("Path-X", model, true)));
    assert_eq!(beside[6..], [None, None, None]);
    let bare = parse(&text.replace("published: Transformer\n", ""), &[]).unwrap();
    let id = |config: &Config| config.runs[0].spec(&Registry::default(), 1, None).id();
    assert_eq!(id(&config), id(&bare));
}

#[test]
fn a_model_without_published_numbers_is_named_with_its_neighbours() {
    let text = "\
published: [S4]
tasks: [{ task: { mqar: { causal: false } }, published: PathX }]
mixers:
  - { mixer: s4, published: s4d }
";
    let error = parse(text, &[]).unwrap_err();
    assert_eq!(
        error.lines(),
        [
            "x.yaml:1:12: `published` is a list, which is no model with published numbers",
            "x.yaml:2:57: `published` is `PathX`, which is no task with published numbers",
            "x.yaml:4:29: `published` is `s4d`, which is no model with published numbers",
        ]
    );
    let help = error.render();
    assert!(help.contains("nearest are `S4D`, `S4`, `S4D-Inv`, `S4D-Lin`; `mixarena list published`"), "{help}");
    assert!(help.contains("did you mean `Path-X`?"), "{help}");
}

#[test]
fn a_value_set_for_every_run_takes_the_place_of_the_grid_s_axis_and_of_what_entries_say() {
    let text = format!(
        "{BASE}  - {{ mixer: combiner, optimizer: {{ lr: 3 }} }}\n\
         grid: {{ optimizer.lr: [1e-3, 1e-2], optimizer.eps: [1e-7, 1e-8] }}\n\
         figures: [{{ lines: {{ x: optimizer.lr }} }}, {{ lines: {{ x: optimizer.eps }} }}]\n"
    );
    assert_eq!(parse(&text, &[]).unwrap().runs.len(), 8);
    assert_eq!(parse(&text, &[]).unwrap().notes, [""; 0]);
    let config = parse(&text, &["optimizer.lr=0.1"]).unwrap();
    assert_eq!(config.runs.len(), 4, "one value is no axis");
    for run in &config.runs {
        assert_eq!(run.optimizer.lr, 0.1);
        let paths: Vec<&str> = run.settings.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["optimizer.eps"], "no run is labelled with a rate that it does not have");
    }
    assert_eq!(config.figures.len(), 1);
    let notes = config.notes.join("\n");
    assert!(
        notes.contains("--set optimizer.lr replaces the axis `optimizer.lr` of `grid`: every run has 0.1"),
        "{notes}"
    );
    assert!(notes.contains("--set optimizer.lr also replaces `lr` in the entries of `combiner`"), "{notes}");
    assert!(notes.contains("figures over an axis that --set replaces are left out"), "{notes}");
    // The last of a key wins, also among seeds.
    let config = parse(&text, &["optimizer.lr=0.1", "seeds=2", "optimizer.lr=0.2", "seeds=[7]"]).unwrap();
    assert!(config.runs.iter().all(|run| run.optimizer.lr == 0.2 && run.seed == 7));
    assert_eq!(config.runs.len(), 4);
}

#[test]
fn an_axis_is_replaced_wherever_it_stands_and_however_it_is_written() {
    let text = "\
pretrain: { steps: 9 }
tasks:
  - { name: a, task: { mqar: { causal: false } }, grid: { model.d_model: [8, 16], optimizer.lr: [1, 2] }, seeds: [5] }
  - { name: b, task: { mqar: { causal: false, kv_pairs: 2 } } }
mixers: [attention: { n_heads: 2 }]
grid: { pretrain: [none, mlm], mixer.attention.n_heads: [1, 2], task.mqar.kv_pairs: [2, 4] }
";
    let of = |sets: &[&str]| -> Vec<(String, Vec<String>)> {
        let runs = parse(text, sets).unwrap().runs;
        let label = |run: &Draft| run.settings.iter().map(|(path, value)| format!("{path}={value}")).collect();
        runs.iter().map(|run| (run.task_label.clone(), label(run))).collect()
    };
    assert_eq!(of(&[]).len(), 4 + 8);
    let sets = ["model.d_model=8", "pretrain=mlm", "mixer.attention.n_heads=1", "task.mqar.kv_pairs=2"];
    let left = of(&sets);
    let label = |task: &str, settings: &[&str]| (task.to_string(), settings.iter().map(|s| s.to_string()).collect());
    assert_eq!(left, [label("a", &["optimizer.lr=1"]), label("a", &["optimizer.lr=2"]), label("b", &[])]);
    let notes = parse(text, &["task.mqar.kv_pairs=2", "seeds=2"]).unwrap().notes.join("\n");
    assert!(notes.contains("also replaces `kv_pairs` in the entries of `b`"), "{notes}");
    assert!(notes.contains("--set seeds also replaces the seeds in the entries of `a`"), "{notes}");
    // Two names of one axis would label a run twice.
    let twice = text.replace("pretrain: [none, mlm]", "pretrain: [none], pretrain.objective: [mlm]");
    let found = parse(&twice, &[]).unwrap_err().lines();
    assert!(found[0].contains("`pretrain.objective` names the axis `pretrain.objective` a second time"), "{found:?}");
}

#[test]
fn an_axis_in_a_mixer_s_entry_is_that_mixer_s_alone() {
    let text = |of_gru: &str, of_task: &str| {
        format!(
            "seeds: 2\ngrid: {{ optimizer.lr: [1, 2] }}\ntasks:\n  - {{ name: a, task: {{ mqar: {{ causal: false }} }}, {of_task} }}\n\
             mixers:\n  - attention\n  - {{ mixer: gru, {of_gru} }}\n"
        )
    };
    let of = |of_gru: &str, of_task: &str, sets: &[&str]| -> Vec<String> {
        let config = parse(&text(of_gru, of_task), sets).unwrap_or_else(|e| panic!("{}", e.render()));
        let own = config.runs.iter().filter(|run| run.seed == 1);
        let label = |(path, value): &(String, String)| format!(" {path}={value}");
        own.map(|run| run.mixer_label.clone() + &run.settings.iter().map(label).collect::<String>()).collect()
    };
    let shared = ["attention optimizer.lr=1", "attention optimizer.lr=2"];
    let with = |more: &[&'static str]| -> Vec<&'static str> { [&shared[..], more].concat() };
    assert_eq!(
        of("grid: { model.n_layers: [1, 3] }", "seeds: 2", &[]),
        with(&[
            "gru optimizer.lr=1 model.n_layers=1",
            "gru optimizer.lr=1 model.n_layers=3",
            "gru optimizer.lr=2 model.n_layers=1",
            "gru optimizer.lr=2 model.n_layers=3",
        ])
    );
    assert_eq!(
        of("grid: { optimizer.lr: [5] }", "seeds: 2", &[]),
        with(&["gru optimizer.lr=5"]),
        "in place of the shared"
    );
    assert_eq!(of("grid: ~", "seeds: 2", &[]), with(&["gru"]));
    assert_eq!(
        of("grid: { model.n_layers: [3] }", "grid: ~", &[]),
        ["attention", "gru model.n_layers=3"],
        "beside a task's own grid too"
    );
    let set = of("grid: { model.n_layers: [1, 3] }", "seeds: 2", &["model.n_layers=2"]);
    assert_eq!(set, with(&["gru optimizer.lr=1", "gru optimizer.lr=2"]), "the shared axis is left");
    let config = parse(&text("grid: { model.n_layers: [1, 3] }", "seeds: 2"), &[]).unwrap();
    assert!(config.runs.iter().all(|run| run.model.n_layers == 2 || run.mixer_label == "gru"));
    let most = |most| {
        let text = text("grid: { model.n_layers: [1, 3] }", "seeds: 2");
        Config::parse_within(&text, "x.yaml", "x", &[], most, &Registry::default())
    };
    assert!(most(12).is_ok() && most(11).is_err(), "two seeds of two and four points");
}

#[test]
fn shared_axes_of_every_kind_give_way_to_a_task_s_own_grid_and_can_be_tuned_beside() {
    let text = "\
list: [{ name: a, budget.steps: 10 }, { name: b, budget.steps: 20 }]
random: { over: { optimizer.eps: { uniform: [1e-9, 1e-7] } }, samples: 3 }
tune: { over: { optimizer.lr: [1e-3, 1e-2] } }
figures: [{ lines: { x: list } }]
tasks: [{ name: a, task: { mqar: { causal: false } } }, { name: b, task: { mqar: { causal: false } }, grid: ~ }]
mixers: [attention]
";
    let config = parse(text, &[]).unwrap_or_else(|e| panic!("{}", e.render()));
    assert_eq!(config.runs.len(), 2 * 3 + 1);
    assert_eq!(config.tune.unwrap().cells.len(), 2 * 3 + 1);
    assert_eq!(config.runs[0].settings[0], ("list".to_owned(), "a".to_owned()));
    let refused = parse(&text.replace("budget.steps: 20", "budget.steps: 20, optimizer.lr: 1"), &[]).unwrap_err();
    assert!(refused.lines()[0].contains("`optimizer.lr` is an axis of `list` and of `tune`"), "{:?}", refused.lines());
}

/// As `bigs.yaml` and `hydra_glue.yaml`: pretraining has one seed, and every fine-tuning starts from it.
#[test]
fn set_seeds_leave_a_task_the_seed_that_others_start_from() {
    let text = "\
seeds: 3
tasks:
  - { name: corpus, task: { mqar: { causal: false } }, seeds: [0] }
  - { name: own, task: { mqar: { causal: false } }, seeds: [7] }
  - { name: fine, task: { mqar: { causal: false } }, start: { task: corpus, seed: 0 } }
  - { name: finer, task: { mqar: { causal: false } }, start: fine }
mixers: [attention]
";
    let config = parse(text, &["seeds=[1,2]"]).unwrap_or_else(|e| panic!("{}", e.render()));
    let runs: Vec<(&str, u64)> = config.runs.iter().map(|run| (run.task_label.as_str(), run.seed)).collect();
    let want = [("corpus", 0), ("own", 1), ("own", 2), ("fine", 1), ("fine", 2), ("finer", 1), ("finer", 2)];
    assert_eq!(runs, want);
    assert_eq!(
        config.notes,
        [
            "--set seeds also replaces the seeds in the entries of `own`",
            "--set seeds leaves tasks their own seeds where others start from one of them: `corpus`",
        ]
    );
}

#[test]
fn what_cannot_be_set_says_what_can() {
    let help = |set: &str| parse(BASE, &[set]).unwrap_err().render();
    assert!(help("optimizer={lr: 0.1}").contains("name one of its keys: optimizer.KEY"));
    assert!(help("grid.optimizer.lr=[1]").contains("--set optimizer.lr=VALUE takes the place of the axis"));
    assert!(help("task.mqar.train_mixture.0=1").contains("set `train_mixture` as a whole"));
    assert!(help("optimizer.lr").contains("more of them each have a --set of their own"));
}

#[test]
fn too_many_runs_are_refused_before_they_are_made() {
    let values: Vec<String> = (1..=1000).map(|n| n.to_string()).collect();
    let axis = values.join(", ");
    let text = format!(
        "{BASE}seeds: 2\ngrid: {{ optimizer.lr: [{axis}], optimizer.eps: [{axis}], budget.steps: [{axis}] }}\n"
    );
    // A billion points: nobody would wait for them.
    let found = parse(&text, &[]).unwrap_err();
    let said = found.render();
    assert!(
        said.contains("x.yaml:5:1: 2,000,000,000 runs are asked for (1 tasks, 1 mixers, 1,000,000,000 points of the grid, 2 seeds)")
            && said.contains("more than 10,000\n")
            && said.contains("--max-runs 2000000000"),
        "{said}"
    );
    // A limit that the option cannot take is not offered.
    let axes: Vec<String> = ["optimizer.beta1", "optimizer.beta2", "optimizer.weight_decay", "model.dropout"]
        .map(|path| format!("{path}: [{axis}]"))
        .into();
    let beyond = text.replace("grid: { ", &format!("grid: {{ {}, ", axes.join(", ")));
    let said = parse(&beyond, &[]).unwrap_err().render();
    assert!(said.contains("help: take values, entries or seeds out\n") && !said.contains("--max-runs"), "{said}");
    let small = format!("{BASE}grid: {{ optimizer.lr: [1, 2, 3] }}\n");
    let within = |most| Config::parse_within(&small, "x.yaml", "x", &[], most, &Registry::default());
    assert_eq!(within(3).unwrap().runs.len(), 3);
    assert!(within(2).is_err());
    assert_eq!(parse(&text, &["optimizer.lr=1", "optimizer.eps=1", "seeds=1"]).unwrap().runs.len(), 1000);
}

#[test]
fn many_entries_cost_as_much_each_as_few() {
    // A comparison of each with each would take minutes here: 30,000 labels are 450 million pairs in a debug build.
    let mixers: String = (0..30_000).map(|n| format!("  - {{ name: m{n}, mixer: gru }}\n")).collect();
    let text = format!("tasks: [mqar: {{ causal: false }}]\nmixers:\n{mixers}  - {{ name: m7, mixer: gru }}\n");
    let found = Config::parse_within(&text, "x.yaml", "x", &[], 10, &Registry::default()).unwrap_err().lines();
    assert!(found.iter().any(|line| line.contains("two mixers are labelled `m7`")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("30,001 runs are asked for")), "{found:?}");
}

#[test]
fn a_name_is_text_that_can_name_files_and_a_label_is_plain_text() {
    let of = |line: &str| parse(&format!("{BASE}{line}\n"), &[]).map(|config| config.name);
    assert_eq!(of("name: mine").unwrap(), "mine");
    assert_eq!(of("name: \"2024\"").unwrap(), "2024");
    for (line, said) in [
        ("name: 2024", "x.yaml:4:7: `name` is `2024`, expected text"),
        ("name: [a]", "x.yaml:4:7: `name` is a list, expected text"),
        ("name: true", "x.yaml:4:7: `name` is `true`, expected text"),
        ("name:", "`name` is nothing, expected text"),
        ("question: 7", "x.yaml:4:11: `question` is `7`, expected text"),
        ("name: -rf", "x.yaml:4:7: `name` is `-rf`, which begins with `-`"),
        ("name: ../evil", "x.yaml:4:7: `name` is `../evil`, which contains `/`"),
    ] {
        let found = of(line).unwrap_err().lines();
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].contains(said), "{line}: {found:?}");
    }
    let long = of(&format!("name: {}", "x".repeat(101))).unwrap_err().lines();
    assert!(long[0].contains("has 101 characters"), "{long:?}");
    assert!(of("name: 2024").unwrap_err().render().contains("put it in quotes: `name: \"2024\"`"));
    let stem = Config::parse(BASE, "-x.yaml", "-x", &[], &Registry::default()).unwrap_err().render();
    assert!(stem.contains("the sweep is named after the file, `-x`"), "{stem}");
    let label = |label: &str| parse(&format!("{BASE}  - {{ name: {label}, mixer: gru }}\n"), &[]);
    assert!(label("S4 (diag)").is_ok());
    let found = label("\"\\e[31mred\"").unwrap_err();
    assert!(found.lines()[0].contains("`name` is `\\u{1b}[31mred`, which contains U+001B"), "{:?}", found.lines());
    for wrong in ["\"=1+1\"", "\"<b>\"", "\"a\\u202eb\"", "\"\""] {
        assert!(label(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_setting_of_several_forms_is_told_how_each_is_written() {
    let said = |tokenizer: &str| {
        let text = format!("tasks: [mlm: {{ tokenizer: {tokenizer} }}]\nmixers: [attention]\n");
        parse(&text, &[]).unwrap_err().render()
    };
    let forms = "`bytes`, `{ characters: {} }`, `{ wordpiece: {} }`, `{ bpe: {} }`, `{ file: {} }`";
    for (tokenizer, problem, help) in [
        (
            "characters",
            "x.yaml:1:27: `tokenizer` is `characters`, but `characters` is not written so",
            "write `tokenizer: { characters: {} }`",
        ),
        ("{ bytes: {} }", "`tokenizer` is a mapping, but `bytes` is not written so", "write `tokenizer: bytes`"),
        ("character", "`tokenizer` is `character`, expected one of these forms: `bytes`", "did you mean `characters`?"),
        ("3", "`tokenizer` is `3`, expected one of these forms: `bytes`", forms),
        ("[bpe]", "`tokenizer` is a list, expected one of these forms: `bytes`", forms),
        (
            "{ bpe: {}, bytes: {} }",
            "`tokenizer` is a mapping, but `bpe` is not written so",
            "write `tokenizer: { bpe: {} }`",
        ),
        ("{ bpes: {} }", "`tokenizer` is a mapping, expected one of these forms: `bytes`", "did you mean `bpe`?"),
    ] {
        let text = said(tokenizer);
        assert!(text.contains(problem) && text.contains(help) && text.contains(forms), "{tokenizer}: {text}");
    }
    // What is wrong further in is said as such, at its place.
    let inner = said("{ bpe: { vocab: 3 } }");
    assert!(
        inner.contains("x.yaml:1:36: unknown field `vocab` in `tokenizer`") && inner.contains("vocab_size"),
        "{inner}"
    );
    let inner = said("{ bpe: { vocab_size: many } }");
    assert!(inner.contains("string \"many\" in `tokenizer`, where a whole number, 0 or more is expected"), "{inner}");
    assert!(said("{ file: {} }").contains("`tokenizer` lacks `path`"));
}

#[test]
fn a_figure_that_is_none_is_told_which_there_are() {
    let said = |figures: &str| parse(&format!("{BASE}figures: {figures}\n"), &[]).unwrap_err().render();
    let all = "figures are lines, details, cells, profile, ranking";
    assert!(said("[bar]").contains("x.yaml:4:11: there is no figure `bar`") && said("[bar]").contains(all));
    assert!(said("[{ line: { x: model.d_model } }]").contains("did you mean `lines`?"));
    assert!(said("[lines]").contains("figure `lines` has no settings here"));
    let field = said("[{ details: { axes: length } }]");
    assert!(
        field.contains("x.yaml:4:24: unknown field `axes` in `details`") && field.contains("did you mean `axis`?"),
        "{field}"
    );
    assert!(said("[3]").contains("a figure is `3`, expected one name with its settings"));
}
