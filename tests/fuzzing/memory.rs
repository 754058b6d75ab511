//! How much memory a call holds, counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts for each thread what it holds. A test binary takes it with `#[global_allocator]`.
///
/// What a thread frees for another is counted for the one that frees: calls that hand memory to other threads are not measured
/// well.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

thread_local! {
    // Without destructors and made at compile time: an allocator may not allocate.
    static HELD: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // A thread that ends has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        MOST.try_with(|most| most.set(most.get().max(held.get())))
    });
}

// SAFETY: every call is the system allocator's own; the counting touches no memory but its two cells.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What a call held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Most bytes held at once by this thread, above what it held before; 0 where [`Counting`] is not the allocator.
    pub bytes: u64,
}

/// What `call` gives, and the most memory that it held.
pub fn peak_of<T>(call: impl FnOnce() -> T) -> (T, Peak) {
    let before = HELD.with(Cell::get);
    MOST.with(|most| most.set(before));
    let value = call();
    let bytes = MOST.with(Cell::get) - before;
    (value, Peak { bytes: bytes.max(0) as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_for_a_moment_counts_and_what_follows_does_not() {
        let (length, peak) = peak_of(|| {
            let long = vec![1_u8; 3 << 20];
            long.len()
        });
        assert_eq!(length, 3 << 20);
        assert!((3 << 20..4 << 20).contains(&peak.bytes), "{peak:?}");
        let (_, peak) = peak_of(|| vec![1_u8; 1 << 10]);
        assert!(peak.bytes < 1 << 12, "{peak:?}");
    }
}
