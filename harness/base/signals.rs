//! SIGHUP, SIGINT and SIGTERM: what asks this program to stop.
//!
//! ```text
//! ignored when the program began   stays ignored: that is how `nohup` and a shell's `&` protect a program
//! a sweep                          counts them; its launcher asks runs to stop, and kills them when one comes a second time
//! a run                            is born with all three blocked, so that one which comes before the handler is there waits for it
//! ```

use crate::base::exit::Exit;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Set with the first of them.
pub static STOP: AtomicBool = AtomicBool::new(false);
/// How often each came.
static COUNTS: [AtomicU8; 3] = [const { AtomicU8::new(0) }; 3];
/// The count at which the process ends at once.
static PATIENCE: AtomicU8 = AtomicU8::new(u8::MAX);

const CAUGHT: [libc::c_int; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];

/// Begins to count signals. One that comes `patience` times ends the process at once; `None`: never.
pub fn catch(patience: Option<u8>) {
    PATIENCE.store(patience.unwrap_or(u8::MAX), Ordering::Relaxed);
    for signal in CAUGHT {
        if is_ignored(signal) {
            continue;
        }
        // SAFETY: the struct is made of integers and a pointer, for which zero is a value; the handler only uses atomics and
        // `_exit`, which a handler may.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
    mask(libc::SIG_UNBLOCK);
}

/// How often the user asked to stop: 1 is a request, more than that is impatience. Different signals that come together, as
/// a service manager sends them, are one request.
pub fn requests() -> u8 {
    COUNTS.iter().map(|count| count.load(Ordering::Relaxed)).max().unwrap_or(0)
}

/// Whether a signal asks a program to stop, which is no failure of the program.
pub fn asks_to_stop(signal: i32) -> bool {
    CAUGHT.contains(&signal)
}

/// Does `f`, which starts a process, while signals wait: that process begins with them blocked, and [`catch`] lets them in.
pub fn blocked<T>(f: impl FnOnce() -> T) -> T {
    mask(libc::SIG_BLOCK);
    let done = f();
    mask(libc::SIG_UNBLOCK);
    done
}

extern "C" fn count(signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
    let Some(at) = CAUGHT.iter().position(|own| *own == signal) else { return };
    let before = COUNTS[at].load(Ordering::Relaxed);
    COUNTS[at].store(before.saturating_add(1), Ordering::Relaxed);
    if before.saturating_add(1) >= PATIENCE.load(Ordering::Relaxed) && PATIENCE.load(Ordering::Relaxed) < u8::MAX {
        // SAFETY: ends the process without running anything of it.
        unsafe { libc::_exit(Exit::Interrupted as i32) }
    }
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: only reads the action into a struct of our own.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

fn mask(how: libc::c_int) {
    // SAFETY: changes which signals this thread takes, from a set of our own.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in CAUGHT {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(how, &set, std::ptr::null_mut());
    }
}
