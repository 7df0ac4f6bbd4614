//! `cargo xtask lint`: formatting, clippy, documentation. Warnings are errors.

use crate::{step, workspace};

/// All three.
pub(crate) fn run() -> anyhow::Result<()> {
    format()?;
    clippy()?;
    step::timed("documentation", || {
        let mut cargo = workspace::cargo();
        cargo.env("RUSTDOCFLAGS", "-D warnings");
        step::run(cargo.args([
            "doc",
            "--workspace",
            "--no-deps",
            "--locked",
            "--quiet",
            "--document-private-items",
        ]))
    })
}

/// Is every file formatted?
pub(crate) fn format() -> anyhow::Result<()> {
    step::timed("formatting", || {
        step::run(workspace::cargo().args(["fmt", "--all", "--check"]))
    })
}

/// Clippy over everything, tests and examples too.
pub(crate) fn clippy() -> anyhow::Result<()> {
    step::timed("clippy", || {
        let mut cargo = workspace::cargo();
        step::run(cargo.args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]))
    })
}
