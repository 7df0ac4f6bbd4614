//! Builds the guest as a static program, for the sandbox crate to carry in itself.
//!
//! The guest is the first process of every sandbox, where none of the host's libraries need exist, so it is linked
//! statically (`+crt-static`) whatever this build is, and always optimised for size. The nested build has a target
//! directory of its own: the outer one is locked while this runs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a failure most often means, as nothing else on a machine needs this library.
const STATIC_LIBC: &str = "If the linker cannot find -lc, or there is no linker, install a C compiler with its static C \
    library (on Debian and Ubuntu `apt install gcc libc6-dev`, on Fedora `dnf install gcc glibc-static`)";

/// What of the outer build must not leak into the nested one.
const CLEAN: [&str; 12] = [
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTDOCFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "MAKEFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "__CARGO_DEFAULT_LIB_METADATA",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = here.join("../..").canonicalize()?;
    for watched in [
        "crates/guest/src",
        "crates/guest/Cargo.toml",
        "Cargo.lock",
        "crates/sandbox/build.rs",
    ] {
        println!("cargo:rerun-if-changed={}", workspace.join(watched).display());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join("eyot-guest");
    if env::var("CARGO_CFG_TARGET_OS")? != "linux" {
        // Nothing to carry; the drivers say that they need Linux.
        std::fs::write(out, [])?;
        return Ok(());
    }
    let built = build(&workspace, &env::var("TARGET")?)?;
    // Only on a change, so that the crates above are not built again for nothing.
    let program = std::fs::read(built)?;
    if std::fs::read(&out).ok().as_deref() != Some(&program) {
        std::fs::write(out, program)?;
    }
    Ok(())
}

fn build(workspace: &Path, target: &str) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let target_dir = PathBuf::from(env::var("OUT_DIR")?).join("guest");
    let mut cargo = Command::new(env::var("CARGO")?);
    for name in CLEAN {
        cargo.env_remove(name);
    }
    // Cargo's own variables for this script would be taken for the nested build's.
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        if ["CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PKG_", "CARGO_PROFILE_"]
            .iter()
            .any(|p| name_text.starts_with(p))
        {
            cargo.env_remove(&name);
        }
    }
    cargo
        .current_dir(workspace)
        // With a target named, build scripts and procedural macros are built without these flags.
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "eyot-guest",
            "--bin",
            "eyot-guest",
            "--target",
            target,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        // Else a `build.build-dir` of the user's, which the outer build has locked, would be waited for without end.
        .env("CARGO_BUILD_BUILD_DIR", &target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_INCREMENTAL", "0");
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!(
            "building the guest (package eyot-guest) for {target} failed ({status}), see above. {STATIC_LIBC}"
        )
        .into());
    }
    Ok(target_dir.join(target).join("release/eyot-guest"))
}
