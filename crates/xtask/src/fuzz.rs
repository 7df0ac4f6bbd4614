//! `cargo xtask fuzz`: every parser of hostile bytes on bytes that nobody thought of.
//!
//! cargo-fuzz needs compiler flags that the stable toolchain only takes with `RUSTC_BOOTSTRAP=1`; with it no second
//! toolchain has to be installed.

use crate::{step, workspace};
use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use std::process::Stdio;

/// Which targets, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only this target; all of them if none is named.
    target: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    bin: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

/// Runs each target; stops at the first that finds something.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let known = targets()?;
    let chosen: Vec<&String> = known
        .iter()
        .filter(|name| options.target.as_ref().is_none_or(|t| t == *name))
        .collect();
    ensure!(
        !chosen.is_empty(),
        "there is no such fuzz target; there are: {}",
        known.join(", ")
    );
    let probe = workspace::cargo()
        .args(["fuzz", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        bail!("cargo-fuzz is not installed; install it with: cargo install cargo-fuzz --locked");
    }
    for target in chosen {
        step::timed(&format!("fuzz {target}"), || {
            let mut cargo = workspace::cargo();
            cargo.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", target, "--"]);
            // A single input may not take long or much: that would be a way to stop the server.
            cargo.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
            step::run(cargo.arg(format!("-max_total_time={}", options.seconds)))
        })?;
    }
    Ok(())
}

fn targets() -> anyhow::Result<Vec<String>> {
    let path = workspace::root().join("fuzz/Cargo.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(manifest.bin.into_iter().map(|target| target.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_target_is_a_target() {
        let folder = workspace::root().join("fuzz/fuzz_targets");
        let mut files: Vec<String> = folder
            .read_dir()
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut listed = targets().unwrap();
        listed.sort();
        assert_eq!(listed, files);
    }
}
