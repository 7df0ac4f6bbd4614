//! Builds the sample agent as a static program, for `eyot` to carry in itself.
//!
//! The same shape as the build script of `crates/sandbox`, which does this for the guest and says why each step is as
//! it is.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "eyot-sample-agent";

/// What a failure most often means on Linux, as nothing else on a machine needs this library.
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
    // Not Cargo.lock: the agent has no dependencies.
    for watched in [
        "examples/sample-agent/src",
        "examples/sample-agent/Cargo.toml",
        "crates/app/build.rs",
    ] {
        println!("cargo:rerun-if-changed={}", workspace.join(watched).display());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join(PACKAGE);
    let built = build(
        &workspace,
        &env::var("TARGET")?,
        env::var("CARGO_CFG_TARGET_OS")? == "linux",
    )?;
    // Only on a change, so that the program is not built again for nothing.
    let program = std::fs::read(built)?;
    if std::fs::read(&out).ok().as_deref() != Some(&program) {
        std::fs::write(out, program)?;
    }
    Ok(())
}

fn build(workspace: &Path, target: &str, linux: bool) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let target_dir = PathBuf::from(env::var("OUT_DIR")?).join("sample-agent");
    let mut cargo = Command::new(env::var("CARGO")?);
    for name in CLEAN {
        cargo.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PKG_", "CARGO_PROFILE_"]
            .iter()
            .any(|p| text.starts_with(p))
        {
            cargo.env_remove(&name);
        }
    }
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            PACKAGE,
            "--target",
            target,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        // Else a `build.build-dir` of the user's, which the outer build has locked, would be waited for without end.
        .env("CARGO_BUILD_BUILD_DIR", &target_dir)
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_INCREMENTAL", "0");
    if linux {
        // It must run in a sandbox that has none of this host's libraries.
        cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    }
    let status = cargo.status()?;
    if !status.success() {
        let hint = if linux { STATIC_LIBC } else { "" };
        return Err(format!(
            "building the sample agent (package {PACKAGE}) for {target} failed ({status}), see above. {hint}"
        )
        .into());
    }
    Ok(target_dir.join(target).join("release").join(PACKAGE))
}
