//! Compiles the bridge to libtorch's autograd, and lets this crate's tests and benches find libtorch without
//! LD_LIBRARY_PATH.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=native/bridge.cpp");
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        println!("cargo:warning=LIBTORCH is not set: run `make setup`");
        return;
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libtorch.join("lib").display());
    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .file("native/bridge.cpp")
        .flag("-isystem")
        .flag(include.to_str().expect("the path of libtorch is UTF-8"))
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include").to_str().expect("the path of libtorch is UTF-8"))
        .flag("-fopenmp")
        .define("NDEBUG", None) // as libtorch was built: some of its classes have other fields without it
        .opt_level(2)
        .compile("mixers_bridge");
    // libtorch's thread pool is OpenMP's; both find the same libgomp at run time.
    println!("cargo:rustc-link-lib=dylib=gomp");
}
