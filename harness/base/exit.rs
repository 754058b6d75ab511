//! How a command ends.

/// The process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All well.
    Ok = 0,
    /// Some runs failed, or a check did not hold.
    Failed = 1,
    /// The command line or a config is wrong.
    Usage = 2,
    /// Data or CUDA are missing, a folder cannot be used, or output was lost.
    Environment = 3,
    /// Other processes are still at some of the runs, or some wait for runs that are not done.
    Elsewhere = 4,
    /// Stopped by the user; the same command continues.
    Interrupted = 130,
}

impl Exit {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::Failed, Self::Usage, Self::Environment, Self::Elsewhere, Self::Interrupted];

    /// What it says, for help texts.
    pub fn about(self) -> &'static str {
        match self {
            Self::Ok => "all well",
            Self::Failed => "some runs failed, or a check did not hold",
            Self::Usage => "the command line or a config is wrong",
            Self::Environment => "data or CUDA are missing, a folder cannot be used, or output was lost",
            Self::Elsewhere => "other processes are still at some of the runs, or some wait for runs that are not done",
            Self::Interrupted => "interrupted, the same command continues",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_explained_to_who_embeds_the_command_line() {
        let doc = include_str!("../lib.rs");
        for exit in Exit::ALL {
            let line = format!("/// - {}: {}\n", exit as u8, exit.about());
            assert!(doc.contains(&line), "{line}");
        }
    }
}
