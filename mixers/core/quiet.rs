//! Panics of libtorch as values.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What `f` gives, or the first line of what it panicked with: tch panics on shapes libtorch refuses. Nothing is printed.
pub fn quietly<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    // A parallel loop runs on threads of libtorch, which have no name.
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            let helper = CALLS.load(Ordering::Relaxed) > 0 && std::thread::current().name().is_none();
            if !QUIET.get() && !helper {
                loud(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    CALLS.fetch_add(1, Ordering::Relaxed);
    let ended = catch_unwind(AssertUnwindSafe(f));
    CALLS.fetch_sub(1, Ordering::Relaxed);
    QUIET.set(before);
    ended.map_err(|panic| reason(&*panic))
}

/// The first line of a panic's message, without the wrapping of `unwrap` and without C++'s backtrace.
fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("a panic without a message");
    let inner = text.split_once("Torch(\"").map_or(text, |(_, inner)| inner);
    let line = inner.split("\\n").flat_map(str::lines).map(str::trim).find(|line| !line.is_empty()).unwrap_or(inner);
    line.trim_end_matches("\")").chars().take(300).collect()
}
