//! CUDA is opened at run time: the same binary serves machines with and without it.

use crate::base::choices::DeviceKind;
use mixers::native::kernels::{Kernels, VARIABLE, chosen};
use std::path::PathBuf;
use tch::Device;

/// The libraries of libtorch's CUDA half, in the order they must be loaded.
const LIBRARIES: [&str; 2] = ["libc10_cuda.so", "libtorch_cuda.so"];

/// The libtorch device behind a choice, or why it cannot be had.
pub fn device(kind: DeviceKind) -> Result<Device, String> {
    match kind {
        DeviceKind::Cpu => Ok(kind.place()),
        DeviceKind::Cuda => {
            if chosen() == Kernels::Native {
                return Err(format!(
                    "{VARIABLE} is `native`, and CUDA has no native kernels; set it to auto, or use --device cpu"
                ));
            }
            open()?;
            match tch::Cuda::is_available() {
                true => Ok(kind.place()),
                false => Err("libtorch sees no CUDA device; run `mixarena doctor`, or use --device cpu".into()),
            }
        }
    }
}

impl DeviceKind {
    /// As libtorch names it.
    pub fn place(self) -> Device {
        match self {
            Self::Cpu => Device::Cpu,
            Self::Cuda => Device::Cuda(0),
        }
    }
}

/// Opens libtorch's CUDA half with its symbols global, once; what to do about it where that fails.
pub fn open() -> Result<(), String> {
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        for name in LIBRARIES {
            let path = find(name);
            // SAFETY: loading runs the library's initialisers; this is libtorch's own code, of the version linked here.
            match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
                // Never unloaded: libtorch keeps pointers into it.
                Ok(library) => std::mem::forget(library),
                Err(error) => {
                    return Err(format!(
                        "{name} cannot be opened ({error}); run `make setup CUDA=1`, or set LD_LIBRARY_PATH to the lib folder of a torch 2.11.0 with CUDA"
                    ));
                }
            }
        }
        Ok(())
    }
    #[cfg(not(unix))]
    Err("CUDA is supported on Linux".into())
}

/// The library beside the libtorch this process uses, or just its name for the loader to look up.
fn find(name: &str) -> PathBuf {
    libtorch_folder().map(|dir| dir.join(name)).filter(|p| p.exists()).unwrap_or_else(|| name.into())
}

/// The folder from which this process loaded libtorch.
pub fn libtorch_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|l| l.split_whitespace().last()).find(|p| p.ends_with("/libtorch_cpu.so"))?;
    Some(PathBuf::from(path).parent()?.to_path_buf())
}
