//! A run's process, whether it was started anew or is a copy of a template.

use crate::base::process::computing;
use crate::base::signals;
use crate::base::template::{Forked, Template};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus};

/// A run's process.
#[derive(Debug)]
pub enum Process {
    /// Started anew.
    Spawned(Child),
    /// A copy of a template.
    Forked(Forked),
}

/// A run's process at its start, with this end of its standard input and output.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub process: Process,
    /// Its standard input.
    pub stdin: PipeWriter,
    /// Its standard output.
    pub stdout: PipeReader,
}

impl Process {
    /// Starts this program with `arguments` (without its own name) in a process group of its own, with standard error in `log`: as a
    /// copy of the template where there is one, else anew. It begins with signals blocked: it could not answer one yet.
    pub fn start(
        template: Option<&Template>,
        threads: usize,
        arguments: Vec<OsString>,
        log: File,
    ) -> io::Result<Started> {
        let (its_input, stdin) = io::pipe()?;
        let (stdout, its_output) = io::pipe()?;
        let process = match template {
            Some(template) => {
                let line: Vec<OsString> = std::iter::once("mixarena".into()).chain(arguments).collect();
                Self::Forked(template.start(&line, [its_input.as_fd(), its_output.as_fd(), log.as_fd()])?)
            }
            None => {
                let mut command = computing(threads)?;
                // The terminal's Ctrl-C reaches this process, which passes it on.
                command.args(arguments).process_group(0).stdin(its_input).stdout(its_output).stderr(log);
                Self::Spawned(signals::blocked(|| command.spawn())?)
            }
        };
        Ok(Started { process, stdin, stdout })
    }

    /// Kills it, unless its end is known.
    pub fn kill(&mut self) -> io::Result<()> {
        match self {
            Self::Spawned(child) => child.kill(),
            Self::Forked(forked) => forked.kill(),
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Spawned(child) => child.wait(),
            Self::Forked(forked) => forked.wait(),
        }
    }
}
