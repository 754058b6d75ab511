//! Which form of its kernels a process runs: the native ones of a CPU, or plain ones made of libtorch's operations, which every device has.
//!
//! Both compute the same up to rounding. The program reads `MIXARENA_KERNELS` once, when it starts, and calls [`choose`].

use std::cell::Cell;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use tch::{Device, Kind, Tensor};

/// The variable that names the form.
pub const VARIABLE: &str = "MIXARENA_KERNELS";

/// Which form of the kernels runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// Native ones on a CPU, plain ones elsewhere.
    #[default]
    Auto,
    /// Native ones; a device that has none is refused.
    Native,
    /// Plain ones everywhere.
    Plain,
}

impl Kernels {
    const ALL: [Self; 3] = [Self::Auto, Self::Native, Self::Plain];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Plain => "plain",
        }
    }

    /// What runs on a device, as a record says it: `native` or `plain`.
    pub fn on(self, device: Device) -> Self {
        if self != Self::Plain && device == Device::Cpu { Self::Native } else { Self::Plain }
    }
}

impl FromStr for Kernels {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|form| form.word() == word);
        known.ok_or_else(|| format!("{VARIABLE} is `{word}`, which is no form of the kernels"))
    }
}

static CHOSEN: AtomicU8 = AtomicU8::new(Kernels::Auto as u8);

thread_local! {
    static OVERRIDE: Cell<Option<Kernels>> = const { Cell::new(None) };
}

/// Sets the form for the whole process.
pub fn choose(kernels: Kernels) {
    CHOSEN.store(kernels as u8, Ordering::Relaxed);
}

/// The form that this thread runs.
pub fn chosen() -> Kernels {
    let of_process = || Kernels::ALL[usize::from(CHOSEN.load(Ordering::Relaxed))];
    OVERRIDE.get().unwrap_or_else(of_process)
}

/// `f` with this form on this thread, whatever the process has: for what compares both. A gradient takes the form that its values had.
pub fn with<T>(kernels: Kernels, f: impl FnOnce() -> T) -> T {
    struct Back(Option<Kernels>);

    impl Drop for Back {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }

    let _back = Back(OVERRIDE.replace(Some(kernels)));
    f()
}

/// Whether a native kernel takes this tensor: float32 or float64 on a CPU, unless plain kernels were asked for.
pub fn native_for(t: &Tensor) -> bool {
    t.device() == Device::Cpu && matches!(t.kind(), Kind::Float | Kind::Double) && chosen() != Kernels::Plain
}

/// How many numbers an operation made of libtorch's takes at a time where it works piece by piece: `on_cpu`, so that a piece stays near the
/// processor, and more on a device that wants more work in a call.
pub(crate) fn piece(device: Device, on_cpu: i64) -> i64 {
    if device == Device::Cpu { on_cpu } else { 32 * on_cpu }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_s_own_form_ends_with_the_call_even_in_a_panic() {
        let before = chosen();
        let inner = with(Kernels::Plain, || (chosen(), with(Kernels::Native, chosen), chosen()));
        assert_eq!(inner, (Kernels::Plain, Kernels::Native, Kernels::Plain));
        let broken = std::panic::catch_unwind(|| with(Kernels::Plain, || panic!("broken off")));
        assert!(broken.is_err());
        assert_eq!(chosen(), before);
        let other = with(Kernels::Plain, || std::thread::spawn(chosen).join().expect("it ends"));
        assert_eq!(other, before, "another thread has the form of the process");
    }

    #[test]
    fn words_are_read_and_others_are_named() {
        for form in Kernels::ALL {
            assert_eq!(form.word().parse(), Ok(form));
        }
        assert_eq!(
            "fast".parse::<Kernels>(),
            Err("MIXARENA_KERNELS is `fast`, which is no form of the kernels".into())
        );
    }

    #[test]
    fn native_kernels_take_floats_on_a_cpu_and_nothing_where_plain_ones_are_asked_for() {
        let t = crate::laws::testing::noise(&[2], 1);
        assert!(with(Kernels::Auto, || native_for(&t)) && with(Kernels::Native, || native_for(&t)));
        assert!(
            !with(Kernels::Plain, || native_for(&t)) && !with(Kernels::Auto, || native_for(&t.to_kind(Kind::BFloat16)))
        );
        assert_eq!(Kernels::Auto.on(Device::Cpu), Kernels::Native);
        assert_eq!(
            (Kernels::Auto.on(Device::Cuda(0)), Kernels::Plain.on(Device::Cpu)),
            (Kernels::Plain, Kernels::Plain)
        );
    }
}
