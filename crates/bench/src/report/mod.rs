//! The results as Markdown: one file of `docs/` for each set of measurements, and the same on standard output.
//!
//! Invariant: a missed aim is called missed, and no figure stands without the spread of its blocks.

pub(crate) mod requests;
pub(crate) mod sessions;

use crate::machine::Machine;
use crate::stats::Spread;
use std::time::Duration;

/// What was measured on; the last line is not ended.
fn machine_lines(machine: &Machine) -> String {
    format!(
        "## Machine\n\n\
         - {} cores, {}{}; SHA-256 instructions: {}\n\
         - memory: {:.1} GB\n\
         - kernel: {}\n\
         - load average before the run: {}",
        machine.cores,
        machine.processor,
        if machine.is_virtual { " (virtual machine)" } else { "" },
        if machine.has_sha { "yes" } else { "no" },
        megabytes(machine.memory) / 1000.0,
        machine.kernel,
        machine.load,
    )
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn megabytes(bytes: u64) -> f64 {
    number(bytes) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes here are far below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

fn show(spread: Spread, digits: usize) -> String {
    let Spread { median, least, most } = spread;
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}
