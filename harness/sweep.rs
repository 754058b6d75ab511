//! Many runs: which there are, what they will cost, and the processes that run them.

pub(crate) mod fitting;
pub(crate) mod forecast;
pub(crate) mod gauge;
pub(crate) mod launcher;
pub(crate) mod machine;
pub(crate) mod matching;
pub(crate) mod opened;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod run;
pub(crate) mod search;
pub(crate) mod sizes;
