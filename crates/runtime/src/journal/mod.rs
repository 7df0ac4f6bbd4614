//! What is known of sessions beyond the life of this process: the leases of those that live, the last ones that ended,
//! and what each runtime used on each day.
//!
//! Sessions tell the journal what becomes of them and never wait for it; it writes behind, many at a time in one commit
//! ([`writer`]). What has been said and not written is in [`pending`], whose size is bounded. A living session's row may
//! be a second old after a crash, which costs its idle clock as much; that it lives, and whose it is, is known from its
//! sandbox.
//!
//! Three kinds of record, see [`documents`]: `session-lease` for each living session, `session` for each of the last ones
//! that ended, `usage` for each runtime and day.
//!
//! Invariant: the end of a session is one commit: its row goes, its record comes, its runtime's usage grows. So it is
//! counted exactly once, whenever the process is killed: either nothing of it is written, then the next process finds the
//! row without a sandbox and calls [`Journal::lost`], or all of it is.
//!
//! A session's usage counts on the day (UTC) on which it ends. The metrics grow while it lives.

mod documents;
mod pending;
mod query;
#[cfg(test)]
mod tests;
mod usage;
mod writer;

pub use query::Page;
pub use usage::{DayUsage, Totals};

use crate::metrics::Metrics;
use crate::session::report::{Report, State, Transition};
use documents::Documents;
use domain::id::SandboxId;
use domain::{Clock, Error};
use pending::Pending;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use storage::Records;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Why a session ended that no process saw ending.
pub const SERVER_LOST: &str = "server_lost";
/// The most that is kept of what an agent wrote.
const MOST_TEXT: usize = 16 * 1024;

/// Keeps reports of sessions. Cheap to clone; when the last clone is dropped, nothing more is written.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    keeper: Option<Arc<Keeper>>,
}

/// What a journal is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where it is kept.
    pub records: Arc<dyn Records>,
    /// Wall time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How many ended sessions are kept.
    pub history: usize,
}

struct Keeper {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What the handles and the writer share.
struct Shared {
    documents: Documents,
    clock: Clock,
    metrics: Arc<Metrics>,
    pending: Mutex<Pending>,
    /// Something was said, or somebody waits for it to be written.
    said: Notify,
    /// Up to which of the things said everything is written.
    written: watch::Sender<u64>,
}

impl Journal {
    /// One that keeps nothing, for tests of what does not need it.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Opens what is there, cuts the history to its length, and starts to write. Within a Tokio runtime.
    pub async fn open(parts: Parts) -> Result<Self, Error> {
        let Parts {
            records,
            clock,
            metrics,
            history,
        } = parts;
        let documents = Documents::new(records, history);
        let next = documents.cut_history().await?;
        let shared = Arc::new(Shared {
            documents,
            clock,
            metrics,
            pending: Mutex::new(Pending::new(next)),
            said: Notify::new(),
            written: watch::Sender::new(0),
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(writer::run(Arc::clone(&shared), next, stop.clone()));
        tasks.close();
        let keeper = Keeper {
            shared,
            _stop: stop.drop_guard(),
        };
        Ok(Self {
            keeper: Some(Arc::new(keeper)),
        })
    }

    /// The rows that an earlier process left of sessions that lived, by their sandboxes.
    pub(crate) async fn left(&self) -> Result<HashMap<SandboxId, Report>, Error> {
        let Some(shared) = self.shared() else {
            return Ok(HashMap::new());
        };
        let left = shared.documents.living().await?;
        let mut pending = shared.pending();
        for (sandbox, report) in &left {
            // What they used so far has been counted by the process that saw it.
            pending.counted_before(sandbox, report.usage);
        }
        Ok(left)
    }

    /// A session lives and this is what there is to say of it; replaces what was said before. For one with a sandbox.
    pub(crate) fn lives(&self, report: Report) {
        let Some(shared) = self.shared() else { return };
        let Some(sandbox) = report.sandbox.clone() else { return };
        let used = shared.pending().lives(sandbox, report);
        shared.metrics.used(used);
        shared.said.notify_one();
    }

    /// A session has ended: its row goes, its record and its runtime's usage of the day are written.
    pub(crate) fn ended(&self, report: Report) {
        let Some(shared) = self.shared() else { return };
        let report = finished(report, &shared.clock);
        let (used, dropped) = shared.pending().ended(report);
        shared.metrics.used(used);
        if dropped > 0 {
            shared.metrics.record_dropped();
        }
        shared.said.notify_one();
    }

    /// The sandbox of a session that an earlier process left is gone, and nobody saw it end: as [`Journal::ended`], with
    /// the reason [`SERVER_LOST`]. For a report of [`Journal::left`].
    pub(crate) fn lost(&self, mut report: Report) {
        let Some(shared) = self.shared() else { return };
        let now = shared.clock.now();
        SERVER_LOST.clone_into(&mut report.reason);
        report.ended_at = Some(now);
        report.transitions.push(Transition {
            at: now,
            to: State::Terminated,
            reason: SERVER_LOST.to_owned(),
        });
        self.ended(report);
    }

    /// Waits until everything that was said before is written. Does not end while storage fails: give it a deadline.
    pub async fn flush(&self) {
        let Some(shared) = self.shared() else { return };
        let mut written = shared.written.subscribe();
        let target = shared.pending().hurry();
        shared.said.notify_one();
        // The sender lives in `shared`, so this cannot fail.
        let _ = written.wait_for(|written| *written >= target).await;
    }

    fn shared(&self) -> Option<&Arc<Shared>> {
        self.keeper.as_ref().map(|keeper| &keeper.shared)
    }
}

impl Shared {
    /// Nothing under this lock can leave it half-changed, so a panic elsewhere does not spoil it.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper")
    }
}

/// A report as that of an ended session is kept.
fn finished(mut report: Report, clock: &Clock) -> Report {
    report.state = State::Terminated;
    report.ended_at.get_or_insert_with(|| clock.now());
    report.idle_deadline = None;
    report.calls_in_flight = 0;
    if let Some(text) = &mut report.log_tail {
        keep_end(text);
    }
    if let Some(text) = report.last_failure.as_mut().and_then(|failure| failure.detail.as_mut()) {
        keep_end(text);
    }
    report
}

/// Cuts a text to its last [`MOST_TEXT`] bytes, so that no agent decides how large a record is.
fn keep_end(text: &mut String) {
    if text.len() > MOST_TEXT {
        let from = text.ceil_char_boundary(text.len() - MOST_TEXT);
        text.drain(..from);
    }
}
