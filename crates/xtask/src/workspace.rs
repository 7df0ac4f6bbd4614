//! Where things are, and which Cargo runs us.

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("this crate is two folders below the root")
        .to_owned()
}

/// The Cargo that runs us, working in the root, without standard input.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).stdin(Stdio::null());
    cargo
}

/// What `cargo metadata` says, read as `T`.
pub(crate) fn metadata<T: DeserializeOwned>(arguments: &[&str]) -> anyhow::Result<T> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo metadata cannot be started")?;
    ensure!(output.status.success(), "cargo metadata failed with {}", output.status);
    serde_json::from_slice(&output.stdout).context("the answer of cargo metadata cannot be read")
}

/// Where Cargo builds to.
pub(crate) fn target_directory() -> anyhow::Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    Ok(metadata::<Metadata>(&["--no-deps"])?.target_directory)
}
