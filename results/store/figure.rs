//! The plots and tables a config asks for at its end: what is drawn against what. Presentation alone: no part of a run.

use crate::store::metric::lower_is_better;
use serde::{Deserialize, Serialize};

/// One figure of a sweep, written as a one-key map: `{ lines: { x: model.d_model } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Test score against a setting of the grid: one panel a task, one line a mixer, seeds as thin points, the interval as a band.
    Lines(Lines),
    /// A measure recorded against an axis of the test split: one panel a task, one line a mixer.
    Details(Details),
    /// A measure recorded by series and axis, as a heat map: one panel for each mixer and task, the mean over its seeds.
    Cells(Cells),
    /// Every mixer's score on every task, from the floor (0) to the ceiling (1).
    Profile(Profile),
    /// Mixers in the order of their means of a measure beside the order of published numbers, with rank correlations.
    Ranking(Ranking),
}

/// Score against a setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// Path of the grid's axis: `model.d_model`. It is not tuned over: every value has its row in the tables.
    pub x: String,
    /// Path of an axis that splits a task's panel, each value a panel of its own; `null`: none.
    #[serde(default)]
    pub panels: Option<String>,
    /// What is drawn: `score`, or a name of the records' measures.
    #[serde(default = "score")]
    pub measure: String,
    /// Steps of the horizontal axis.
    #[serde(default)]
    pub scale: Scale,
}

/// A measure against an axis of the test split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// The axis: `length`, `pairs`, `context`, `position`, `layer`.
    pub axis: String,
    /// The measure: `score`, `loss`, `risk`.
    #[serde(default = "score")]
    pub measure: String,
    /// Steps of the horizontal axis.
    #[serde(default)]
    pub scale: Scale,
    /// Steps of the vertical axis.
    #[serde(default)]
    pub y_scale: Scale,
}

/// A heat map of details.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cells {
    /// The axis of the rows: `layer`.
    pub axis: String,
    /// The measure in the cells: `importance`.
    pub measure: String,
}

/// Our ranking beside a published one: `{ ranking: { measure: loss, published: C4-MLM-loss } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ranking {
    /// What mixers are ranked by: `score`, or a name of the records' measures.
    #[serde(default = "score")]
    pub measure: String,
    /// Whether a lower number is the better one; `null`: as the measure's name says (losses, perplexities, risks, bits).
    #[serde(default)]
    pub lower_is_better: Option<bool>,
    /// The task of the published table whose numbers of the mixers' models make the other ranking.
    pub published: String,
}

impl Ranking {
    /// Whether a lower number is the better one.
    pub fn lower(&self) -> bool {
        self.lower_is_better.unwrap_or_else(|| lower_is_better(&self.measure))
    }
}

/// The ability profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// How it is drawn.
    #[serde(default)]
    pub shape: Shape,
}

/// Steps of an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Equal differences.
    #[default]
    Linear,
    /// Equal ratios.
    Log,
}

/// How a profile is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Mixers by tasks, the score in each cell.
    #[default]
    Heat,
    /// One polygon a mixer over the tasks' spokes.
    Radar,
}

fn score() -> String {
    "score".into()
}
