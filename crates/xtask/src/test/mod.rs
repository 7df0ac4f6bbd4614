//! `cargo xtask test`: sets up what the tests need and runs all of them, on a machine that has a Rust toolchain, a C
//! compiler and Python 3.
//!
//! The release binary comes first, because the black-box tests of both languages drive it (`EYOT_BIN`). Then
//! [`rust`]: unit, property, contract and SDK tests. Then [`python`]: `tests/`, with unmodified boto3 and, for who logs
//! in, what [`browser`] installs. At the end every test that could not run here is named with its reason, and the last
//! line is the sum.
//!
//! Invariant: nothing that fails or is left out goes unsaid: a half that breaks off counts as a failure.

mod browser;
mod python;
mod rust;
mod tally;

pub(crate) use python::environment;

use crate::{step, workspace};
use anyhow::{bail, ensure};
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tally::Tally;

/// Longer than either half takes on two slow cores; past it something hangs.
const DEADLINE: Duration = Duration::from_secs(40 * 60);

/// What to run.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Only one half of the tests.
    #[arg(long)]
    only: Option<Half>,
    /// Only tests whose names contain one of these words.
    filters: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Half {
    Rust,
    Python,
}

/// Runs the tests; fails when one fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let wanted = |half| options.only.is_none_or(|only| only == half);
    check_machine(wanted(Half::Python))?;
    let python = if wanted(Half::Python) {
        let python = step::timed("Python environment", python::environment)?;
        let web = step::timed("OpenID provider and browser", || browser::environment(&python))?;
        Some((python, web))
    } else {
        None
    };
    let binary = step::timed("release build", build_release)?;

    let mut tally = Tally::default();
    if wanted(Half::Rust) {
        tally.add(step::timed("Rust tests", || Ok(rust::run(&binary, &options.filters)))?);
    }
    if let Some((python, web)) = python {
        tally.add(step::timed("black-box tests", || {
            Ok(python::run(&python, &web, &binary, &options.filters))
        })?);
    }
    print!("{tally}");
    ensure!(tally.failed == 0, "not every test passed");
    ensure!(tally.passed > 0, "no test ran");
    Ok(())
}

/// Names everything that is missing at once, with the package that has it.
fn check_machine(python: bool) -> anyhow::Result<()> {
    let works = |program: &str, arguments: &[&str]| {
        let status = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    let mut missing = Vec::new();
    if !works("cc", &["--version"]) {
        missing.push("a C compiler, for SQLite and the cryptography (on Debian and Ubuntu: apt install gcc libc6-dev)");
    }
    if python && !works("python3", &["--version"]) {
        missing.push("Python 3, for the black-box tests (on Debian and Ubuntu: apt install python3 python3-venv)");
    } else if python && !works("python3", &["-c", "import venv, ensurepip"]) {
        missing.push("Python's venv module, for the black-box tests (on Debian and Ubuntu: apt install python3-venv)");
    }
    if python && std::env::consts::ARCH != browser::PACKAGED_FOR && !works("chromium", &["--version"]) {
        missing.push("Chromium, for the tests of the web application (on Debian and Ubuntu: apt install chromium)");
    }
    if !missing.is_empty() {
        bail!("the tests need\n  - {}", missing.join("\n  - "));
    }
    Ok(())
}

pub(crate) fn build_release() -> anyhow::Result<PathBuf> {
    step::run(workspace::cargo().args(["build", "--release", "--locked", "--package", "eyot"]))?;
    let binary = workspace::target_directory()?.join("release/eyot");
    ensure!(
        binary.is_file(),
        "the build made no {}; is a build target or another profile configured?",
        binary.display()
    );
    Ok(binary)
}
