//! The command line: what can be typed, and its help.

use crate::base::choices::{DeviceKind, KeepKind};
use crate::base::exit::Exit;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What stands under the help of the whole: where output goes, and every exit code.
fn after_help() -> String {
    let codes: Vec<String> = Exit::ALL.iter().map(|exit| format!("  {:<3}  {}", *exit as u8, exit.about())).collect();
    format!("Data go to stdout, progress and log to stderr.\n\nExit codes:\n{}", codes.join("\n"))
}

/// Compare sequence mixers: one config, one command, one table.
#[derive(Debug, Parser)]
#[command(name = "mixarena", version, after_help = after_help(), propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// More on stderr: optimizer groups, every evaluation on validation.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Only failures on stderr.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Plan a config's runs, train what is missing, then write tables and plots
    ///
    /// The same command again trains nothing that is done and continues what was cut. A failed run is kept as a row;
    /// --retry tries it again.
    Sweep(SweepArgs),
    /// Print what a sweep would run: parameters, FLOPs, estimated time and memory
    Plan(PlanArgs),
    /// Train one run from a spec that `sweep` wrote (STORE/work/ID/spec.json), in the foreground
    Run(RunArgs),
    /// Rebuild tables, plots and the report page from a store's records
    Report(ReportArgs),
    /// List mixers, tasks, settings, presets of models, or the runs of a store
    ///
    /// A mixer comes with its paper, its cost and every setting: default, what it may be, what it means. With --json its
    /// settings are also given as a JSON schema.
    List(ListArgs),
    /// Print the JSON schema of experiment files, for editors
    ///
    /// `configs/schema.json` is this. A YAML file whose first line is `# yaml-language-server: $schema=schema.json` is then
    /// completed and checked while it is written.
    Schema,
    /// Draw mixing matrices, the M of Y = M V: of trained runs, or of fresh weights
    ///
    /// With CONFIG, every mixer of it is drawn on an example of its task: what its mixer reads in that layer, so M is what
    /// the model really uses. Weights are the best checkpoint (STORE/work/ID/best.safetensors) of a finished run of that
    /// config in the store, else initial values. Without CONFIG, the mixers of --mixers and --mixer are drawn with initial
    /// values on standard normal input. Each panel's title says which weights; its colours reach to the 95th percentile of
    /// its own non-zero |entries|. A mixer without a matrix (BiGS multiplies its two directions) gets a panel that says why;
    /// the command fails only when nothing could be drawn.
    Matrix(MatrixArgs),
    /// Hold the mixers against reference dumps: values and gradients
    ///
    /// FILES are safetensors files, or folders of them, with the keys input.*, param.*, output.*, grad_output.*,
    /// grad_input.* and grad_param.*. float64 files must agree to 1e-9 relative to the largest entry, float32 files to the
    /// larger of 1e-5 and four times the error recorded in the file. A file that cannot be used (no such family, a key
    /// missing, another shape, a number that is not finite) fails with the reason; the others are still held. A table of
    /// families and precisions comes last.
    Verify(VerifyArgs),
    /// Measure speed and memory of the mixers by length, or compare two measurements
    ///
    /// Each mixer stands in the block of its paper. All mixers of a length are timed in turns in one process, after rounds
    /// for warming up; memory is that of a fresh process for each mixer, length and pass. A mixer that passes the time or
    /// the memory cap stops there, and the table says so. Times vary with the machine's load: compare ratios to attention
    /// within one run.
    Bench(Box<BenchArgs>),
    /// The process that measures for `bench`
    #[command(hide = true)]
    BenchChild,
    /// The process that `sweep` copies its runs from
    #[command(hide = true)]
    Template,
    /// The process that measures for `plan` and `sweep`
    #[command(hide = true)]
    GaugeChild(GaugeArgs),
    /// Write a run's best weights as safetensors, under the names of released models
    ///
    /// BERT-shaped models get Hugging Face's names, BiGS, Hydra and the matrix mixers those of their repositories; what these
    /// have no name for keeps its own. `--names own` writes the names of Mixarena's own checkpoints. Mixarena reads files with
    /// either names. A config.json beside the file describes the model; a run that starts from the file must agree with it.
    ExportWeights(ExportWeightsArgs),
    /// Fetch data sets, check them, generate them, or export them for use elsewhere
    Data(DataArgs),
    /// Check libtorch, CUDA, threads, data folder, fonts and disk, and say what to do about the rest
    Doctor(DoctorArgs),
}

/// Where data and records lie.
#[derive(Args, Clone, Debug)]
pub struct Folders {
    /// Folder of data sets
    #[arg(long, value_name = "DIR", env = "MIXARENA_DATA", default_value = "data")]
    pub data: PathBuf,
    /// Folder of records, checkpoints and reports
    #[arg(long, value_name = "DIR", env = "MIXARENA_STORE", default_value = "runs")]
    pub store: PathBuf,
}

/// Changes to a config.
#[derive(Args, Clone, Debug)]
pub struct Changes {
    /// Override a key in every run: model.d_model=64, budget.steps=20, mixer.s4.d_state=16, seeds=[0,1]; one key each, repeatable
    ///
    /// It wins over presets, the top of the file and the entries of tasks and mixers. An axis of the grid over the same key is
    /// left out, so that no run is labelled with a value that it does not have.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// Only runs that match every term: 'mixer=s4 & task=mqar & seed=0'
    #[arg(short = 'k', long, value_name = "TERMS")]
    pub filter: Option<String>,
    /// Refuse a config that asks for more runs than this
    #[arg(long, value_name = "N", default_value_t = crate::config::MOST_RUNS)]
    pub max_runs: u64,
}

impl Changes {
    /// What the runs of a config become part of by these changes: its own sweep, or one named after the changes too, so that a
    /// trial or a part never takes the place of the whole sweep's tables.
    pub fn name(&self, of: &str) -> String {
        if self.sets.is_empty() && self.filter.is_none() {
            return of.into();
        }
        // Of two values for one path the last wins, so that the others are no part of what is run.
        let path = |set: &str| set.split('=').next().unwrap_or_default().trim().to_owned();
        let overruled = |at: usize, set: &str| self.sets[at + 1..].iter().any(|later| path(later) == path(set));
        let last = self.sets.iter().enumerate().filter(|(at, set)| !overruled(*at, set));
        let mut changes: Vec<String> = last.map(|(_, set)| set.clone()).collect();
        changes.sort();
        changes.extend(self.filter.iter().map(|filter| format!("--filter {filter}")));
        let hash = blake3::hash(changes.join("\n").as_bytes()).to_hex();
        format!("{of}-part-{}", &hash[..8])
    }
}

/// What helps after a mistake in the arguments that the parser knows no remedy for.
pub fn hint(error: &clap::Error) -> Option<&'static str> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let argument = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) => argument,
        _ => return None,
    };
    let name = argument.split('=').next().unwrap_or_default();
    match name {
        "--seed" | "--seeds" => {
            Some("seeds are part of the config: --set 'seeds=[3]' runs these, --filter seed=3 those of the config")
        }
        "--resume" | "--continue" | "--restart" => {
            Some("the same command goes on by itself where it was cut; --retry also tries again what failed")
        }
        "--steps" | "--lr" | "--batch-size" | "--epochs" => {
            Some("settings are changed by their path: --set budget.steps=100 --set optimizer.lr=1e-3")
        }
        "--gpu" | "--cuda" => Some("write --device cuda"),
        name if !name.starts_with('-') && argument.contains('=') => {
            Some("every assignment has a --set of its own: --set optimizer.lr=1e-3 --set budget.steps=100")
        }
        _ => None,
    }
}

/// Arguments of `sweep`.
#[derive(Args, Clone, Debug)]
pub struct SweepArgs {
    /// The experiment, a YAML file
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
    #[command(flatten)]
    pub folders: Folders,
    #[command(flatten)]
    pub changes: Changes,
    /// Runs at a time [default: cores / threads, or without --threads cores / 2, at least 1, and on 2 cores 2]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Threads of each run, whatever is left to do; numbers depend on them [default: cores / jobs]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Checkpoints to keep of a finished run; unfinished ones keep theirs
    #[arg(long, value_enum, value_name = "WHICH", env = "MIXARENA_KEEP", default_value_t = KeepKind::Best)]
    pub keep: KeepKind,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    pub device: DeviceKind,
    /// Print the plan and stop
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Train at most N of the missing runs
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Start no more runs after the first that fails
    #[arg(long)]
    pub fail_fast: bool,
    /// Try failed, diverged and timed-out runs again
    #[arg(long)]
    pub retry: bool,
    /// Print the result as JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `gauge-child`.
#[derive(Args, Clone, Debug)]
pub struct GaugeArgs {
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    pub device: DeviceKind,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
}

/// Arguments of `plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// The experiment, a YAML file
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
    #[command(flatten)]
    pub folders: Folders,
    #[command(flatten)]
    pub changes: Changes,
    /// Print JSON
    #[arg(long, conflicts_with = "print_config")]
    pub json: bool,
    /// Print every run fully resolved, as YAML, and beside each value where it comes from: file and line, --set, preset or default
    #[arg(long = "print", visible_alias = "print-config")]
    pub print_config: bool,
    /// Runs at a time that the whole is reckoned for; each gets cores / jobs threads, as in `sweep` [default: as there]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Seconds in which steps of the runs are timed here; 0 times none, and leaves lower bounds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = not_negative)]
    pub measure: f64,
    /// Speed of a GPU to estimate its hours with, TFLOP/s sustained [default: 5.85, assumed: 30 % of an A100's 19.5 in
    /// float32]
    #[arg(long, value_name = "TFLOPS", value_parser = positive)]
    pub gpu_tflops: Option<f64>,
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The resolved spec, JSON
    #[arg(value_name = "SPEC")]
    pub spec: PathBuf,
    #[command(flatten)]
    pub folders: Folders,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    pub device: DeviceKind,
    /// Threads; a run that goes on from a checkpoint keeps those it began with [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Checkpoints to keep once it has finished
    #[arg(long, value_enum, value_name = "WHICH", env = "MIXARENA_KEEP", default_value_t = KeepKind::Best)]
    pub keep: KeepKind,
    /// Memory the process may use, bytes [default: nine tenths of what is available]
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<u64>,
    /// Print events as JSON lines and stop when standard input closes (how `sweep` talks to its children)
    #[arg(long)]
    pub events: bool,
}

/// Arguments of `report`.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// The store
    #[arg(value_name = "DIR", default_value = "runs")]
    pub dir: PathBuf,
    /// Only this sweep [default: every sweep of the store]
    #[arg(long, value_name = "NAME")]
    pub sweep: Option<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// What to list
    #[arg(value_enum)]
    pub what: Listed,
    /// Only this mixer, task, section of settings, published model or preset
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The store, for runs
    #[arg(long, value_name = "DIR", env = "MIXARENA_STORE", default_value = "runs")]
    pub store: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print the settings as a Markdown page, docs/settings.md
    #[arg(long, conflicts_with_all = ["json", "name"])]
    pub markdown: bool,
}

/// What `list` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listed {
    /// The mixers: paper, cost, settings with what they may be and mean
    Mixers,
    /// The tasks, with their settings and defaults
    Tasks,
    /// The sections of a config (model, optimizer, ...): every key with its default and meaning
    Settings,
    /// The runs recorded in a store
    Runs,
    /// The published numbers on Long Range Arena, GLUE and language modelling, each with the place it was read in
    Published,
    /// Models as published and small ones, for `model: { preset: NAME }`, their parameters counted
    Presets,
}

/// Arguments of `matrix`.
#[derive(Args, Clone, Debug)]
pub struct MatrixArgs {
    /// The experiment, a YAML file
    #[arg(value_name = "CONFIG", required_unless_present_any = ["mixers", "mixer"])]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub folders: Folders,
    #[command(flatten)]
    pub changes: Changes,
    /// Mixers with default settings, without a config: attention,s4,hydra
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "config")]
    pub mixers: Vec<String>,
    /// A mixer with settings, as an item under `mixers:` of a config: '{ s4: { mode: diag, init: lin } }'; repeatable
    #[arg(long, value_name = "YAML", conflicts_with = "config")]
    pub mixer: Vec<String>,
    /// Layers to draw, from 0: a list such as 0,1, or `all`
    #[arg(long, value_name = "LIST", default_value = "0")]
    pub layers: Indices,
    /// Heads to draw, from 0 (S4 has one a channel): a list such as 0,3, or `all`
    #[arg(long, value_name = "LIST", default_value = "0")]
    pub heads: Indices,
    /// Seed of the run and of fresh weights [default: with CONFIG its first seed with a finished run, else its first; without
    /// CONFIG 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Initial values, even of runs that have finished
    #[arg(long, requires = "config")]
    pub fresh: bool,
    /// Which example of the task's validation split
    #[arg(long, value_name = "N", default_value_t = 0, requires = "config")]
    pub example: u64,
    /// Positions at most [default: with CONFIG the example's, up to 256; without CONFIG 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2048))]
    pub length: Option<u16>,
    /// Width of the input without a config
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(i64).range(1..=8192), conflicts_with = "config")]
    pub d_model: i64,
    /// Mixers that read no later position, without a config
    #[arg(long, conflicts_with = "config")]
    pub causal: bool,
    /// Panels side by side [default: by their number; with several layers or heads a line is one mixer's, up to 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub columns: Option<u16>,
    /// The figure, .png or .svg
    #[arg(short, long, value_name = "FILE", default_value = "matrix.png")]
    pub out: PathBuf,
    /// Also write every entry of the matrices, .csv (one entry a line) or .json
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Layers or heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Indices {
    /// Whatever there is.
    All,
    /// These, each once.
    Some(Vec<usize>),
}

impl Indices {
    /// Of `count` there are.
    pub fn of(&self, count: usize) -> Vec<usize> {
        match self {
            Self::All => (0..count).collect(),
            Self::Some(list) => list.clone(),
        }
    }
}

impl std::str::FromStr for Indices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "all" {
            return Ok(Self::All);
        }
        let mut list = Vec::new();
        for part in text.split(',') {
            let wrong = || format!("`{}` is not a whole number, 0 or more; write 0,1 or all", part.trim());
            let index = part.trim().parse().map_err(|_| wrong())?;
            if !list.contains(&index) {
                list.push(index);
            }
        }
        Ok(Self::Some(list))
    }
}

/// Arguments of `export-weights`.
#[derive(Args, Clone, Debug)]
pub struct ExportWeightsArgs {
    /// The run: its id, or the start of it, as `mixarena list runs` shows
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The file, .safetensors
    #[arg(short, long, value_name = "FILE")]
    pub out: PathBuf,
    /// Whose names the tensors get
    #[arg(long, value_enum, default_value_t = NamesKind::Reference)]
    pub names: NamesKind,
    /// The store
    #[arg(long, value_name = "DIR", env = "MIXARENA_STORE", default_value = "runs")]
    pub store: PathBuf,
}

/// Whose names tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NamesKind {
    /// The released model's
    Reference,
    /// Mixarena's
    Own,
}

/// Arguments of `verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Dumps, or folders of them
    #[arg(value_name = "FILES", required = true)]
    pub files: Vec<PathBuf>,
    /// Do not fail on families this build has no mixer for
    #[arg(long)]
    pub skip_unsupported: bool,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    pub device: DeviceKind,
    /// Print JSON, one object a file and one for the summary
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    /// Something else than measuring.
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
    /// What to measure
    #[arg(long, value_enum, default_value_t = BenchSuite::Lengths)]
    pub suite: BenchSuite,
    /// Only these mixers [default: every one]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub mixers: Option<Vec<String>>,
    /// A setting of a mixer: s4.d_state=16
    #[arg(long = "set", value_name = "MIXER.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Lengths [default: 256,512,1024,2048,4096,8192,16384]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub lengths: Option<Vec<i64>>,
    /// Width of the blocks [default: 256]
    #[arg(long, value_name = "N")]
    pub d_model: Option<i64>,
    /// Sequences at a time [default: 4]
    #[arg(long, value_name = "N")]
    pub batch: Option<i64>,
    /// Build every mixer to read only the past [default: only those that cannot do otherwise]
    #[arg(long)]
    pub causal: bool,
    /// Where to compute; on CUDA times alone are taken
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    pub device: DeviceKind,
    /// Which passes to measure
    #[arg(long, value_enum, default_value_t = BenchPasses::Both)]
    pub passes: BenchPasses,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub repeats: usize,
    /// Rounds before them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub warmup: usize,
    /// A mixer stops at the length where its heaviest pass takes longer than this; that one time is kept
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub time_cap: f64,
    /// A mixer stops at the length where its process needs more than this, as 8GiB or 512MiB [default: nine tenths of
    /// what is available]
    #[arg(long, value_name = "SIZE")]
    pub memory_cap: Option<String>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print JSON: every number taken and everything derived from them
    #[arg(long)]
    pub json: bool,
    /// Write the measurement, as .json or .csv
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Draw time and memory against the length, as .svg or .png
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Store the measurement as STORE/bench/NAME.json, in place of what was there, for `bench compare`
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Folder of records, where baselines lie
    #[arg(long, value_name = "DIR", env = "MIXARENA_STORE", default_value = "runs")]
    pub store: PathBuf,
}

/// What `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchSuite {
    /// Every mixer by length
    Lengths,
    /// Fixed comparisons with an attention block of d_model 256, 4 heads, batch 4; exit code 1 when a target is missed
    Targets,
}

/// Passes that `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchPasses {
    /// Forward without gradients, and forward with backward
    Both,
    /// Forward without gradients alone: lengths at which a backward does not fit
    Forward,
}

/// What `bench` does besides measuring.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Ratios of two measurements; exit code 1 where B is worse than A by more than the threshold
    ///
    /// Times are compared as ratios to attention in the same run, where both runs have it; memory as the peak of a process.
    Compare(CompareArgs),
    /// Processor time of whole optimizer steps of small models, and its ratio to attention
    ///
    /// Every mixer stands in the block of its paper and learns multi-query associative recall. All take turns in one process with one
    /// thread; medians and quartiles are of the turns. Processor time does not count the time that other processes took.
    Steps(StepsArgs),
    /// Time of a prompt, time of the next token after it, and bytes of state, by the length of the context
    ///
    /// One layer of each mixer that reads only the past, without gradients. The prompt goes through the parallel form at once, the
    /// tokens through the step form one by one.
    Decode(DecodeArgs),
}

/// Arguments of `bench decode`.
#[derive(Args, Clone, Debug)]
pub struct DecodeArgs {
    /// Only these mixers [default: every one]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub mixers: Option<Vec<String>>,
    /// A setting of a mixer: mamba2.d_state=16
    #[arg(long = "set", value_name = "MIXER.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Lengths of the context
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "256,1024,4096",
          value_parser = clap::value_parser!(i64).range(32..1 << 24))]
    pub contexts: Vec<i64>,
    /// Width
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(i64).range(1..))]
    pub d_model: i64,
    /// Sequences at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    pub batch: i64,
    /// Times that each context is read and decoded; medians are printed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..1000))]
    pub repeats: u64,
    /// A mixer that takes longer than this in a repeat leaves out longer contexts
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    pub time_cap: f64,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Print JSON: every repeat
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench steps`.
#[derive(Args, Clone, Debug)]
pub struct StepsArgs {
    /// Only these mixers [default: every one]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub mixers: Option<Vec<String>>,
    /// A setting of a mixer: s4.d_state=16
    #[arg(long = "set", value_name = "MIXER.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Width
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(i64).range(1..))]
    pub d_model: i64,
    /// Positions of a sequence, a multiple of four
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(i64).range(4..))]
    pub length: i64,
    /// Sequences at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(i64).range(1..))]
    pub batch: i64,
    /// Layers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(i64).range(1..))]
    pub layers: i64,
    /// Turns of each mixer
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..10_000))]
    pub rounds: u64,
    /// Steps of a turn
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..10_000))]
    pub steps: u64,
    /// Print JSON: every turn
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// The earlier: a baseline's name, or a JSON file of --export
    #[arg(value_name = "A")]
    pub before: String,
    /// The later
    #[arg(value_name = "B")]
    pub after: String,
    /// Worse is a ratio B / A above this
    #[arg(long, value_name = "FACTOR", default_value_t = 1.2)]
    pub threshold: f64,
    /// Compare seconds, not ratios to attention: only between runs on the same quiet machine
    #[arg(long)]
    pub absolute: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Folder of records, where baselines lie
    #[arg(long, value_name = "DIR", env = "MIXARENA_STORE", default_value = "runs")]
    pub store: PathBuf,
}

/// Arguments of `data`.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// What to do with data.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What `data` does.
#[derive(Clone, Debug, Subcommand)]
pub enum DataCommand {
    /// Download data sets into the data folder
    ///
    /// A download that broke continues with the same command. Size and checksum are held against what is published; where
    /// nothing is published the first download is trusted (at a terminal, after a question), pinned in
    /// DATA/fetch.lock.json, and every later one must be equal to it. Archives are read as they are: nothing need be unpacked. Without a network, the commands to run
    /// elsewhere are printed.
    Fetch(FetchArgs),
    /// Check fetched files and prepared sets again, and report what a task's data hold
    ///
    /// Fetched files are read again and held against their checksums or pins, prepared sets against the hashes they were
    /// made with, and every example against the task's vocabulary, classes and lengths. Then come counts, label shares,
    /// lengths, and examples that stand in the data twice. Without NAME: every fetched file, and every task that reads
    /// files and finds them. Exit code 1 when a check does not hold.
    Verify(DataVerifyArgs),
    /// Write the examples that a task's settings draw, in the layout of the official files
    Generate(GenerateArgs),
    /// Write the examples of one split, as a model gets them, to one file
    ///
    /// jsonl: one example a line, {"tokens": [...], "label": n}; with "second" for tasks about pairs, and "positions" and
    /// "classes" in place of the label where a class is asked for at positions. npz: tokens (int32, padded with pad_token),
    /// lengths, labels; second and second_lengths; or rows, positions and classes.
    Export(ExportArgs),
}

/// Arguments of `data fetch`.
#[derive(Args, Clone, Debug)]
pub struct FetchArgs {
    /// Sets, as `--list` names them
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub names: Vec<String>,
    /// List what can be fetched, and what is there
    #[arg(long, conflicts_with = "names")]
    pub list: bool,
    /// Folder of data sets
    #[arg(long, value_name = "DIR", env = "MIXARENA_DATA", default_value = "data")]
    pub data: PathBuf,
    /// A mirror, in place of scheme and host of every address: http://mirror.example
    #[arg(long, value_name = "URL", env = "MIXARENA_MIRROR")]
    pub from: Option<String>,
    /// Take this file, downloaded elsewhere, through the same checks; of several, each by its own name
    #[arg(long = "file", value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Take and pin a file that is not what was published or pinned, and trust one without a published checksum unasked
    #[arg(long)]
    pub accept_checksum: bool,
    /// Most bytes to take of a file; otherwise its published size, or a gigabyte and twice what it is thought to have
    #[arg(long, value_name = "N")]
    pub max_bytes: Option<u64>,
    /// Unpack archives into the data folder besides; no path or link of an archive may point outside
    #[arg(long)]
    pub unpack: bool,
    /// Give up a file after this many tries in a row that bring nothing new
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub retries: u32,
    /// Say what would be fetched, and stop
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A task's data: which, and with which settings.
#[derive(Args, Clone, Debug)]
pub struct Source {
    /// Folder of data sets
    #[arg(long, value_name = "DIR", env = "MIXARENA_DATA", default_value = "data")]
    pub data: PathBuf,
    /// A setting of the task: source=files, or listops.source=files
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// Arguments of `data verify`.
#[derive(Args, Clone, Debug)]
pub struct DataVerifyArgs {
    /// A task, or a set that can be fetched [default: everything there is]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    pub source: Source,
    /// Hold the label of every row of these ListOps files against the value of its expression: the official form, or the
    /// original `label<TAB>expression`; .tsv, .tsv.gz, or a folder or .tar.gz of basic_*.tsv
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["name", "sets"])]
    pub labels: Vec<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "labels")]
    pub json: bool,
}

/// Arguments of `data generate`.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    /// The task
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where to write
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// A setting of the task: data_seed=1, or listops.data_seed=1
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Write into a folder that is not empty, in place of what has the same names
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `data export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The task
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub source: Source,
    /// Form of the file [default: by its name]
    #[arg(long, value_enum)]
    pub format: Option<ExportFormat>,
    /// Which examples
    #[arg(long, value_enum)]
    pub split: SplitName,
    /// The file; written under another name and renamed when it is whole
    #[arg(short, long, value_name = "FILE")]
    pub out: PathBuf,
    /// The first N examples alone
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// Forms of `data export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One JSON object a line
    Jsonl,
    /// NumPy arrays in one file
    Npz,
}

/// A split on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitName {
    /// Learned from
    Train,
    /// Watched while training
    Validation,
    /// Touched once
    Test,
}

/// Arguments of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub folders: Folders,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A number of seconds, 0 or more.
fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| *n >= 0.0 && *n <= 1e6);
    number.ok_or_else(|| "not a number of seconds, 0 or more".into())
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| *n > 0.0 && n.is_finite());
    number.ok_or_else(|| "not a number above 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn help_lists_every_exit_code() {
        let help = Cli::command().render_help().to_string();
        for exit in Exit::ALL {
            let line = format!("{:<3}  {}", exit as u8, exit.about());
            assert!(help.contains(&line), "{line}: {help}");
        }
    }

    #[test]
    fn a_trial_is_named_by_the_values_that_count() {
        let name = |sets: &[&str]| {
            let sets = sets.iter().map(|set| (*set).to_owned()).collect();
            Changes { sets, filter: None, max_runs: 1 }.name("x")
        };
        assert_eq!(name(&["a=1", "b=2"]), name(&["b=2", "a=1"]));
        // The last value of a path is the one that runs have.
        assert_ne!(name(&["a=1", "a=2"]), name(&["a=2", "a=1"]));
        assert_eq!(name(&["a=1", "a=2"]), name(&["a=2"]));
        assert_eq!(name(&[]), "x");
    }
}
