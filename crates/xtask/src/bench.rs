//! `cargo xtask bench`: builds what is measured and what measures, and runs it. `crates/bench` has the rest.
//!
//! The server is built by itself, exactly as a user's `cargo build --release` builds it; the agent is linked statically,
//! as the one inside `eyot` is, so that it runs in any sandbox.

use crate::{step, workspace};
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::Command;

const AGENT: &str = "eyot-sample-agent";

/// What to measure, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What to measure.
    #[arg(value_enum, default_value_t = What::Requests)]
    what: What,
    /// Much shorter; the report stays as it is.
    #[arg(long)]
    quick: bool,
    /// The driver to measure: auto, container or process.
    #[arg(long, default_value = "auto")]
    driver: String,
}

/// A set of measurements, and its report.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Requests to sessions that run; a minute; writes docs/benchmarks.md.
    Requests,
    /// New sessions and idle ones; ten minutes; writes docs/benchmarks-sessions.md.
    Sessions,
}

/// Measures; writes the report.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let target = workspace::target_directory()?;
    let agent = step::timed("release builds", || {
        step::run(&mut release("eyot"))?;
        step::run(&mut release("eyot-bench"))?;
        agent()
    })?;
    let mut bench = Command::new(target.join("release/eyot-bench"));
    bench.current_dir(workspace::root());
    let (what, report) = match options.what {
        What::Requests => ("requests", "docs/benchmarks.md"),
        What::Sessions => ("sessions", "docs/benchmarks-sessions.md"),
    };
    bench
        .arg(what)
        .args(["--driver", &options.driver, "--agent"])
        .arg(agent);
    bench.arg("--eyot").arg(target.join("release/eyot"));
    if options.quick {
        bench.arg("--quick");
    } else {
        bench.args(["--report", report]);
    }
    step::timed("measurements", || step::run(&mut bench))
}

/// Builds the sample agent as the one inside `eyot` is built: linked statically.
pub(crate) fn agent() -> anyhow::Result<PathBuf> {
    let own = workspace::target_directory()?.join("bench");
    let mut agent = release(AGENT);
    agent.arg("--target-dir").arg(&own);
    agent
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    step::run(agent.env("CARGO_PROFILE_RELEASE_STRIP", "symbols"))?;
    Ok(own.join("release").join(AGENT))
}

fn release(package: &str) -> Command {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--locked", "--package", package]);
    cargo
}
