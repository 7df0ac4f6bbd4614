//! `cargo xtask <task>`: what developers and CI do with this repository, one file per task.
//!
//! The words are few on purpose: `test` is what README promises, `ci` is what CI runs, and CI runs nothing else.
//!
//! Invariant: a task installs nothing outside `target/`, asks no question, and fails when a part of it fails.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the person who runs it"
)]

mod bench;
mod cgroup_v2;
mod ci;
pub mod codegen;
mod dependencies;
mod fuzz;
mod licences;
mod lint;
mod soak;
mod step;
mod test;
mod workspace;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use std::process::ExitCode;

/// Tasks of the Eyot repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measures Eyot against the same agents as plain processes; writes docs/benchmarks*.md.
    Bench(bench::Options),
    /// Runs the sandbox's tests in a virtual machine with cgroup v2; needs QEMU and a kernel.
    CgroupV2(cgroup_v2::Options),
    /// What CI runs: formatting, clippy, licences, all tests.
    Ci,
    /// Writes the generated part of the `api` crate.
    #[command(disable_help_flag = true)]
    Codegen {
        /// `--check`, or `--from` and botocore's data directory.
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        arguments: Vec<String>,
    },
    /// Runs fuzz targets on random input; needs cargo-fuzz.
    Fuzz(fuzz::Options),
    /// Licences of all dependencies, and crates that are banned, against deny.toml.
    Licences,
    /// Formatting, clippy and documentation; warnings are errors.
    Lint,
    /// Sessions begun and ended, kills and restarts, at length.
    Soak(soak::Options),
    /// Sets up what the tests need and runs all of them.
    Test(test::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| {
        if error.kind() == ErrorKind::InvalidSubcommand {
            eprintln!("error: unknown task; the tasks are: {}", tasks().join(", "));
            std::process::exit(2);
        }
        error.exit()
    });
    let done = match arguments.task {
        Task::Bench(options) => bench::run(&options),
        Task::CgroupV2(options) => cgroup_v2::run(&options),
        Task::Ci => ci::run(),
        Task::Codegen { arguments } => codegen::run(&arguments),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Licences => licences::run(),
        Task::Lint => lint::run(),
        Task::Soak(options) => soak::run(&options),
        Task::Test(options) => test::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tasks() -> Vec<String> {
    Arguments::command()
        .get_subcommands()
        .map(|task| task.get_name().to_owned())
        .collect()
}
