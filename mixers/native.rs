//! Operations with a backward of their own, where libtorch's would keep or move more than it must.
//!
//! tch offers no custom autograd: `native/bridge.cpp` adds one node type whose backward calls back into Rust, and lends
//! libtorch's thread pool. A native kernel has a plain twin made of libtorch operations, which runs where there is none and
//! where it is asked for ([`kernels`]); tests compare both in values and gradients.

pub mod kernels;

use kernels::{Kernels, chosen, with};
use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

/// What an operation keeps for its backward, and how it runs it. Dropped when the graph is.
pub trait Backward: Send + Sync + 'static {
    /// Gradients of the inputs, in their order, from the tensors kept and the gradients of the outputs (`None`: none came).
    /// `None` in the result is a gradient of zero. Runs without a graph.
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>>;
}

/// Makes `outputs`, computed from `inputs` under `tch::no_grad` by the caller, the results of one node of the graph whose
/// gradients come from `op`. `saved` must not hold an output itself (a `detach` of it will do).
///
/// Where no input asks for a gradient, or inside `tch::no_grad`, the outputs come back as they are.
///
/// # Panics
/// If libtorch refuses, for instance when an output is a view of an input.
pub fn attach(op: impl Backward, inputs: &[&Tensor], outputs: &[&Tensor], saved: &[&Tensor]) {
    type Op = (Box<dyn Backward>, Kernels);

    unsafe extern "C" fn run(
        state: *mut c_void,
        saved: *const *mut C_tensor,
        n_saved: usize,
        grads: *const *mut C_tensor,
        n_grads: usize,
        out: *mut *mut C_tensor,
        n_out: usize,
    ) -> *const c_char {
        thread_local! {
            static PROBLEM: std::cell::RefCell<CString> = std::cell::RefCell::default();
        }
        // SAFETY: `state` is the box given to `mixers_attach`; the arrays hold as many pointers as stated, and each tensor is
        // copied by handle, never taken over.
        let (op, saved, grads, out) = unsafe {
            let handle = |t: *mut C_tensor| (!t.is_null()).then(|| Tensor::clone_from_ptr(t));
            let at = |list: *const *mut C_tensor, i: usize| handle(*list.add(i));
            let saved: Vec<Tensor> = (0..n_saved).filter_map(|i| at(saved, i)).collect();
            let grads: Vec<Option<Tensor>> = (0..n_grads).map(|i| at(grads, i)).collect();
            (&*state.cast::<Op>(), saved, grads, std::slice::from_raw_parts_mut(out, n_out))
        };
        let problem = match catch_unwind(AssertUnwindSafe(|| with(op.1, || op.0.backward(&saved, &grads)))) {
            Ok(gradients) if gradients.len() == out.len() => {
                for (slot, gradient) in out.iter_mut().zip(gradients) {
                    // SAFETY: a new handle on the heap, which the caller takes over.
                    *slot = gradient.map_or(std::ptr::null_mut(), |g| unsafe {
                        torch_sys::at_shallow_clone(g.as_ptr().cast_mut())
                    });
                }
                return std::ptr::null();
            }
            Ok(gradients) => format!("{} gradients for {} inputs", gradients.len(), out.len()),
            Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
                (Some(text), _) => text.clone(),
                (None, Some(text)) => (*text).into(),
                (None, None) => "a native backward panicked".into(),
            },
        };
        PROBLEM.with_borrow_mut(|kept| {
            *kept = CString::new(problem.replace('\0', " ")).expect("no zero is left");
            kept.as_ptr()
        })
    }

    unsafe extern "C" fn drop_op(state: *mut c_void) {
        // SAFETY: the box made below, dropped once, by the node that owns it.
        drop(unsafe { Box::from_raw(state.cast::<Op>()) });
    }

    let pointers = |list: &[&Tensor]| -> Vec<*mut C_tensor> { list.iter().map(|t| t.as_ptr().cast_mut()).collect() };
    let (inputs, outputs, saved) = (pointers(inputs), pointers(outputs), pointers(saved));
    let state: *mut Op = Box::into_raw(Box::new((Box::new(op), chosen())));
    let mut message = [0u8; 512];
    // SAFETY: pointers and counts describe live tensors; `state` is taken over whatever happens.
    let failed = unsafe {
        mixers_attach(
            state.cast(),
            run,
            drop_op,
            inputs.as_ptr(),
            inputs.len(),
            outputs.as_ptr(),
            outputs.len(),
            saved.as_ptr(),
            saved.len(),
            message.as_mut_ptr().cast(),
            message.len(),
        )
    };
    let end = message.iter().position(|b| *b == 0).unwrap_or(message.len());
    assert!(failed == 0, "native::attach: {}", String::from_utf8_lossy(&message[..end]));
}

/// `f(inputs)` whose inner tensors are not kept: the backward computes them again. Trades a second forward for memory.
///
/// `f` must depend on nothing else that wants a gradient, and must draw no random numbers.
///
/// # Panics
/// As [`attach`].
pub fn recompute(f: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static, inputs: &[&Tensor]) -> Tensor {
    struct Again<F>(F);

    impl<F: Fn(&[Tensor]) -> Tensor + Send + Sync + 'static> Backward for Again<F> {
        fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            let Some(grad) = &grads[0] else { return saved.iter().map(|_| None).collect() };
            let wanted: Vec<bool> = saved.iter().map(|t| t.requires_grad()).collect();
            tch::with_grad(|| {
                let leaves: Vec<Tensor> =
                    saved.iter().zip(&wanted).map(|(t, wanted)| t.detach().set_requires_grad(*wanted)).collect();
                let y = (self.0)(&leaves);
                let asked: Vec<&Tensor> = leaves.iter().zip(&wanted).filter(|(_, w)| **w).map(|(l, _)| l).collect();
                let loss = (y * grad).sum(grad.kind());
                let mut found = Tensor::run_backward(&[loss], &asked, false, false).into_iter();
                wanted.iter().map(|w| if *w { found.next() } else { None }).collect()
            })
        }
    }

    let detached: Vec<Tensor> = inputs.iter().map(|t| t.detach()).collect();
    let y = tch::no_grad(|| f(&detached));
    attach(Again(f), inputs, &[&y], inputs);
    y
}

/// Numbers of a tensor from which a layer does better to run a part twice than to keep what is in between. In this crate's own tests so
/// few that the laws' inputs lie on both sides.
const LARGE: usize = if cfg!(test) { 1 << 8 } else { 1 << 21 };

/// Whether memory counts more than a second forward for a layer that reads `x`.
pub fn large(x: &Tensor) -> bool {
    x.numel() >= LARGE
}

/// `f` of what has rows of the batch on its first axis, then of what all rows share; its result has rows too. Where the first input is
/// [`large`], the rows are [`recompute`]d one by one, so that what is in between is there for one row at a time.
///
/// `f` must depend on nothing else that wants a gradient, must draw no random numbers, and treats every row alone.
///
/// # Panics
/// As [`attach`].
pub fn recompute_rows(
    f: impl Fn(&[Tensor]) -> Tensor + Clone + Send + Sync + 'static,
    by_row: &[&Tensor],
    shared: &[&Tensor],
) -> Tensor {
    if !large(by_row[0]) {
        let all: Vec<Tensor> = by_row.iter().chain(shared).map(|t| t.shallow_clone()).collect();
        return f(&all);
    }
    let cut: Vec<Vec<Tensor>> = by_row.iter().map(|t| t.split(1, 0)).collect();
    let row = |row: usize| {
        let inputs: Vec<&Tensor> = cut.iter().map(|rows| &rows[row]).chain(shared.iter().copied()).collect();
        recompute(f.clone(), &inputs)
    };
    Tensor::cat(&(0..cut[0].len()).map(row).collect::<Vec<_>>(), 0)
}

/// Calls `body(from..to)` for pieces of `0..n`, each at least `grain` long unless it is the last, on libtorch's threads.
///
/// # Panics
/// If `body` does, after all pieces have ended.
pub fn parallel_for(n: usize, grain: usize, body: impl Fn(std::ops::Range<usize>) + Sync) {
    struct Work<'a> {
        body: &'a (dyn Fn(std::ops::Range<usize>) + Sync),
        panicked: std::sync::atomic::AtomicBool,
    }
    unsafe extern "C" fn piece(context: *mut c_void, from: i64, to: i64) {
        // SAFETY: the `Work` of the call below, which outlives every piece.
        let work = unsafe { &*context.cast::<Work>() };
        if catch_unwind(AssertUnwindSafe(|| (work.body)(from as usize..to as usize))).is_err() {
            work.panicked.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let work = Work { body: &body, panicked: false.into() };
    // SAFETY: returns when all pieces have run, so `work` is alive throughout.
    unsafe { mixers_parallel_for(n as i64, grain.max(1) as i64, piece, (&raw const work).cast_mut().cast()) };
    assert!(!work.panicked.into_inner(), "a piece of a parallel loop panicked");
}

/// Tells `seen` the name and the shapes of the tensor inputs of every libtorch operation that `f` starts on this thread
/// (`aten::bmm`, `[[4, 8, 16], [4, 16, 8]]`), inner operations of composed ones included.
pub fn watch<T>(mut seen: impl FnMut(&str, &[&[i64]]), f: impl FnOnce() -> T) -> T {
    type Seen<'a> = &'a mut dyn FnMut(&str, &[&[i64]]);

    unsafe extern "C" fn tell(
        context: *mut c_void,
        name: *const c_char,
        sizes: *const i64,
        ranks: *const usize,
        tensors: usize,
    ) {
        if tensors == 0 {
            return;
        }
        // SAFETY: `context` is the closure of the call below, which outlives the watch; the arrays are as long as they say.
        let (seen, name, mut sizes, ranks) = unsafe {
            let ranks = std::slice::from_raw_parts(ranks, tensors);
            let total = ranks.iter().sum();
            let sizes = if total == 0 { &[] } else { std::slice::from_raw_parts(sizes, total) };
            (&mut *context.cast::<Seen>(), std::ffi::CStr::from_ptr(name), sizes, ranks)
        };
        let shapes: Vec<&[i64]> = ranks
            .iter()
            .map(|rank| {
                let (shape, rest) = sizes.split_at(*rank);
                sizes = rest;
                shape
            })
            .collect();
        // A panic must not cross into C++; the next look at the count shows that it is short.
        let _ = catch_unwind(AssertUnwindSafe(|| seen(&name.to_string_lossy(), &shapes)));
    }

    struct Unwatch(u64);

    impl Drop for Unwatch {
        fn drop(&mut self) {
            // SAFETY: the handle came from `mixers_watch` on this thread.
            unsafe { mixers_unwatch(self.0) };
        }
    }

    let mut seen: Seen = &mut seen;
    // SAFETY: `seen` lives until `Unwatch` is dropped, before this function returns or unwinds past it.
    let _end = Unwatch(unsafe { mixers_watch(tell, (&raw mut seen).cast()) });
    f()
}

thread_local! {
    static WORKED: std::cell::Cell<f64> = const { std::cell::Cell::new(0.0) };
}

/// Adds to the floating-point operations that native kernels did for this thread: libtorch cannot see them.
pub fn worked(flops: f64) {
    WORKED.set(WORKED.get() + flops);
}

/// What [`worked`] added since the last call on this thread.
pub(crate) fn take_worked() -> f64 {
    WORKED.replace(0.0)
}

/// A number a kernel computes with.
pub trait Scalar: Copy + Send + Sync + 'static {
    /// The kind of a tensor of these.
    const KIND: Kind;
}

impl Scalar for f32 {
    const KIND: Kind = Kind::Float;
}

impl Scalar for f64 {
    const KIND: Kind = Kind::Double;
}

/// The elements of a packed tensor on the CPU.
///
/// # Panics
/// If the tensor is not contiguous, not on the CPU, or of another kind.
pub fn elements<T: Scalar>(t: &Tensor) -> &[T] {
    assert_packed::<T>(t);
    // SAFETY: packed, on the CPU, of this kind; the borrow keeps the tensor alive.
    unsafe { std::slice::from_raw_parts(t.data_ptr().cast::<T>(), t.numel()) }
}

/// The elements of a packed tensor on the CPU that nothing else reads meanwhile: one just made.
///
/// # Panics
/// As [`elements`].
pub fn elements_mut<T: Scalar>(t: &mut Tensor) -> &mut [T] {
    assert_packed::<T>(t);
    // SAFETY: as above; the exclusive borrow stands for the caller's promise that no alias is read.
    unsafe { std::slice::from_raw_parts_mut(t.data_ptr().cast::<T>(), t.numel()) }
}

fn assert_packed<T: Scalar>(t: &Tensor) {
    assert!(t.is_contiguous() && t.device() == Device::Cpu && t.kind() == T::KIND, "a native kernel got {t:?}");
}

/// A slice that several threads write, each its own part.
#[derive(Clone, Copy, Debug)]
pub struct Shared<T>(*mut T, usize);

// SAFETY: only `Shared::part` reaches the elements, under the promise stated there.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Lends `slice` out in parts.
    pub fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr(), slice.len())
    }

    /// The elements `from .. from + len`.
    ///
    /// # Safety
    /// The slice given to [`Shared::new`] is alive, and no two parts held at once overlap.
    #[expect(clippy::mut_from_ref, reason = "the promise of the caller is what makes it exclusive")]
    pub unsafe fn part(&self, from: usize, len: usize) -> &mut [T] {
        assert!(from + len <= self.1, "{from} + {len} is past {}", self.1);
        // SAFETY: inside the slice, and exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(from), len) }
    }
}

type BackwardFn = unsafe extern "C" fn(
    *mut c_void,
    *const *mut C_tensor,
    usize,
    *const *mut C_tensor,
    usize,
    *mut *mut C_tensor,
    usize,
) -> *const c_char;

unsafe extern "C" {
    fn mixers_attach(
        state: *mut c_void,
        backward: BackwardFn,
        drop: unsafe extern "C" fn(*mut c_void),
        inputs: *const *mut C_tensor,
        n_inputs: usize,
        outputs: *const *mut C_tensor,
        n_outputs: usize,
        saved: *const *mut C_tensor,
        n_saved: usize,
        message: *mut c_char,
        capacity: usize,
    ) -> i32;
    fn mixers_watch(
        seen: unsafe extern "C" fn(*mut c_void, *const c_char, *const i64, *const usize, usize),
        context: *mut c_void,
    ) -> u64;
    fn mixers_unwatch(handle: u64);
    fn mixers_parallel_for(n: i64, grain: i64, body: unsafe extern "C" fn(*mut c_void, i64, i64), context: *mut c_void);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::noise;

    /// x · y, kept as x and y.
    struct Product;

    impl Backward for Product {
        fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            let grad = grads[0].as_ref().expect("the only output");
            vec![Some(grad * &saved[1]), Some(grad * &saved[0])]
        }
    }

    /// Backward that cannot.
    struct Fails;

    impl Backward for Fails {
        fn backward(&self, _: &[Tensor], _: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            panic!("no way back")
        }
    }

    fn product(x: &Tensor, y: &Tensor) -> Tensor {
        let out = tch::no_grad(|| x * y);
        attach(Product, &[x, y], &[&out], &[x, y]);
        out
    }

    fn leaf(salt: i64) -> Tensor {
        noise(&[3, 4], salt).set_requires_grad(true)
    }

    #[test]
    fn a_node_of_our_own_has_the_gradients_of_its_plain_twin() {
        let (x, y) = (leaf(1), leaf(2));
        let gradients = |p: Tensor| Tensor::run_backward(&[p.square().sum(Kind::Double)], &[&x, &y], false, false);
        for (got, want) in gradients(product(&x, &(&y * 2.0))).iter().zip(gradients(&x * (&y * 2.0))) {
            assert!(got.allclose(&want, 1e-14, 1e-14, false));
        }
    }

    #[test]
    fn what_is_computed_again_has_the_same_gradients() {
        let (x, y, fixed) = (leaf(1), leaf(2), noise(&[3, 4], 3));
        let f = |t: &[Tensor]| (&t[0] * &t[1]).sin() * (&t[2] + &t[1]).exp();
        let gradients = |z: Tensor| Tensor::run_backward(&[z.square().sum(Kind::Double)], &[&x, &y], false, false);
        let again = gradients(recompute(f, &[&x, &y, &fixed]));
        let plain = gradients(f(&[x.shallow_clone(), y.shallow_clone(), fixed.shallow_clone()]));
        assert!(again.iter().zip(plain).all(|(a, p)| a.allclose(&p, 1e-14, 1e-14, false)));
    }

    #[test]
    fn rows_computed_again_have_the_same_gradients() {
        let rows = |salt| noise(&[2, LARGE as i64 / 2], salt).set_requires_grad(true);
        let (x, y, shared) = (rows(1), rows(2), noise(&[1], 3).set_requires_grad(true));
        let f = |t: &[Tensor]| (&t[0] * &t[2]).sin() * &t[1];
        let again = recompute_rows(f, &[&x, &y], &[&shared]);
        let plain = f(&[x.shallow_clone(), y.shallow_clone(), shared.shallow_clone()]);
        crate::laws::testing::assert_twins(&again, &plain, &[&x, &y, &shared], 1e-12, "two rows");
        assert!(large(&x) && !large(&x.narrow(0, 0, 1)));
    }

    #[test]
    fn a_backward_has_the_form_of_its_values() {
        struct Tells;

        impl Backward for Tells {
            fn backward(&self, saved: &[Tensor], _: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
                vec![Some(saved[0].full_like(f64::from(u8::from(chosen() == Kernels::Plain))))]
            }
        }

        let x = leaf(1);
        let gradient = |form| {
            let out = with(form, || {
                let out = tch::no_grad(|| &x * 1.0);
                attach(Tells, &[&x], &[&out], &[&x]);
                out
            });
            Tensor::run_backward(&[out.sum(Kind::Double)], &[&x], false, false)[0].double_value(&[0, 0])
        };
        assert_eq!((gradient(Kernels::Plain), gradient(Kernels::Native)), (1.0, 0.0));
    }

    #[test]
    fn without_a_gradient_wanted_there_is_no_graph() {
        assert!(!product(&noise(&[2], 1), &noise(&[2], 2)).requires_grad());
        assert!(!tch::no_grad(|| product(&leaf(1), &leaf(2))).requires_grad());
        assert!(product(&leaf(1), &noise(&[3, 4], 2)).requires_grad());
    }

    #[test]
    fn a_panic_in_the_backward_is_an_error_and_not_an_abort() {
        let x = leaf(1);
        let out = tch::no_grad(|| &x * 2.0);
        attach(Fails, &[&x], &[&out], &[]);
        let failed = Tensor::f_run_backward(&[out.sum(Kind::Double)], &[&x], false, false);
        assert!(failed.unwrap_err().to_string().contains("no way back"));
    }

    #[test]
    fn an_input_changed_in_place_is_refused() {
        let (x, y) = (leaf(1), leaf(2));
        let out = product(&x, &y);
        let _ = tch::no_grad(|| x.shallow_clone().fill_(0.0));
        assert!(Tensor::f_run_backward(&[out.sum(Kind::Double)], &[&y], false, false).is_err());
    }

    #[test]
    fn operations_are_seen_with_the_shapes_they_read() {
        let mut products = Vec::new();
        let seen = |name: &str, shapes: &[&[i64]]| {
            if name == "aten::bmm" {
                products.push(shapes.iter().map(|s| s.to_vec()).collect::<Vec<_>>());
            }
        };
        let _ = watch(seen, || noise(&[2, 3, 4], 1).matmul(&noise(&[2, 4, 5], 2)));
        let _ = noise(&[2, 3, 4], 1).bmm(&noise(&[2, 4, 5], 2));
        assert_eq!(products, [[[2, 3, 4], [2, 4, 5]]], "one, and none after the watch");
    }

    #[test]
    fn a_parallel_loop_reaches_every_element_once() {
        let mut seen = vec![0u32; 1000];
        let shared = Shared::new(&mut seen);
        // SAFETY: the ranges do not overlap.
        parallel_for(1000, 7, |range| unsafe {
            shared.part(range.start, range.len()).iter_mut().for_each(|n| *n += 1)
        });
        assert!(seen.iter().all(|n| *n == 1));
    }
}
