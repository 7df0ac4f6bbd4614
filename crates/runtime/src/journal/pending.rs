//! What has been said and is not written yet.
//!
//! Invariant: its size is bounded: one report for each living sandbox, and at most [`MOST_ENDED`] of ended sessions.
//! While storage stalls for longer, the oldest ended one is dropped. Where it had a row, the next process finds that and
//! writes the record; else it is lost, and said to be.

use crate::session::report::{Report, Usage};
use domain::id::SandboxId;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Ended sessions that may wait to be written.
pub(super) const MOST_ENDED: usize = 2048;
/// Documents of each sort in one commit.
const MOST_AT_ONCE: usize = 500;
/// How late a living session's row may be.
pub(super) const LIVES_WITHIN: Duration = Duration::from_secs(1);
/// How late the record of an ended one may be.
pub(super) const ENDED_WITHIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Pending {
    living: HashMap<SandboxId, Arc<Report>>,
    /// Since when something in `living` waits.
    living_since: Option<Instant>,
    /// In order of their numbers.
    ended: VecDeque<Ended>,
    ended_since: Option<Instant>,
    /// Somebody waits for everything up to here.
    hurried: Option<u64>,
    /// The number of the next ended session.
    next: u64,
    /// How many things have been said.
    said: u64,
    /// What of each living sandbox's usage the metrics have.
    counted: HashMap<SandboxId, Usage>,
}

/// An ended session and its place in the history, which it keeps through all attempts to write it.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) number: u64,
    pub(super) report: Arc<Report>,
}

/// What is to be written in one commit.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) living: Vec<(SandboxId, Arc<Report>)>,
    pub(super) ended: Vec<Ended>,
    /// Once it is written, so is everything up to here.
    pub(super) covers: Option<u64>,
}

impl Pending {
    pub(super) fn new(next: u64) -> Self {
        Self {
            living: HashMap::new(),
            living_since: None,
            ended: VecDeque::new(),
            ended_since: None,
            hurried: None,
            next,
            said: 0,
            counted: HashMap::new(),
        }
    }

    /// The metrics of this process need not count this again.
    pub(super) fn counted_before(&mut self, sandbox: &SandboxId, usage: Usage) {
        self.counted.entry(sandbox.clone()).or_insert(usage);
    }

    /// Answers what was used since the last report.
    pub(super) fn lives(&mut self, sandbox: SandboxId, report: Report) -> Usage {
        self.said += 1;
        let before = self.counted.insert(sandbox.clone(), report.usage);
        let used = since(before, report.usage);
        self.living.insert(sandbox, Arc::new(report));
        self.living_since.get_or_insert_with(Instant::now);
        used
    }

    /// Answers what was used since the last report, and how many records were dropped to make room.
    pub(super) fn ended(&mut self, report: Report) -> (Usage, usize) {
        self.said += 1;
        let before = report.sandbox.as_ref().and_then(|sandbox| {
            self.living.remove(sandbox);
            self.counted.remove(sandbox)
        });
        let used = since(before, report.usage);
        let mut dropped = 0;
        while self.ended.len() >= MOST_ENDED {
            if let Some(Ended { report, .. }) = self.ended.pop_front() {
                dropped += 1;
                tracing::warn!(
                    session = %report.session_id,
                    "the record of an ended session is dropped because storage does not keep up"
                );
            }
        }
        self.ended.push_back(Ended {
            number: self.next,
            report: Arc::new(report),
        });
        self.next += 1;
        self.ended_since.get_or_insert_with(Instant::now);
        (used, dropped)
    }

    /// Makes everything due. Answers what [`Batch::covers`] must reach.
    pub(super) fn hurry(&mut self) -> u64 {
        self.hurried = Some(self.said);
        self.said
    }

    /// When something is to be written; `None` while there is nothing to do.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.hurried.is_some() {
            return Some(Instant::now());
        }
        let living = self.living_since.map(|since| since + LIVES_WITHIN);
        let ended = self.ended_since.map(|since| since + ENDED_WITHIN);
        living.into_iter().chain(ended).min()
    }

    /// What is due now. It stays here until [`Pending::written`].
    pub(super) fn batch(&mut self) -> Batch {
        let due = |since: Option<Instant>, within| since.is_some_and(|since| since.elapsed() >= within);
        let mut batch = Batch::default();
        if self.hurried.is_some() || due(self.living_since, LIVES_WITHIN) {
            let some = self.living.iter().take(MOST_AT_ONCE);
            batch.living = some.map(|(id, report)| (id.clone(), Arc::clone(report))).collect();
        }
        batch.ended = self.ended.iter().take(MOST_AT_ONCE).cloned().collect();
        let all = batch.living.len() == self.living.len() && batch.ended.len() == self.ended.len();
        batch.covers = all.then_some(self.said);
        batch
    }

    /// A batch is durable; what was said of the same sessions meanwhile stays.
    pub(super) fn written(&mut self, batch: &Batch) {
        for (sandbox, report) in &batch.living {
            if let Entry::Occupied(entry) = self.living.entry(sandbox.clone())
                && Arc::ptr_eq(entry.get(), report)
            {
                entry.remove();
            }
        }
        if let Some(last) = batch.ended.last() {
            while self.ended.front().is_some_and(|first| first.number <= last.number) {
                self.ended.pop_front();
            }
        }
        let now = Instant::now();
        if self.living.is_empty() {
            self.living_since = None;
        } else if !batch.living.is_empty() && batch.living.len() < MOST_AT_ONCE {
            // What is left came while this was written.
            self.living_since = Some(now);
        }
        self.ended_since = (!self.ended.is_empty()).then_some(now);
        if batch.covers >= self.hurried {
            self.hurried = None;
        }
    }

    /// Gives all that wait new numbers, from `next` on: somebody else has written where they should go.
    pub(super) fn renumber(&mut self, next: u64) {
        self.next = self.next.max(next);
        for ended in &mut self.ended {
            ended.number = self.next;
            self.next += 1;
        }
    }

    /// Those that have ended and are not written yet, the newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter().rev()
    }
}

/// What has been used since `before`. A sum never falls; one that does was read wrongly, and counts as nothing.
fn since(before: Option<Usage>, now: Usage) -> Usage {
    let before = before.unwrap_or_default();
    Usage {
        cpu_seconds: (now.cpu_seconds - before.cpu_seconds).max(0.0),
        memory_gb_seconds: (now.memory_gb_seconds - before.memory_gb_seconds).max(0.0),
        memory_peak_bytes: now.memory_peak_bytes,
        bytes_in: now.bytes_in.saturating_sub(before.bytes_in),
        bytes_out: now.bytes_out.saturating_sub(before.bytes_out),
        requests: now.requests.saturating_sub(before.requests),
    }
}
