//! `cargo xtask bench`: what Eyot costs, measured side by side with the same agent called directly.
//!
//! Two peers on the loopback interface, both started here: the sample agent as a plain process, and `eyot serve` with
//! the same program deployed into it through the public API. Every measurement goes to both in turns (A B, B A, …), in
//! blocks, so that whatever else the machine does falls on both alike; what is reported is the median of blocks with
//! the least and the most. The client is blocking threads on plain sockets and sends requests that were signed before
//! the clock started, so that its own work is small and the same for both.
//!
//! With `sessions` it measures new sessions instead: from a warm pool, without one, and the same agents as plain
//! processes; alone and many at once; and what idle sessions cost.
//!
//! Read in this order: `stage` (what is started, and taken down again), `request` and `http` (the client), `measure`
//! (one file for each figure), `process` and `machine` (what the kernel says), `stats`, `report`.
//!
//! Invariant: nothing outlives the run, also when it fails or is interrupted: processes, sandboxes, directories.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement talks to the person who runs it"
)]

mod http;
mod interrupt;
mod machine;
mod measure;
mod process;
mod report;
mod request;
mod stage;
mod stats;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use measure::{Plan, sessions};
use stage::Stage;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures Eyot against the same agent called directly.
#[derive(Debug, Parser)]
#[command(name = "eyot-bench")]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value_t = What::Requests)]
    what: What,
    /// The `eyot` program to measure; a release build.
    #[arg(long, value_name = "FILE")]
    eyot: PathBuf,
    /// The sample agent, linked statically.
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// The driver to measure.
    #[arg(long, default_value = "auto")]
    driver: String,
    /// The agent in Python, a directory to deploy; for `sessions`.
    #[arg(long, value_name = "DIR", default_value = "examples/python-agent")]
    python_agent: PathBuf,
    /// The Python to run it on.
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// Where to write the results as Markdown, besides standard output.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// A tenth of the time: shows that everything works, measures little.
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// What a request costs.
    Requests,
    /// What a session costs.
    Sessions,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("eyot-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    interrupt::watch()?;
    let machine = machine::describe()?;
    let text = match arguments.what {
        What::Requests => {
            let plan = if arguments.quick { Plan::QUICK } else { Plan::FULL };
            let stage = Stage::set(&arguments.eyot, &arguments.agent, &arguments.driver)?;
            let results = measure::all(&stage, &plan)?;
            stage.clear()?;
            report::requests::markdown(&machine, &results)
        }
        What::Sessions => {
            let plan = if arguments.quick {
                sessions::Plan::QUICK
            } else {
                sessions::Plan::FULL
            };
            let peers = sessions::Peers::set(&sessions::Wanted {
                eyot: &arguments.eyot,
                native: &arguments.agent,
                python_agent: &arguments.python_agent,
                python: &arguments.python,
                driver: &arguments.driver,
            })?;
            let results = sessions::all(&peers, &plan)?;
            peers.clear()?;
            report::sessions::markdown(&machine, &results)
        }
    };
    println!("{text}");
    if let Some(path) = &arguments.report {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
