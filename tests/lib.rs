//! What the tests of the binary share: a folder to run it in, tiny configs, signals, and what a command left behind.
//!
//! The tests lie in `tests/` and are targets of the package `harness`, so that cargo builds the binary before them.

pub mod server;

use results::{Record, Store};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A task of sixteen tokens that trains hundreds of steps a second, as an item under `tasks:`.
pub const RECALL: &str = "mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: 200, validation_examples: 20, test_examples: 30 }";

/// Every mixer, two seeds each, ten steps.
pub const FIVE: &str = "\
name: five
question: Does every mixer come through?
seeds: 2
tasks:
  - mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: 200, validation_examples: 20, test_examples: 30 }
model: { d_model: 16, n_layers: 1, dropout: 0.1 }
optimizer: { lr: 1e-2 }
budget: { steps: 10, batch_size: 8, eval_every: 5 }
mixers:
  - attention: { n_heads: 2 }
  - combiner: { n_heads: 2 }
  - mixer: { s4: { d_state: 4 } }
    model: { block: s4 }
  - mixer: { bigs: { d_state: 4 } }
    model: { block: bigs }
  - mixer: { hydra: { d_state: 4, headdim: 8 } }
    model: { block: hydra }
";

/// The names in [`FIVE`].
pub const MIXERS: [&str; 5] = ["attention", "combiner", "s4", "bigs", "hydra"];

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the binary prints UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ended {
    /// Holds the exit code, and gives the rest back.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code\n--- stdout\n{}\n--- stderr\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked at"), "a user sees no panic:\n{}", self.err);
        self
    }
}

/// A folder that is the working directory of every command run in it; gone at the end.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
    /// The cache of commands that measure how fast this machine is; all others share one, for that takes a second each.
    cache: Option<TempDir>,
}

impl Folder {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it makes a folder on disk")]
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), cache: None }
    }

    /// One that holds the file `name`.
    pub fn with(name: &str, text: &str) -> Self {
        let folder = Self::new();
        folder.write(name, text);
        folder
    }

    /// The same, with commands that measure the machine.
    pub fn measuring(self) -> Self {
        Self { cache: Some(tempfile::tempdir().expect("a temporary folder")), ..self }
    }

    /// What they measured: a JSON document each.
    pub fn measured(&self) -> Vec<String> {
        let cache = self.cache.as_ref().expect("`measuring`");
        let files = fs::read_dir(cache.path().join("mixarena/machine")).into_iter().flatten().flatten();
        files.map(|file| fs::read_to_string(file.path()).expect("a text file")).collect()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("makes folders");
        fs::write(&path, content).expect("writes a file");
    }

    /// A file's bytes.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A file's text.
    #[track_caller]
    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).expect("a text file")
    }

    /// Names in a folder, sorted; none where there is no such folder.
    pub fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).into_iter().flatten();
        let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// `mixarena` with `line` as its arguments, split at spaces.
    pub fn command(&self, line: &str) -> Command {
        // A shell starts background commands with SIGINT ignored, and what is ignored is inherited.
        let ignores = fs::read_to_string("/proc/self/status").expect("Linux");
        let ignored = ignores.lines().find_map(|l| l.strip_prefix("SigIgn:")).expect("signals are listed");
        let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a mask");
        if ignored & 0x4003 == 0 {
            return self.prepare(Command::new(binary()), line);
        }
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,TERM").arg(binary());
        self.prepare(command, line)
    }

    /// Runs `mixarena` with `line` as its arguments.
    pub fn run(&self, line: &str) -> Ended {
        self.command(line).output().expect("the binary starts").into()
    }

    /// The same on one core of this machine, whatever it has.
    pub fn run_on_one_core(&self, line: &str) -> Ended {
        let status = fs::read_to_string("/proc/self/status").expect("Linux");
        let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).expect("cores are listed");
        let first: String = allowed.trim().chars().take_while(char::is_ascii_digit).collect();
        let mut command = Command::new("taskset");
        command.args(["-c", &first]).arg(binary());
        self.prepare(command, line).output().expect("taskset is there").into()
    }

    /// Starts `mixarena` in the background.
    pub fn start(&self, line: &str) -> Background {
        let mut command = self.command(line);
        Background(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")))
    }

    /// The same, with standard input open until [`Background::hang_up`] or its end.
    pub fn start_open(&self, line: &str) -> Background {
        let mut command = self.command(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Background(Some(command.spawn().expect("the binary starts")))
    }

    /// Starts `mixarena` in the background with a signal ignored, as `nohup` does with SIGHUP.
    pub fn start_ignoring(&self, signal: &str, line: &str) -> Background {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("trap '' {signal}; exec \"$@\""), "sh"]).arg(binary());
        let mut command = self.prepare(command, line);
        Background(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh starts")))
    }

    /// Starts `mixarena` in the background, with standard error in a file of this folder.
    pub fn start_saying(&self, line: &str, file: &str) -> Background {
        let said = fs::File::create(self.path(file)).expect("makes a file");
        Background(Some(self.command(line).stdout(Stdio::piped()).stderr(said).spawn().expect("the binary starts")))
    }

    /// Every process at work in this folder, those included that were forked and are not yet what they shall be.
    pub fn processes(&self) -> Vec<u32> {
        let here = fs::canonicalize(self.folder.path()).expect("the folder is there");
        let processes = fs::read_dir("/proc").expect("Linux").flatten().map(|entry| entry.path());
        let of_here = processes.filter(|path| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == here));
        of_here.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
    }

    fn prepare(&self, mut command: Command, line: &str) -> Command {
        command.args(line.split_whitespace()).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("MIXARENA_DATA").env_remove("MIXARENA_STORE").env_remove("RUST_BACKTRACE");
        command.env_remove("MIXARENA_KEEP").env_remove("MIXARENA_MIRROR").env("NO_PROXY", "127.0.0.1");
        command.env_remove("MIXARENA_KERNELS");
        let shared = || binary().with_file_name("cache-of-tests");
        command.env("XDG_CACHE_HOME", self.cache.as_ref().map_or_else(shared, |own| own.path().into()));
        // Tests share the cores; `sweep` sets this for its children, `run` in the foreground does not.
        command.env("OMP_WAIT_POLICY", "passive");
        command
    }

    /// The latest record of every run in the store `runs`.
    pub fn records(&self) -> Vec<Record> {
        self.records_in("runs")
    }

    /// The latest record of every run in a store.
    pub fn records_in(&self, store: &str) -> Vec<Record> {
        Store::open(self.path(store)).and_then(|store| store.records()).expect("a readable store")
    }

    /// The only record in the store `runs`.
    #[track_caller]
    pub fn record(&self) -> Record {
        let [record] = <[Record; 1]>::try_from(self.records()).expect("one run");
        record
    }

    /// Waits until a run of the store `runs` has written a checkpoint.
    pub fn wait_for_checkpoint(&self) {
        wait_until("a checkpoint", || {
            self.names("runs/work").iter().any(|id| self.path(&format!("runs/work/{id}/last.safetensors")).exists())
        });
    }
}

/// A command at work, killed when a test gives up on it.
#[derive(Debug)]
pub struct Background(Option<Child>);

impl Background {
    /// Its process number.
    pub fn id(&self) -> u32 {
        self.0.as_ref().expect("still held").id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        is_alive(self.id())
    }

    /// Its runs: children that have named themselves.
    pub fn runs(&self) -> Vec<u32> {
        let of_self = children(self.id());
        of_self.into_iter().filter(|pid| name(*pid) == "mixarena-run").collect()
    }

    /// Closes its standard input.
    pub fn hang_up(&mut self) {
        drop(self.0.as_mut().expect("still held").stdin.take());
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        self.0.take().expect("still held").wait_with_output().expect("a command ends").into()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The binary under test: cargo names it, and a test started by hand lies in the folder below it.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its file");
    let beside = || test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps").join("mixarena");
    let path = std::env::var_os("CARGO_BIN_EXE_mixarena").map_or_else(beside, PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `cargo build`, or `cargo test --workspace`", path.display());
    path
}

/// The registry's name of a record's mixer.
pub fn mixer(record: &Record) -> &str {
    let choice = record.spec["mixer"].as_object().expect("a one-key map");
    choice.keys().next().expect("one key")
}

/// Sends a signal, `KILL` or `INT`.
#[track_caller]
pub fn signal(name: &str, pid: u32) {
    assert!(try_signal(name, pid), "kill -s {name} {pid}");
}

/// The same to a process that may have ended meanwhile; says whether it was there.
pub fn try_signal(name: &str, pid: u32) -> bool {
    let kill = Command::new("sh").args(["-c", &format!("kill -s {name} {pid}")]).stderr(Stdio::null()).status();
    kill.expect("sh runs").success()
}

/// The name of a process; empty when it is gone.
fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().into()
}

/// Processes whose parent is `pid`: field 4 of `/proc/<pid>/stat`, counted behind the name, which may hold anything.
pub fn children(pid: u32) -> Vec<u32> {
    let parent = |path: &Path| -> Option<u32> {
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let processes = fs::read_dir("/proc").expect("Linux").flatten().map(|entry| entry.path());
    let of_pid = processes.filter(|path| parent(path) == Some(pid));
    of_pid.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
}

/// Whether a process still does something: a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Waits for something that must come; two minutes are for a machine that is busy, not a claim about speed.
#[track_caller]
pub fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        sleep(Duration::from_millis(4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_this_folder_is_a_target_of_the_harness() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let manifest = fs::read_to_string(here.join("../harness/Cargo.toml")).expect("the harness's manifest");
        let files = fs::read_dir(here).expect("this folder").flatten().map(|entry| entry.path());
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        let names: Vec<String> = files.map(|path| path.file_name().expect("a file").to_string_lossy().into()).collect();
        assert!(names.len() > 10, "{names:?}");
        for name in names.iter().filter(|name| !["lib.rs", "server.rs"].contains(&name.as_str())) {
            assert!(manifest.contains(&format!("path = \"../tests/{name}\"")), "{name} is never compiled or run");
        }
    }
}
