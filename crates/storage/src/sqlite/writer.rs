//! The one place that changes the database: commits wait in a bounded queue, and those that wait together share one
//! transaction and so one fsync.
//!
//! Each commit of a group is a savepoint of its own: when its condition does not hold, it alone is rolled back and
//! answered. When the group's transaction itself fails (a full device, say), each of its commits is tried alone,
//! so that a small one does not fail for the sake of a large one.
//!
//! There is no standing thread: the first commit to find the queue unattended starts a blocking task, which works
//! until the queue is empty. So the writer cannot outlive the store's work, and needs no shutdown.
//!
//! Invariant: no commit is answered before the fsync that makes it durable. Invariant: a commit in the queue is
//! made or failed even if nobody waits for its answer any more.

use crate::records::{Expect, Revision, Write};
use crate::{Error, Result};
use rusqlite::{Connection, OptionalExtension as _, Savepoint, TransactionBehavior};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task;
use tokio::time::{Duration, timeout};

/// Commits that may wait at once.
const QUEUE: usize = 1024;
/// Commits that share a transaction. More would only make the first of them wait longer.
const GROUP: usize = 64;
/// How long a commit waits for a place in the queue.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
}

impl Writer {
    pub(super) fn new(path: &Path, connection: Connection) -> Self {
        let queue = Queue {
            waiting: VecDeque::new(),
            attended: false,
        };
        let shared = Shared {
            path: path.to_owned(),
            connection: Mutex::new(connection),
            queue: Mutex::new(queue),
        };
        Self {
            shared: Arc::new(shared),
            places: Arc::new(Semaphore::new(QUEUE)),
        }
    }

    /// See [`crate::Records::commit`]. Waits with a deadline for a place in the queue, then for as long as the disk
    /// takes: giving up later would leave the outcome unknown.
    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Revision>> {
        let place = timeout(LONGEST_WAIT, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| Error::Overloaded(self.shared.path.clone()))?
            .map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        // From here to the blocking task nothing awaits: dropping this future cannot leave the queue unattended.
        if self.shared.enqueue(Waiting {
            writes,
            answer,
            _place: place,
        }) {
            let attendance = Attendance {
                shared: Arc::clone(&self.shared),
                done: false,
            };
            task::spawn_blocking(move || attendance.work());
        }
        answered.await.map_err(|_| Error::Closed)?
    }
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    connection: Mutex<Connection>,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Whether a blocking task is working on the queue, or about to.
    attended: bool,
}

#[derive(Debug)]
struct Waiting {
    writes: Vec<Write>,
    answer: oneshot::Sender<Result<Vec<Revision>>>,
    _place: OwnedSemaphorePermit,
}

/// The duty to work on the queue until it is empty.
struct Attendance {
    shared: Arc<Shared>,
    done: bool,
}

impl Attendance {
    fn work(mut self) {
        let mut connection = lock(&self.shared.connection);
        while let Some(group) = self.shared.next_group() {
            self.shared.write_group(&mut connection, group);
        }
        self.done = true;
    }
}

impl Drop for Attendance {
    /// If a shutting-down runtime drops the task unstarted, those who wait get [`Error::Closed`], and a store that is
    /// used from a later runtime works again.
    fn drop(&mut self) {
        if !self.done {
            let mut queue = lock(&self.shared.queue);
            queue.waiting.clear();
            queue.attended = false;
        }
    }
}

impl Shared {
    /// Answers whether the caller has to attend to the queue now.
    fn enqueue(&self, waiting: Waiting) -> bool {
        let mut queue = lock(&self.queue);
        queue.waiting.push_back(waiting);
        !std::mem::replace(&mut queue.attended, true)
    }

    /// The next commits, or nothing, and then the queue counts as unattended.
    fn next_group(&self) -> Option<Vec<Waiting>> {
        let mut queue = lock(&self.queue);
        let count = queue.waiting.len().min(GROUP);
        queue.attended = count > 0;
        (count > 0).then(|| queue.waiting.drain(..count).collect())
    }

    fn write_group(&self, connection: &mut Connection, group: Vec<Waiting>) {
        let commits: Vec<&[Write]> = group.iter().map(|waiting| waiting.writes.as_slice()).collect();
        let outcomes = match self.transact(connection, &commits) {
            Ok(outcomes) => outcomes,
            Err(error) if commits.len() == 1 => vec![Err(error)],
            Err(_) => commits
                .iter()
                .map(|commit| self.transact_one(connection, commit))
                .collect(),
        };
        for (waiting, outcome) in group.into_iter().zip(outcomes) {
            // Nobody may be waiting any more; the commit stands all the same.
            let _ = waiting.answer.send(outcome);
        }
    }

    fn transact_one(&self, connection: &mut Connection, commit: &[Write]) -> Result<Vec<Revision>> {
        let mut outcomes = self.transact(connection, &[commit])?;
        outcomes.pop().expect("one commit has one outcome")
    }

    /// One transaction for all the commits. An error means that none of them was made.
    fn transact(&self, connection: &mut Connection, commits: &[&[Write]]) -> Result<Vec<Result<Vec<Revision>>>> {
        let failed = |e| Error::database(&self.path, e);
        let mut transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let mut last: Revision = transaction
            .prepare_cached("SELECT revision FROM last_revision")
            .and_then(|mut query| query.query_row((), |row| row.get(0)))
            .map_err(failed)?;
        let first = last;
        let mut outcomes = Vec::with_capacity(commits.len());
        for commit in commits {
            let savepoint = transaction.savepoint().map_err(failed)?;
            match apply(&savepoint, commit, last) {
                Ok(revisions) => {
                    savepoint.commit().map_err(failed)?;
                    last = revisions.iter().copied().fold(last, Revision::max);
                    outcomes.push(Ok(revisions));
                }
                Err(Refusal::Conflict(write)) => {
                    savepoint.finish().map_err(failed)?;
                    outcomes.push(Err(Error::Conflict {
                        kind: write.kind.clone(),
                        key: write.key.clone(),
                    }));
                }
                Err(Refusal::Failed(error)) => return Err(failed(error)),
            }
        }
        if last != first {
            transaction
                .prepare_cached("UPDATE last_revision SET revision = ?1")
                .and_then(|mut update| update.execute((last,)))
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(outcomes)
    }
}

enum Refusal<'a> {
    Conflict(&'a Write),
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal<'_> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

/// Makes the writes in order; numbers them from `last + 1`.
fn apply<'a>(savepoint: &Savepoint<'_>, writes: &'a [Write], mut last: Revision) -> Result<Vec<Revision>, Refusal<'a>> {
    let mut revisions = Vec::with_capacity(writes.len());
    for write in writes {
        let name = (&write.kind, &write.key);
        let present: Option<Revision> = savepoint
            .prepare_cached("SELECT revision FROM records WHERE kind = ?1 AND key = ?2")?
            .query_row(name, |row| row.get(0))
            .optional()?;
        let holds = match write.expect {
            Expect::Absent => present.is_none(),
            Expect::Revision(revision) => present == Some(revision),
            Expect::Anything => true,
        };
        if !holds {
            return Err(Refusal::Conflict(write));
        }
        let Some(value) = &write.value else {
            savepoint
                .prepare_cached("DELETE FROM records WHERE kind = ?1 AND key = ?2")?
                .execute(name)?;
            revisions.push(0);
            continue;
        };
        last += 1;
        savepoint
            .prepare_cached(
                "INSERT INTO records (kind, key, revision, value) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (kind, key) DO UPDATE SET revision = excluded.revision, value = excluded.value",
            )?
            .execute((&write.kind, &write.key, last, value.as_ref()))?;
        revisions.push(last);
    }
    Ok(revisions)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves neither half-changed: a transaction rolls back when it unwinds.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
