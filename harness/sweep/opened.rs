//! The tasks of a sweep, each opened once.

use crate::config::{Config, Draft};
use crate::registry::Registry;
use crate::train::spec::Choice;
use std::sync::Arc;
use tasks::{DataDir, DataError, Outline, Task};

/// A task by its settings, and what opening it gave.
pub type OpenedTask = (Choice, Result<Arc<dyn Task>, Arc<DataError>>);

/// Opens every task of the sweep whose outline is `wanted`, once.
pub fn open_tasks(
    config: &Config,
    registry: &Registry,
    data: &DataDir,
    wanted: impl Fn(&Outline) -> bool,
) -> Vec<OpenedTask> {
    let mut opened: Vec<OpenedTask> = Vec::new();
    for draft in config.runs.iter().flat_map(Draft::chain) {
        let entry = registry.task(&draft.task.name).expect("the config was checked");
        if !opened.iter().any(|(choice, _)| *choice == draft.task) && wanted(&entry.outline(&draft.task.settings)) {
            let task = entry.open(&draft.task.settings, data).map(Arc::from).map_err(Arc::new);
            opened.push((draft.task.clone(), task));
        }
    }
    opened
}
