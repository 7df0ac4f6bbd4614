//! Records in memory that can stop at a chosen step, as a killed process does.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use storage::{Error, Expect, Record, Records, Revision, Write};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Memory {
    documents: Mutex<BTreeMap<(String, String), (Revision, Bytes)>>,
}

/// The view that one process has of [`Memory`]: after so many steps it is dead, and nothing answers any more.
#[derive(Debug)]
pub(crate) struct Mortal {
    below: Arc<Memory>,
    life: Mutex<u32>,
    /// Whether the deadly step is done before the process dies, if it is a commit.
    last_is_done: bool,
    pub(crate) died: Notify,
}

impl Mortal {
    pub(crate) fn new(below: Arc<Memory>, steps: u32, last_is_done: bool) -> Self {
        Self {
            below,
            life: Mutex::new(steps),
            last_is_done,
            died: Notify::new(),
        }
    }

    /// Counts a step. Never answers once the life is over; `last` runs as the last act.
    async fn step(&self, last: impl FnOnce()) {
        let dead = {
            let mut life = self.life.lock().unwrap();
            let is_last = *life == 1;
            *life = life.saturating_sub(1);
            if is_last && self.last_is_done {
                last();
            }
            *life == 0
        };
        if dead {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Records for Memory {
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>, Error> {
        let documents = self.documents.lock().unwrap();
        let found = documents.get(&(kind.to_owned(), key.to_owned()));
        Ok(found.map(|(revision, value)| record(kind, key, *revision, value)))
    }

    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>, Error> {
        let documents = self.documents.lock().unwrap();
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded((kind.to_owned(), after.to_owned())),
            _ => Bound::Included((kind.to_owned(), prefix.to_owned())),
        };
        let below = documents.range((start, Bound::Unbounded));
        let below = below.take_while(|((k, key), _)| k == kind && key.starts_with(prefix));
        Ok(below
            .take(limit)
            .map(|((_, key), (revision, value))| record(kind, key, *revision, value))
            .collect())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Revision>, Error> {
        self.commit_now(writes)
    }
}

impl Memory {
    fn commit_now(&self, writes: Vec<Write>) -> Result<Vec<Revision>, Error> {
        let mut documents = self.documents.lock().unwrap();
        let id = |write: &Write| (write.kind.clone(), write.key.clone());
        for write in &writes {
            let is = documents.get(&id(write)).map(|(revision, _)| *revision);
            let holds = match write.expect {
                Expect::Absent => is.is_none(),
                Expect::Revision(revision) => is == Some(revision),
                Expect::Anything => true,
            };
            if !holds {
                return Err(Error::Conflict {
                    kind: write.kind.clone(),
                    key: write.key.clone(),
                });
            }
        }
        let mut revisions = Vec::new();
        for write in writes {
            let id = id(&write);
            let Some(value) = write.value else {
                documents.remove(&id);
                revisions.push(0);
                continue;
            };
            let revision = documents.get(&id).map_or(0, |(revision, _)| *revision) + 1;
            documents.insert(id, (revision, value));
            revisions.push(revision);
        }
        Ok(revisions)
    }

    /// How many documents there are of each kind.
    pub(crate) fn census(&self) -> BTreeMap<String, usize> {
        let mut census = BTreeMap::new();
        for (kind, _) in self.documents.lock().unwrap().keys() {
            *census.entry(kind.clone()).or_insert(0) += 1;
        }
        census
    }
}

#[async_trait]
impl Records for Mortal {
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>, Error> {
        self.step(|| ()).await;
        self.below.get(kind, key).await
    }

    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>, Error> {
        self.step(|| ()).await;
        self.below.list(kind, prefix, after, limit).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Revision>, Error> {
        let last = writes.clone();
        self.step(move || drop(self.below.commit_now(last))).await;
        self.below.commit_now(writes)
    }
}

fn record(kind: &str, key: &str, revision: Revision, value: &Bytes) -> Record {
    Record {
        kind: kind.to_owned(),
        key: key.to_owned(),
        revision,
        value: value.clone(),
    }
}
