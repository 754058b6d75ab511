//! Small specs and mixers that tests of several files share.

use crate::config::Config;
use crate::registry::Registry;
use crate::train::trainer::Trainer;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tasks::{DataDir, Input, Metric, Output, Task, TaskSpec};

/// Eleven tokens, five classes, twelve positions.
pub(crate) fn task_spec(output: Output) -> TaskSpec {
    let metric = match output {
        Output::Tokens => Metric::language_model("next-token accuracy"),
        _ => Metric::accuracy(),
    };
    TaskSpec {
        vocab_size: 11,
        input: Input::Tokens,
        documents: 1,
        classes: 5,
        max_length: 12,
        pad_token: 0,
        causal: false,
        output,
        judge: tasks::Judge::Class,
        by_position: None,
        metric,
        version: 1,
        marks: Vec::new(),
    }
}

/// Every mixer of the registry with its small settings.
pub(crate) fn small_mixers() -> Vec<(mixers::Entry, Value)> {
    let resolved = |entry: mixers::Entry| {
        let settings = (entry.resolve)(&(entry.small)()).expect("settings of the right types");
        (entry, settings)
    };
    mixers::registry().into_iter().map(resolved).collect()
}

/// A trainer of the first run of a config, its work in `folder`.
pub(crate) fn trainer(config: &str, folder: &Path) -> Trainer {
    let registry = Registry::default();
    let config = Config::parse(config, "x.yaml", "x", &[], &registry).unwrap_or_else(|e| panic!("{}", e.render()));
    let draft = &config.runs[0];
    let entry = registry.task(&draft.task.name).expect("the config was checked");
    let task: Arc<dyn Task> = Arc::from(entry.open(&draft.task.settings, &DataDir(folder.into())).expect("data"));
    let spec = draft.spec(&registry, task.spec().version, None);
    Trainer::new(spec, task, &registry, tch::Device::Cpu, folder.into()).expect("a model")
}

/// A record of nothing in particular.
pub(crate) fn record() -> results::Record {
    let plain = json!({
        "format": 1, "id": "a", "attempt": 1, "spec": {}, "seed": 0, "outcome": {"kind": "finished"}, "metric": "accuracy",
        "scores": {"validation": null, "test": null, "floor": null, "ceiling": null}, "parameters": 0, "mixer_parameters": 0,
        "steps": 0, "best_step": 0, "steps_per_second": 0.0, "tokens_per_second": 0.0, "wall_seconds": 0.0,
        "peak_memory_bytes": 0, "curve": [], "device": {"kind": "cpu", "name": "", "threads": 1, "host": ""},
        "versions": {"mixarena": "", "libtorch": "", "commit": ""}, "started_unix": 0, "notes": []
    });
    serde_json::from_value(plain).expect("a record")
}

/// Whether a test that draws from libtorch's generator is alone in its process, where no other test draws in between. If not,
/// it is run again in a process of its own, which must succeed. `test` is its path with the crate's name.
pub(crate) fn alone(test: &str) -> bool {
    const ALONE: &str = "MIXARENA_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let name = test.split_once("::").expect("a path").1;
    let mut child = std::process::Command::new(std::env::current_exe().expect("this binary"));
    let ended = child.args([name, "--exact", "--test-threads", "1"]).env(ALONE, "1").output().expect("it runs");
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success() && told.contains("1 passed"), "{told}");
    false
}
