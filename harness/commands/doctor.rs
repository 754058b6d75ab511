//! `mixarena doctor`: what works on this machine, and what to do about the rest.

use crate::base::exit::Exit;
use crate::base::{cuda, limits};
use crate::cli::DoctorArgs;
use serde::Serialize;
use std::path::Path;
use tasks::DataDir;
use tasks::data::fetch::{self, DataSet, SETS};
use tch::Tensor;

/// Least disk that a sweep with checkpoints is comfortable with.
const ENOUGH_DISK: u64 = 3 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Works.
    Ok,
    /// Works without it; some things do not.
    Note,
    /// Must be mended.
    Bad,
}

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    state: State,
    found: String,
    todo: String,
}

/// Runs the command.
pub fn doctor(args: &DoctorArgs) -> Exit {
    let checks = [
        libtorch(),
        cuda(),
        threads(),
        memory(),
        data(&args.folders.data),
        store(&args.folders.store),
        fonts(),
        disk(&args.folders.store),
    ];
    if args.json {
        println!("{}", serde_json::to_string_pretty(&checks).expect("plain data"));
    } else {
        for c in &checks {
            let mark = match c.state {
                State::Ok => "ok  ",
                State::Note => "note",
                State::Bad => "BAD ",
            };
            println!("{mark} {:<9} {}", c.what, c.found);
            if !c.todo.is_empty() {
                println!("               {}", c.todo);
            }
        }
    }
    if checks.iter().any(|c| c.state == State::Bad) { Exit::Environment } else { Exit::Ok }
}

fn check(what: &'static str, state: State, found: impl Into<String>, todo: impl Into<String>) -> Check {
    Check { what, state, found: found.into(), todo: todo.into() }
}

/// It is loaded, or this would not run; that it computes rightly is tried.
fn libtorch() -> Check {
    let right = Tensor::from_slice(&[3f32, 4.0]).f_norm().is_ok_and(|n| n.double_value(&[]) == 5.0);
    let folder = cuda::libtorch_folder().map_or("an unknown folder".into(), |p| p.display().to_string());
    let version =
        cuda::libtorch_folder().and_then(|lib| std::fs::read_to_string(lib.parent()?.join("version.py")).ok());
    let version = version
        .as_deref()
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("__version__ = ")))
        .map(|v| v.trim_matches(['\'', '"']).to_string());
    let wanted = crate::train::spec::LIBTORCH;
    match (right, version) {
        (false, _) => {
            check("libtorch", State::Bad, format!("in {folder}, and cannot compute a norm"), "run `make setup` again")
        }
        (_, Some(v)) if !v.starts_with(wanted) => check(
            "libtorch",
            State::Bad,
            format!("{v} in {folder}"),
            format!("this build needs {wanted}: run `make setup`"),
        ),
        (_, Some(v)) => check("libtorch", State::Ok, format!("{v} in {folder}"), ""),
        (_, None) => check(
            "libtorch",
            State::Note,
            format!("in {folder}, version not stated there"),
            format!("made for {wanted}"),
        ),
    }
}

fn cuda() -> Check {
    match cuda::open() {
        Ok(()) if tch::Cuda::is_available() => {
            check("CUDA", State::Ok, format!("{} device(s)", tch::Cuda::device_count()), "")
        }
        Ok(()) => check(
            "CUDA",
            State::Note,
            "libtorch_cuda opened, no device found",
            "runs use the CPU; with a device, check its driver with nvidia-smi",
        ),
        Err(why) => check("CUDA", State::Note, "not available; runs use the CPU", why),
    }
}

fn threads() -> Check {
    check("threads", State::Ok, format!("{} cores, {}", limits::cores(), limits::processor_name()), "")
}

fn memory() -> Check {
    match limits::available_memory() {
        Some(bytes) => check("memory", State::Ok, format!("{:.1} GiB available", gib(bytes)), ""),
        None => check("memory", State::Note, "not known on this system", "runs get no memory limit"),
    }
}

/// Which sets are there; what is missing is no fault, for most configs read few of them or none.
fn data(dir: &Path) -> Check {
    let data = DataDir(dir.into());
    let (there, missing): (Vec<&DataSet>, _) = SETS.iter().partition(|set| fetch::found(&data, set).is_some());
    let names = |sets: &[&DataSet]| sets.iter().map(|set| set.name).collect::<Vec<_>>().join(", ");
    let found = match (dir.is_dir(), there.is_empty()) {
        (false, _) => format!("{} is not there", dir.display()),
        (true, true) => format!("{} holds no set that can be fetched", dir.display()),
        (true, false) => format!("{} holds {}", dir.display(), names(&there)),
    };
    if missing.is_empty() {
        return check("data", State::Ok, found, "");
    }
    let todo = format!(
        "needed only by configs that read files; missing are {}: `mixarena data fetch NAME`, or name the folder with --data or MIXARENA_DATA",
        names(&missing)
    );
    check("data", if there.is_empty() { State::Note } else { State::Ok }, found, todo)
}

fn store(dir: &Path) -> Check {
    let exists = dir.is_dir();
    if dir.exists() && !exists {
        let todo = "name a folder with --store or MIXARENA_STORE";
        return check("store", State::Bad, format!("{} is a file", dir.display()), todo);
    }
    let probe = if exists { dir.to_path_buf() } else { existing_parent(dir) };
    match tempfile_in(&probe) {
        Ok(()) if exists => check("store", State::Ok, format!("{} can be written", dir.display()), ""),
        Ok(()) => check("store", State::Ok, format!("{} will be made", dir.display()), ""),
        Err(e) => check(
            "store",
            State::Bad,
            format!("{} cannot be written: {e}", probe.display()),
            "choose another with --store or MIXARENA_STORE",
        ),
    }
}

/// Makes a file in `dir` and removes it.
fn tempfile_in(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(format!(".mixarena-{}", std::process::id()));
    std::fs::write(&path, b"x")?;
    std::fs::remove_file(&path)
}

fn fonts() -> Check {
    match results::plot::check_fonts() {
        Ok(name) => check("fonts", State::Ok, format!("{name}, embedded"), ""),
        Err(e) => check("fonts", State::Bad, e.to_string(), "plots cannot be drawn: rebuild with `cargo build`"),
    }
}

fn disk(dir: &Path) -> Check {
    match limits::free_disk(&existing_parent(dir)) {
        Some(free) if free < ENOUGH_DISK => check(
            "disk",
            State::Note,
            format!("{:.1} GiB free", gib(free)),
            "checkpoints need room: free some, or move the store with --store",
        ),
        Some(free) => check("disk", State::Ok, format!("{:.1} GiB free", gib(free)), ""),
        None => check("disk", State::Note, "free space not known", ""),
    }
}

fn existing_parent(dir: &Path) -> std::path::PathBuf {
    dir.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new(".")).to_path_buf()
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}
