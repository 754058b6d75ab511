//! Processes of this program: how it starts itself to compute, and what is known of one that died.

use std::any::Any;
use std::io;
use std::process::{Command, ExitStatus};

/// This program. On Linux the kernel's own link to it, which still works after the file was rebuilt or moved.
pub fn own_program() -> io::Result<std::path::PathBuf> {
    let link = std::path::PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && link.exists() { Ok(link) } else { std::env::current_exe() }
}

/// This program as a process that computes with so many threads.
pub fn computing(threads: usize) -> io::Result<Command> {
    let mut command = Command::new(own_program()?);
    command.env("OMP_NUM_THREADS", threads.to_string());
    // Threads that spin while they wait starve each other on a busy machine (one trial: 5 steps/s against 296).
    if std::env::var_os("OMP_WAIT_POLICY").is_none() {
        command.env("OMP_WAIT_POLICY", "passive");
    }
    Ok(command)
}

/// What the system's lists of processes call this one, at most fifteen characters. Only Linux has such names.
pub fn name_process(name: &std::ffi::CStr) {
    #[cfg(target_os = "linux")]
    // SAFETY: the system copies the text, which ends in a zero.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// The text of a panic; empty where it has none.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// What is known of a child's death from its status and what it wrote to its log.
pub fn death(status: ExitStatus, log: &str) -> String {
    let last = log.lines().rev().map(str::trim).find(|l| !l.is_empty());
    let said = last.map_or(String::new(), |l| format!("; its last words: {}", l.chars().take(200).collect::<String>()));
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let of_memory = panic_reason(log);
        return match signal {
            _ if of_memory.starts_with("out of memory") => of_memory,
            9 => format!("killed by SIGKILL: by hand, or by the kernel because memory ran out{said}"),
            6 => format!("aborted (SIGABRT){said}"),
            11 => format!("crashed (SIGSEGV){said}"),
            n => format!("killed by signal {n}{said}"),
        };
    }
    match status.code() {
        Some(code) => format!("the process ended with code {code}{said}"),
        None => format!("the process ended{said}"),
    }
}

/// What a panic's message says to a user: out of memory is told apart, the C++ backtrace is dropped.
pub fn panic_reason(text: &str) -> String {
    let line = one_line(text);
    let lower = text.to_lowercase();
    if ["can't allocate memory", "out of memory", "memory allocation of", "not enough memory", "bad_alloc"]
        .iter()
        .any(|s| lower.contains(s))
    {
        let tried = lower
            .split("tried to allocate ")
            .nth(1)
            .and_then(|rest| rest.split(" bytes").next())
            .and_then(|n| n.parse::<f64>().ok());
        return match tried {
            Some(bytes) => format!("out of memory: asked for {:.1} GiB at once", bytes / f64::from(1 << 30)),
            None => format!("out of memory: {line}"),
        };
    }
    format!("panic: {line}")
}

/// The first line that says something, at most 300 characters.
pub fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no message");
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_told_apart_from_other_panics() {
        let text = "called `Result::unwrap()` on an `Err` value: Torch(\"[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4398046511104 bytes. Error code 12\")";
        assert_eq!(panic_reason(text), "out of memory: asked for 4096.0 GiB at once");
        assert_eq!(panic_reason("shape mismatch\nat foo.cpp"), "panic: shape mismatch");
    }
}
