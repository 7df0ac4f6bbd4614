//! `cargo xtask ci`: exactly what CI runs, the quick answers first.

use crate::{licences, lint, test};

/// Stops at the first part that fails.
pub(crate) fn run() -> anyhow::Result<()> {
    lint::format()?;
    lint::clippy()?;
    licences::run()?;
    test::run(&test::Options::default())
}
