//! The largest whole numbers that the sections of a config may have, in one place: beyond them nothing could be trained, and what
//! is reckoned of them would leave 64 bits. The limits of mixers' and tasks' own settings are [`mixers::core::limits`] and
//! [`tasks::core::limits`].

use crate::base::fields;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use settings::ConfigError;

/// Keys with a limit of their own, in any section.
const OWN: [(&str, u64); 8] = [
    ("d_model", mixers::core::limits::D_MODEL as u64),
    ("n_layers", 1 << 12),
    ("d_ff", 1 << 18),
    ("max_positions", 1 << 20),
    ("token_types", 1 << 16),
    ("batch_size", 1 << 20),
    ("micro_batch", 1 << 20),
    ("eval_batch_size", 1 << 20),
];

/// Of all others: numbers of steps and examples.
const COUNT: u64 = tasks::FRESH;

/// The largest value of a whole number called `key` in a section.
pub fn most(key: &str) -> u64 {
    OWN.iter().find(|(name, _)| *name == key).map_or(COUNT, |(_, most)| *most)
}

/// Every whole number of a section that is beyond its limit.
pub fn beyond<T: Serialize + DeserializeOwned>(section: &T) -> Vec<ConfigError> {
    let values = serde_json::to_value(section).expect("settings are plain data");
    let beyond = |key: &&'static str| {
        let value = values.get(*key).and_then(Value::as_u64).filter(|value| *value > most(key))?;
        let most = most(key);
        let problem = format!("`{key}` is {value}, more than {most}, the most there may be");
        Some(ConfigError::new(key, problem, format!("use {most} or less")))
    };
    fields::of::<T>().iter().filter_map(beyond).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use crate::train::analysis::AnalysisConfig;
    use crate::train::budget::BudgetConfig;
    use crate::train::pretrain::PretrainConfig;
    use crate::train::schedule::ScheduleConfig;

    fn found<T: Serialize + DeserializeOwned>(text: &str) -> Vec<String> {
        let section: T = serde_json::from_str(text).unwrap();
        beyond(&section).into_iter().map(|mistake| mistake.problem).collect()
    }

    #[test]
    fn every_whole_number_of_a_section_has_a_limit() {
        assert_eq!(found::<ModelConfig>("{}"), [""; 0]);
        assert_eq!(
            found::<ModelConfig>(r#"{"d_model": 65537, "d_ff": 9223372036854775807}"#),
            [
                "`d_model` is 65537, more than 65536, the most there may be",
                "`d_ff` is 9223372036854775807, more than 262144, the most there may be",
            ]
        );
        assert_eq!(
            found::<BudgetConfig>(r#"{"steps": 18446744073709551615, "batch_size": 4000000000}"#),
            [
                "`steps` is 18446744073709551615, more than 1099511627776, the most there may be",
                "`batch_size` is 4000000000, more than 1048576, the most there may be",
            ]
        );
        assert_eq!(found::<ScheduleConfig>(r#"{"warmup_steps": 18446744073709551615}"#).len(), 1);
        assert_eq!(found::<PretrainConfig>(r#"{"steps": 1099511627777, "warmup_steps": 5}"#).len(), 1);
        assert_eq!(found::<AnalysisConfig>(r#"{"retrain_steps": 1099511627777}"#).len(), 1);
    }
}
