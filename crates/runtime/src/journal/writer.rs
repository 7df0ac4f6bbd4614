//! The one task that writes the journal: what is due, many at a time, in one commit.
//!
//! While storage fails it tries again with growing pauses and keeps what it has. An attempt whose answer was lost may have
//! been made: each ended session keeps its number through all attempts, so a second one meets the first one's record and
//! takes that for its success instead of counting the session twice.

use super::documents::Documents;
use super::pending::{Batch, Ended};
use super::usage::{self, DayUsage};
use super::{Shared, Totals};
use domain::Error;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// For how long usage is kept: a year, and a month to compare with it.
const USAGE_DAYS: i32 = 400;
/// Days' usage deleted with one commit.
const OLD_AT_ONCE: usize = 200;

/// Writes until it is stopped; what is pending then is not written.
pub(super) async fn run(shared: Arc<Shared>, next: u64, stop: CancellationToken) {
    let writer = Writer {
        shared,
        swept: None,
        next,
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = writer.run() => {}
    }
}

struct Writer {
    shared: Arc<Shared>,
    /// The day on which usage that is too old was last deleted.
    swept: Option<Date>,
    /// The number that comes next if none was dropped.
    next: u64,
}

impl Writer {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.due().await;
            let batch = self.shared.pending().batch();
            match self.write(&batch).await {
                Ok(()) => {
                    self.done(&batch);
                    self.close_gap(&batch).await;
                    pause = FIRST_PAUSE;
                }
                // Not an error line each time: what failed below has said so.
                Err(error) => {
                    tracing::warn!(%error, "sessions could not be written down; trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Waits until there is something to write.
    async fn due(&self) {
        loop {
            let said = self.shared.said.notified();
            let due = self.shared.pending().due();
            match due {
                None => said.await,
                Some(due) => tokio::select! {
                    () = sleep_until(due) => return,
                    () = said => {}
                },
            }
        }
    }

    fn done(&self, batch: &Batch) {
        self.shared.pending().written(batch);
        if let Some(covers) = batch.covers {
            self.shared.written.send_replace(covers);
        }
    }

    /// Each record removes the one whose place it takes, so those of numbers that were never written are left over.
    async fn close_gap(&mut self, batch: &Batch) {
        let (Some(first), Some(last)) = (batch.ended.first(), batch.ended.last()) else {
            return;
        };
        let all = usize::try_from(last.number - first.number).is_ok_and(|n| n + 1 == batch.ended.len());
        if !all || first.number != self.next {
            // If it fails, the next start does it.
            let _ = self.shared.documents.cut_history().await;
        }
        self.next = last.number + 1;
    }

    /// Makes a batch durable, in one commit if nobody interferes.
    async fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let mut done = HashSet::new();
        loop {
            let ended: Vec<&Ended> = batch.ended.iter().filter(|e| !done.contains(&e.number)).collect();
            if ended.is_empty() && batch.living.is_empty() {
                return Ok(());
            }
            let mut writes = Vec::new();
            for (sandbox, report) in &batch.living {
                writes.push(Documents::put_living(sandbox, report));
            }
            for Ended { number, report } in &ended {
                writes.extend(report.sandbox.as_ref().map(Documents::delete_living));
                writes.extend(self.shared.documents.put_session(*number, report));
            }
            let (sums, today) = self.sums(&ended).await?;
            writes.extend(sums);
            let old = self.too_old(today).await?;
            let complete = old.len() < OLD_AT_ONCE;
            writes.extend(old.into_iter().map(Documents::delete_usage));
            match self.shared.documents.commit(writes).await {
                Ok(()) => {
                    if complete {
                        self.swept = today.or(self.swept);
                    }
                    return Ok(());
                }
                Err(storage::Error::Conflict { .. }) => self.resolve(&ended, &mut done).await?,
                Err(error) => return Err(crate::error::from_storage(&error)),
            }
        }
    }

    /// The days' usage with what ended sessions add to it, and the latest of the days.
    async fn sums(&self, ended: &[&Ended]) -> Result<(Vec<storage::Write>, Option<Date>), Error> {
        let mut added: BTreeMap<(Date, &str), (Totals, &Ended)> = BTreeMap::new();
        for one in ended {
            let key = (usage::day(&one.report), one.report.runtime_id());
            let (totals, _) = added.entry(key).or_insert((Totals::default(), one));
            totals.add_session(&one.report.usage);
        }
        let mut writes = Vec::new();
        let latest = added.keys().next_back().map(|(day, _)| *day);
        for ((day, runtime), (more, one)) in added {
            let (revision, read) = self.shared.documents.usage_of(day, runtime).await?;
            let mut usage = read.unwrap_or_else(|| DayUsage {
                agent_runtime_arn: one.report.agent_runtime_arn.clone(),
                day,
                totals: Totals::default(),
            });
            usage.totals.add(&more);
            writes.push(Documents::put_usage(runtime, &usage, revision));
        }
        Ok((writes, latest))
    }

    /// Keys of usage that is too old, once a day.
    async fn too_old(&self, today: Option<Date>) -> Result<Vec<String>, Error> {
        let Some(today) = today.filter(|today| self.swept.is_none_or(|swept| swept < *today)) else {
            return Ok(Vec::new());
        };
        // By the clock: a report's own time may be anything.
        let today = today.min(TimeZone::UTC.to_datetime(self.shared.clock.now()).date());
        let kept: Span = USAGE_DAYS.days();
        let first = today.saturating_sub(kept);
        self.shared.documents.usage_before(first, OLD_AT_ONCE).await
    }

    /// After a conflict: somebody has changed a day's usage, which is read again; or a record is there already.
    async fn resolve(&self, ended: &[&Ended], done: &mut HashSet<u64>) -> Result<(), Error> {
        for Ended { number, report } in ended {
            match self.shared.documents.is_written(*number, report).await? {
                None => {}
                // An earlier attempt whose answer was lost. It was one commit, so all of it is there.
                Some(true) => drop(done.insert(*number)),
                Some(false) => {
                    let next = self.shared.documents.next_number().await?;
                    self.shared.pending().renumber(next);
                    return Err(Error::internal("Another process has written to this history."));
                }
            }
        }
        Ok(())
    }
}
