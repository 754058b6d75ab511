//! `analysis` as a section.

use crate::base::bounds;
use crate::train::analysis::AnalysisConfig;
use crate::train::sections::{Context, Section};
use settings::ConfigError;
use std::path::Path;

impl Section for AnalysisConfig {
    type InRun = Option<Self>;

    fn check(&self) -> Vec<ConfigError> {
        let mut found = bounds::beyond(self);
        if !(1..=1_000_000).contains(&self.probe_examples) {
            let problem = format!("`probe_examples` is {}, which is not between 1 and 1000000", self.probe_examples);
            found.push(ConfigError::new("probe_examples", problem, "use some thousand"));
        }
        if let Some(path) = self.minimal_pairs.as_ref().filter(|path| !Path::new(path).exists()) {
            let problem = format!("there is no `{path}`");
            let help = "give the path of a JSONL file, or of a folder of them, with `sentence_good` and `sentence_bad`, from the folder this command runs in";
            found.push(ConfigError::new("minimal_pairs", problem, help));
        }
        if self.retrain_steps > 0 && !self.prune {
            let problem = format!("`retrain_steps` is {}, but nothing is pruned", self.retrain_steps);
            found.push(ConfigError::new("retrain_steps", problem, "add `prune: true`, or leave it out"));
        }
        found
    }

    fn check_in(&self, run: &Context) -> Vec<ConfigError> {
        run.outline.map_or_else(Vec::new, |outline| self.check_task(outline))
    }

    /// None where it asks for nothing. Keys without effect have their defaults.
    fn resolved_in(self, _run: &Context) -> Option<Option<Self>> {
        let asks = self.heads || self.prune || self.probes || self.states || self.reads();
        let probe_examples = if self.probes { self.probe_examples } else { Self::default().probe_examples };
        Some(asks.then_some(Self { probe_examples, ..self }))
    }
}
