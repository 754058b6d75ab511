//! Finds libtorch at run time without LD_LIBRARY_PATH, and remembers the commit.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    match std::env::var("LIBTORCH") {
        // A dependency's link arguments do not reach this binary, so the rpath is set here.
        Ok(dir) => println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}/lib"),
        Err(_) => println!("cargo:warning=LIBTORCH is not set: run `make setup`"),
    }
    println!("cargo:rustc-env=MIXARENA_COMMIT={}", commit().unwrap_or_default());
    // Without the folder cargo would call the file changed at every build.
    for file in ["../.git/HEAD", "../.git/logs/HEAD"].iter().filter(|f| Path::new(f).exists()) {
        println!("cargo:rerun-if-changed={file}");
    }
}

/// The short commit, with `-dirty` where a tracked file differs from it.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&out.stdout).trim().to_string())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    Some(if changed { format!("{hash}-dirty") } else { hash })
}
