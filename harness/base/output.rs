//! What this program writes to its standard output and error, whatever becomes of them.
//!
//! A disk that is full, a terminal that was closed or a reader that has gone must not end a sweep, and the macros of the
//! standard library panic then. Those here take their place in the whole crate:
//!
//! ```text
//! standard error    what cannot be written is lost, and work goes on
//! standard output   the same, and the command ends with an error in the end: its result did not arrive
//! a closed pipe     at standard output ends the program quietly, as it ends every Unix tool; commands that train go on
//! ```

use std::fmt;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

macro_rules! print {
    ($($text:tt)*) => { $crate::base::output::out(format_args!($($text)*)) };
}

macro_rules! println {
    () => { $crate::base::output::out(format_args!("\n")) };
    ($($text:tt)*) => { $crate::base::output::out(format_args!("{}\n", format_args!($($text)*))) };
}

macro_rules! eprint {
    ($($text:tt)*) => { $crate::base::output::err(format_args!($($text)*)) };
}

macro_rules! eprintln {
    ($($text:tt)*) => { $crate::base::output::err(format_args!("{}\n", format_args!($($text)*))) };
}

/// What a program ends with that a closed pipe killed, as a shell sees it.
const CLOSED_PIPE: i32 = 141;

/// Set by commands whose work matters more than who reads of it.
static GOES_ON: AtomicBool = AtomicBool::new(false);
/// Why something of the standard output was lost.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// From here on a closed pipe at standard output ends nothing.
pub fn go_on_without_reader() {
    GOES_ON.store(true, Ordering::Relaxed);
}

/// Writes to standard output.
pub fn out(text: fmt::Arguments) {
    if cfg!(test) {
        return std::print!("{text}"); // which the test's own output takes
    }
    let mut out = io::stdout().lock();
    keep(out.write_fmt(text).and_then(|()| out.flush()));
}

/// Writes to standard error, with what would move a cursor or turn text round as its escape: names, reasons and paths may hold it.
pub fn err(text: fmt::Arguments) {
    if cfg!(test) {
        return std::eprint!("{text}");
    }
    // In one piece: lines of several processes may meet in one file.
    let _ = io::stderr().lock().write_all(results::text::lines(&text.to_string()).as_bytes());
}

fn keep(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        if !GOES_ON.load(Ordering::Relaxed) {
            std::process::exit(CLOSED_PIPE);
        }
        return;
    }
    LOST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
}

/// Why something of the standard output was lost, if something was. A reader that has gone had what it wanted.
pub fn lost() -> Option<io::Error> {
    keep(io::stdout().flush());
    LOST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
}
