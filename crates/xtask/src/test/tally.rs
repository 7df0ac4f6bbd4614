//! The sum of several test runs, and what was left out.

use std::fmt;

/// How many tests did what.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Ran and succeeded.
    pub(crate) passed: u64,
    /// Ran and failed, or broke off.
    pub(crate) failed: u64,
    /// What could not run here, each as `name: reason`.
    pub(crate) skipped: Vec<String>,
    /// What went wrong beside single tests.
    pub(crate) troubles: Vec<String>,
}

impl Tally {
    /// Counts another run too.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.troubles.extend(other.troubles);
    }

    /// Something failed that is not a test, such as the build of the tests.
    pub(crate) fn trouble(&mut self, what: impl Into<String>) {
        self.failed += 1;
        self.troubles.push(what.into());
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for skipped in &self.skipped {
            writeln!(f, "skipped {skipped}")?;
        }
        for trouble in &self.troubles {
            writeln!(f, "trouble: {trouble}")?;
        }
        let skipped = self.skipped.len();
        writeln!(f, "{} passed, {} failed, {skipped} skipped", self.passed, self.failed)
    }
}
