//! `mixarena matrix`: the mixing matrices M of `Y = M V`, drawn side by side.

use super::{data_errors, fail, load, mistakes};
use crate::base::exit::Exit;
use crate::base::process::panic_reason;
use crate::cli::{Cli, Indices, MatrixArgs};
use crate::config::{Config, Draft, mixer_item};
use crate::model::{Inputs, Model};
use crate::registry::Registry;
use crate::sweep::matching;
use crate::sweep::opened::{OpenedTask, open_tasks};
use crate::sweep::plan::{Hashes, Planned};
use crate::sweep::sizes::Counter;
use crate::train::checkpoint;
use crate::train::seeds::{Purpose, reseed};
use crate::train::spec::Choice;
use mixers::{Context, Dims, NotLinear, core::quiet::quietly};
use results::plot::PlotError;
use results::plot::heatmap::{Figure, Matrix, Panel, draw};
use results::{Outcome, Record, Store};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tasks::{DataDir, Split, Task};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

/// A figure with more panels cannot be read.
const MOST_PANELS: usize = 64;
/// Positions of a long example, unless --length asks for more.
const LENGTH: usize = 256;
/// Positions without a config.
const BARE_LENGTH: usize = 64;

/// One matrix, or why there is none.
struct Drawn {
    label: String,
    mixer: Choice,
    task: Option<String>,
    /// `fresh weights, seed 0`.
    weights: String,
    /// The run the weights are of.
    run: Option<String>,
    layer: usize,
    head: usize,
    /// How many heads the layer has; 0 where it has no matrix.
    heads: usize,
    matrix: Result<Matrix, String>,
}

/// What was found, and what the figure says about its input.
struct Found {
    drawn: Vec<Drawn>,
    caption: String,
}

/// Runs the command.
pub fn matrix(args: &MatrixArgs, cli: &Cli, registry: &Registry) -> Exit {
    if !has_extension(&args.out, &["png", "svg"]) {
        fail(PlotError::Kind { path: args.out.clone() }, "write --out matrix.png or --out matrix.svg");
        return Exit::Usage;
    }
    if let Some(path) = args.values.as_deref().filter(|path| !has_extension(path, &["csv", "json"])) {
        fail(format!("{}: values are written as .csv or .json", path.display()), "write --values matrix.csv");
        return Exit::Usage;
    }
    let found = match &args.config {
        Some(path) => of_config(path, args, cli, registry),
        None => bare(args, registry),
    };
    let Found { drawn, caption } = match found {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    if drawn.len() > MOST_PANELS {
        fail(
            format!("{} panels, at most {MOST_PANELS} fit a figure", drawn.len()),
            "ask for fewer --layers or --heads, or use --filter",
        );
        return Exit::Usage;
    }
    let mut told = Vec::new();
    for one in &drawn {
        if let Err(why) = &one.matrix
            && !told.contains(&(&one.label, why))
        {
            eprintln!("not drawn: {}, layer {}, head {}: {why}", one.label, one.layer, one.head);
            told.push((&one.label, why));
        }
    }
    if drawn.iter().all(|one| one.matrix.is_err()) {
        fail("none of the mixers has a matrix to draw", "the lines above say why; `mixarena list mixers` names others");
        return Exit::Failed;
    }
    match write(args, &drawn, caption) {
        Ok(()) => {
            eprintln!("figure: {}", args.out.display());
            print(args, &drawn);
            Exit::Ok
        }
        Err(problem) => {
            fail(problem, "");
            Exit::Failed
        }
    }
}

fn has_extension(path: &Path, known: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| known.contains(&e))
}

/// Every mixer of a config, on an example of its task.
fn of_config(path: &Path, args: &MatrixArgs, cli: &Cli, registry: &Registry) -> Result<Found, Exit> {
    let mut config = seeded(path, args, cli, registry)?;
    let opened = open_tasks(&config, registry, &DataDir(args.folders.data.clone()), |_| true);
    let errors: Vec<_> = opened.iter().filter_map(|(_, task)| task.as_ref().err().map(Arc::clone)).collect();
    if !errors.is_empty() {
        return Err(data_errors(&errors));
    }
    matching::hold(&mut config, &mut Counter::new(registry, &opened)).map_err(|found| mistakes(path, &found))?;
    let store = Trained::open(args)?;
    let several_tasks = opened.len() > 1;
    let (mut drawn, mut captions) = (Vec::new(), Vec::new());
    for drafts in kinds(&config) {
        let Some((_, Ok(task))) = opened.iter().find(|(choice, _)| *choice == drafts[0].task) else { continue };
        let inputs = example(task.as_ref(), args)?;
        let length = inputs.tokens.size()[1];
        let caption = format!(
            "{}, example {} of {}, {}.",
            drafts[0].task_label,
            args.example,
            Split::Validation.name(),
            count(length as usize, "position")
        );
        if !captions.contains(&caption) {
            captions.push(caption);
        }
        let (draft, found) = store.choose(&drafts, registry, &opened)?;
        let mixer = registry.mixer(&draft.mixer.name).expect("the config was checked");
        reseed(draft.seed, Purpose::Init, 0);
        let vs = VarStore::new(Device::Cpu);
        let model = Model::new(&vs.root(), &draft.model, &draft.seen(task.spec()), mixer, &draft.mixer.settings);
        let filled = match &found {
            Some(found) => found.fill(&vs),
            None => Ok(()),
        };
        let settings: Vec<String> = draft.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut label = label(&draft.mixer_label, &draft.mixer, mixer);
        if !settings.is_empty() {
            label += &format!(", {}", settings.join(", "));
        }
        let layers = draft.model.n_layers as usize;
        for layer in args.layers.of(layers) {
            let m = match (&filled, layer < layers) {
                (Err(why), _) => Err(why.clone()),
                (Ok(()), false) => Err(format!("no layer {layer}: the model has {}", count(layers, "layer"))),
                (Ok(()), true) => computed(|| model.matrix(&inputs, layer)),
            };
            drawn.extend(heads(m, &args.heads).into_iter().map(|(head, heads, matrix)| Drawn {
                label: label.clone(),
                mixer: draft.mixer.clone(),
                task: several_tasks.then(|| draft.task_label.clone()),
                weights: found.as_ref().map_or_else(|| fresh(draft.seed), Checkpoint::words),
                run: found.as_ref().map(|found| found.record.id.clone()),
                layer,
                head,
                heads,
                matrix,
            }));
        }
    }
    Ok(Found { drawn, caption: captions.join(" ") })
}

/// Mixers by name or with settings, on random input.
fn bare(args: &MatrixArgs, registry: &Registry) -> Result<Found, Exit> {
    if !args.changes.sets.is_empty() || args.changes.filter.is_some() {
        fail(
            "--set and --filter change a config, and there is none",
            "put settings into --mixer '{ s4: { mode: diag } }'",
        );
        return Err(Exit::Usage);
    }
    if args.layers.of(1).iter().any(|layer| *layer > 0) {
        fail("--layers: without a config there is one layer, 0", "leave --layers out, or name a config");
        return Err(Exit::Usage);
    }
    let length = args.length.map_or(BARE_LENGTH, usize::from);
    let seed = args.seed.unwrap_or(0);
    let dims = Dims { d_model: args.d_model, seq_len: length as i64, causal: args.causal };
    let texts =
        args.mixers.iter().map(|name| (name, "--mixers")).chain(args.mixer.iter().map(|text| (text, "--mixer")));
    let (mut items, mut wrong) = (Vec::new(), 0);
    for (text, option) in texts {
        match mixer_item(text, &format!("{option} '{text}'"), &dims, registry) {
            Ok(item) => items.push(item),
            Err(found) => {
                eprint!("{}", found.render());
                wrong += found.len();
            }
        }
    }
    if wrong > 0 {
        eprintln!("{}; nothing was drawn", count(wrong, "mistake"));
        return Err(Exit::Usage);
    }
    reseed(seed, Purpose::Init, 1);
    let x = Tensor::randn([1, length as i64, dims.d_model], (Kind::Float, Device::Cpu));
    let mut drawn = Vec::new();
    for (name, choice) in items {
        let entry = registry.mixer(&choice.name).expect("the settings were checked");
        let m = computed(|| {
            reseed(seed, Purpose::Init, 0);
            let vs = VarStore::new(Device::Cpu);
            entry.build(&choice.settings, &vs.root(), &dims).materialize(&x, &Context::eval())
        });
        let label = label(&name, &choice, entry);
        drawn.extend(heads(m, &args.heads).into_iter().map(|(head, heads, matrix)| Drawn {
            label: label.clone(),
            mixer: choice.clone(),
            task: None,
            weights: fresh(seed),
            run: None,
            layer: 0,
            head,
            heads,
            matrix,
        }));
    }
    let causal = if dims.causal { ", causal" } else { "" };
    let caption = format!("Standard normal input, {} of width {}{causal}.", count(length, "position"), dims.d_model);
    Ok(Found { drawn, caption })
}

/// The config's runs; with `--seed` those of that seed. Where no run has it, seeds are set as `--set seeds=[N]` does: tasks whose seed
/// others start from keep theirs, and have no run of this one.
fn seeded(path: &Path, args: &MatrixArgs, cli: &Cli, registry: &Registry) -> Result<Config, Exit> {
    let mut config = load(path, &args.changes, cli.quiet, registry)?;
    let Some(seed) = args.seed else { return Ok(config) };
    if config.runs.iter().all(|draft| draft.seed != seed) {
        let mut changes = args.changes.clone();
        changes.sets.push(format!("seeds=[{seed}]"));
        config = load(path, &changes, true, registry)?;
    }
    config.runs.retain(|draft| draft.seed == seed);
    Ok(config)
}

/// Runs of equal label, task and grid point, which differ by their seed.
fn kinds(config: &Config) -> Vec<Vec<Draft>> {
    let mut kinds: Vec<Vec<Draft>> = Vec::new();
    let mut known: HashMap<_, usize> = HashMap::new();
    for draft in &config.runs {
        let at = *known.entry((&draft.mixer_label, &draft.task_label, &draft.settings)).or_insert(kinds.len());
        match kinds.get_mut(at) {
            Some(kind) => kind.push(draft.clone()),
            None => kinds.push(vec![draft.clone()]),
        }
    }
    kinds
}

/// The example's first positions.
fn example(task: &dyn Task, args: &MatrixArgs) -> Result<Inputs, Exit> {
    let examples = task.len(Split::Validation);
    if args.example >= examples {
        let help = if examples > 0 { format!("use 0 to {}", examples - 1) } else { String::new() };
        fail(
            format!("--example {}: the validation split has {}", args.example, count(examples as usize, "example")),
            &help,
        );
        return Err(Exit::Usage);
    }
    let example = task.example(Split::Validation, args.example).map_err(|error| data_errors(&[Arc::new(error)]))?;
    let width = task.spec().input.width() as usize;
    let positions = example.tokens.len() / width;
    let most = args.length.map_or(LENGTH, usize::from);
    if args.length.is_some_and(|length| usize::from(length) > positions) {
        eprintln!("the example has only {}", count(positions, "position"));
    }
    let tokens = Tensor::from_slice(&example.tokens[..most.min(positions) * width]);
    let tokens = if width > 1 { tokens.view([1, -1, width as i64]) } else { tokens.unsqueeze(0) };
    Ok(Inputs { tokens, types: None, lengths: None, positions: None })
}

/// The runs of a store that have ended, by id.
struct Trained {
    store: Option<Store>,
    records: HashMap<String, Record>,
}

/// The best weights of a finished run.
struct Checkpoint {
    path: PathBuf,
    record: Record,
}

impl Trained {
    fn open(args: &MatrixArgs) -> Result<Self, Exit> {
        if args.fresh || !args.folders.store.is_dir() {
            return Ok(Self { store: None, records: HashMap::new() });
        }
        let read = Store::open(&args.folders.store).and_then(|store| Ok((store.records()?, store)));
        let (records, store) = read.map_err(|error| {
            fail(error, "name another store with --store, or draw initial values with --fresh");
            Exit::Environment
        })?;
        Ok(Self { store: Some(store), records: records.into_iter().map(|r| (r.id.clone(), r)).collect() })
    }

    /// The first of `drafts` that has been trained to its end, else the first.
    fn choose(
        &self,
        drafts: &[Draft],
        registry: &Registry,
        opened: &[OpenedTask],
    ) -> Result<(Draft, Option<Checkpoint>), Exit> {
        let Some(store) = &self.store else { return Ok((drafts[0].clone(), None)) };
        let mut hashes = Hashes::default();
        for draft in drafts {
            let Planned { id, .. } =
                Planned::of(draft, registry, opened, &mut hashes).map_err(|errors| data_errors(&errors))?;
            let finished = self.records.get(&id).filter(|record| record.outcome == Outcome::Finished);
            let Some(record) = finished else { continue };
            let path = store.work_dir(&id).join("best.safetensors");
            if path.is_file() {
                return Ok((draft.clone(), Some(Checkpoint { path, record: record.clone() })));
            }
            eprintln!("warning: run {id} has finished, but {} is gone", path.display());
        }
        Ok((drafts[0].clone(), None))
    }
}

impl Checkpoint {
    fn fill(&self, vs: &VarStore) -> Result<(), String> {
        let read = checkpoint::read(&self.path, &self.record.id, checkpoint::Part::Best);
        let (tensors, _) = read.map_err(|error| error.to_string())?;
        checkpoint::fill(vs, &tensors).map_err(|why| format!("{}: {why}", self.path.display()))
    }

    fn words(&self) -> String {
        let id: String = self.record.id.chars().take(8).collect();
        format!("trained (step {} of {}), run {id}", self.record.best_step, self.record.steps)
    }
}

fn fresh(seed: u64) -> String {
    format!("fresh weights, seed {seed}")
}

/// M as `f` gives it; a panic of libtorch, such as out of memory, is a reason too.
fn computed(f: impl FnOnce() -> Result<Tensor, NotLinear>) -> Result<Tensor, String> {
    match quietly(|| no_grad(f)) {
        Ok(Ok(m)) => Ok(m.detach().to_device(Device::Cpu).to_kind(Kind::Float)),
        Ok(Err(why)) => Err(why.to_string()),
        Err(panic) => Err(panic_reason(&panic)),
    }
}

/// The matrices of the heads asked for: head, how many there are, and the matrix or why there is none.
fn heads(m: Result<Tensor, String>, wanted: &Indices) -> Vec<(usize, usize, Result<Matrix, String>)> {
    let m = match m {
        Ok(m) => m,
        // As many panels as others have, so that a line of the figure stays one mixer's.
        Err(why) => return wanted.of(1).into_iter().map(|head| (head, 0, Err(why.clone()))).collect(),
    };
    let (heads, length) = (m.size()[1] as usize, m.size()[3] as usize);
    let one = |head: usize| {
        if head >= heads {
            return Err(format!("no head {head}: the layer has {}", count(heads, "head")));
        }
        let entries =
            Vec::try_from(m.get(0).get(head as i64).flatten(0, -1)).map_err(|e: tch::TchError| e.to_string())?;
        Matrix::new(length, entries).ok_or_else(|| "the matrix holds numbers that are not finite".to_string())
    };
    wanted.of(heads).into_iter().map(|head| (head, heads, one(head))).collect()
}

/// The mixer's own label; its name is followed by its first word, such as `dplr`, and by what is not at its default.
fn label(given: &str, mixer: &Choice, entry: &mixers::Entry) -> String {
    if given != mixer.name {
        return given.into();
    }
    let defaults = (entry.defaults)();
    let mut parts = Vec::new();
    for (i, (key, value)) in mixer.settings.as_object().into_iter().flatten().enumerate() {
        let changed = defaults[key] != *value;
        match value {
            Value::String(word) if i == 0 => parts.push(word.clone()),
            Value::String(word) if changed => parts.push(format!("{key} {word}")),
            Value::Bool(true) if changed => parts.push(key.replace('_', " ")),
            other if changed => parts.push(format!("{key} {other}")),
            _ => {}
        }
    }
    if parts.is_empty() { given.into() } else { format!("{given}: {}", parts.join(", ")) }
}

/// `1 layer`, `2 layers`.
fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn write(args: &MatrixArgs, drawn: &[Drawn], caption: String) -> Result<(), String> {
    let panel = |one: &Drawn| {
        let of = if one.heads > 1 { format!(" of {}", one.heads) } else { String::new() };
        let place = match one.heads {
            0 => format!("layer {}", one.layer),
            _ => format!("layer {}, head {}{of}", one.layer, one.head),
        };
        let task = one.task.iter().cloned();
        let subtitles = task.chain([place, one.weights.clone()]).collect();
        Panel { title: one.label.clone(), subtitles, content: one.matrix.clone() }
    };
    let mut lines = drawn.chunk_by(|a, b| (&a.label, &a.task) == (&b.label, &b.task)).map(<[_]>::len);
    let first = lines.next().unwrap_or(1);
    let by_mixer = (first > 1 && first <= 8 && lines.all(|line| line == first)).then_some(first);
    let figure = Figure {
        panels: drawn.iter().map(panel).collect(),
        columns: args.columns.map(usize::from).or(by_mixer),
        axes: ["output position t".into(), "input position s".into()],
        caption: format!("Mixing matrices M of Y = M V. {caption}"),
    };
    draw(&figure, &args.out).map_err(|error| error.to_string())?;
    let Some(path) = &args.values else { return Ok(()) };
    let text = if has_extension(path, &["csv"]) { csv(drawn) } else { json_values(drawn) };
    results::replace(path, text.as_bytes()).map_err(|error| format!("{}: {error}", path.display()))
}

/// One entry a line.
fn csv(drawn: &[Drawn]) -> String {
    let mut text = String::from("mixer,task,layer,head,t,s,value\n");
    let quoted = |word: &str| format!("\"{}\"", word.replace('"', "\"\""));
    for one in drawn {
        let Ok(matrix) = &one.matrix else { continue };
        let (label, task) = (quoted(&one.label), quoted(one.task.as_deref().unwrap_or_default()));
        for (i, value) in matrix.values().iter().enumerate() {
            let (t, s) = (i / matrix.columns(), i % matrix.columns());
            text += &format!("{label},{task},{},{},{t},{s},{value}\n", one.layer, one.head);
        }
    }
    text
}

/// A list of rows for each matrix.
fn json_values(drawn: &[Drawn]) -> String {
    let one = |one: &Drawn| {
        let matrix = one.matrix.as_ref().ok()?;
        let rows: Vec<&[f32]> = matrix.values().chunks(matrix.columns()).collect();
        Some(json!({"mixer": one.label, "task": one.task, "layer": one.layer, "head": one.head, "values": rows}))
    };
    serde_json::to_string(&drawn.iter().filter_map(one).collect::<Vec<_>>()).expect("plain data")
}

/// Least and largest of some numbers.
fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[least, most], v| [least.min(v), most.max(v)])
}

/// Entries' range, and the range of the rows' sums.
fn ranges(matrix: &Matrix) -> [[f64; 2]; 2] {
    let rows = matrix.values().chunks(matrix.columns());
    let sums = rows.map(|row| row.iter().map(|v| f64::from(*v)).sum());
    [range(matrix.values().iter().map(|v| f64::from(*v))), range(sums)]
}

fn print(args: &MatrixArgs, drawn: &[Drawn]) {
    if args.json {
        let panels: Vec<Value> = drawn.iter().map(summary).collect();
        let file = |path: &PathBuf| path.display().to_string();
        let all = json!({"file": file(&args.out), "values": args.values.as_ref().map(file), "panels": panels});
        println!("{}", serde_json::to_string_pretty(&all).expect("plain data"));
        return;
    }
    let wide = drawn.iter().map(|one| one.label.chars().count()).max().unwrap_or(0);
    for one in drawn {
        let Ok(matrix) = &one.matrix else { continue };
        let [entries, sums] = ranges(matrix);
        let task = one.task.as_ref().map_or(String::new(), |task| format!("  {task}"));
        println!(
            "{:<wide$}  layer {} head {:<2}  {} × {}  entries {:>9.2e} to {:>8.2e}  row sums {:>9.2e} to {:>8.2e}  {}{task}",
            one.label,
            one.layer,
            one.head,
            matrix.rows(),
            matrix.columns(),
            entries[0],
            entries[1],
            sums[0],
            sums[1],
            one.weights
        );
    }
}

fn summary(one: &Drawn) -> Value {
    let mut summary = json!({"label": one.label, "mixer": one.mixer, "task": one.task, "layer": one.layer,
                             "head": one.head, "heads": one.heads, "weights": one.weights, "run": one.run});
    let fields = match &one.matrix {
        Err(why) => json!({"reason": why}),
        Ok(matrix) => {
            let [entries, sums] = ranges(matrix);
            json!({"shape": [matrix.rows(), matrix.columns()], "min": entries[0], "max": entries[1], "row_sums": sums})
        }
    };
    let more = fields.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
    summary.as_object_mut().expect("a map").extend(more);
    summary
}
