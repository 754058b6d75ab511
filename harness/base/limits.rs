//! What the operating system knows and grants: memory, cores, names.

use std::fs;

/// Lets this process allocate at most `bytes` of private memory, so that a run too large for the machine fails with a
/// message instead of calling the kernel's out-of-memory killer on its neighbours. Does nothing outside Linux.
pub fn limit_memory(bytes: u64) {
    #[cfg(target_os = "linux")]
    {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: setrlimit reads the struct it is given and touches no memory of ours.
        let refused = unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) } != 0;
        if refused {
            eprintln!("warning: the memory limit could not be set: {}", std::io::Error::last_os_error());
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// Lets freed memory stay with this process for its next tensors. By default a block of some hundred KiB goes back to the system
/// when it is freed, and every page of the next one is cleared and mapped anew.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets numbers of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_TOP_PAD, 1 << 24);
    }
}

/// Largest block that is kept: the most that glibc takes, bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGEST_KEPT: libc::c_int = 1 << 25;

/// Largest resident size of this process so far, bytes; 0 where the system does not tell.
pub fn peak_memory() -> u64 {
    kib_of(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmHWM:") * 1024
}

/// Largest resident size that process `id` has had so far, bytes; `None` where the system does not tell.
pub fn peak_memory_of(id: u32) -> Option<u64> {
    let kib = kib_of(&fs::read_to_string(format!("/proc/{id}/status")).ok()?, "VmHWM:");
    (kib > 0).then_some(kib * 1024)
}

/// Resident size of this process now, bytes; 0 where the system does not tell.
pub fn resident_memory() -> u64 {
    kib_of(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS:") * 1024
}

/// Processor time of this process so far, all threads together, seconds.
pub fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time into a struct of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Pages that this process has touched for the first time so far, those included that it gave back and got again.
pub fn page_faults() -> u64 {
    // SAFETY: the struct is made of integers, for which zero is a value, and the system fills it in.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage.ru_minflt as u64
    }
}

/// Memory that can be had now without swapping, bytes.
pub fn available_memory() -> Option<u64> {
    match kib_of(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:") {
        0 => None,
        kib => Some(kib * 1024),
    }
}

fn kib_of(text: &str, key: &str) -> u64 {
    let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor's own name.
pub fn processor_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("model name"));
    line.and_then(|l| l.split_once(": ")).map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().into())
}

/// The machine's name.
pub fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "unknown".into(), |s| s.trim().into())
}

/// Bytes free on the file system that holds `path`.
pub fn free_disk(path: &std::path::Path) -> Option<u64> {
    fs4::available_space(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_in_kibibytes() {
        assert_eq!(kib_of("Name:\tx\nVmHWM:\t  1234 kB\n", "VmHWM:"), 1234);
        assert_eq!(kib_of("", "VmHWM:"), 0);
    }
}
