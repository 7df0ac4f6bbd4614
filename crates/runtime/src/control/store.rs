//! Typed documents over [`storage::Records`]: read, list, and change several at once or none.
//!
//! Every write names the revision that it was decided on, so two calls that decide on the same state cannot both win.
//! The loser reads again and decides anew, at most [`Tries::MAX`] times.

use super::record::Document;
use crate::error::from_storage;
use bytes::Bytes;
use domain::Error;
use std::sync::Arc;
use std::time::Duration;
use storage::{Expect, Records, Revision, Write, document};

/// Reads and writes the control plane's documents.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    records: Arc<dyn Records>,
}

/// A document as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored<T> {
    /// Revision of this content.
    pub(crate) revision: Revision,
    /// The content.
    pub(crate) value: T,
}

/// Writes that happen together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Change {
    writes: Vec<Write>,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All writes are durable.
    Done,
    /// A document had changed since it was read; nothing was written.
    Lost,
}

impl Store {
    /// Over a storage.
    pub(crate) fn new(records: Arc<dyn Records>) -> Self {
        Self { records }
    }

    /// The document under a key.
    pub(crate) async fn get<T: Document>(&self, key: &str) -> Result<Option<Stored<T>>, Error> {
        let found = self.records.get(T::KIND, key).await.map_err(|e| from_storage(&e))?;
        found.map(|record| decode(&record)).transpose()
    }

    /// At most `limit` documents below a prefix, after a key, in order of keys.
    pub(crate) async fn list<T: Document>(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Stored<T>>, Error> {
        let found = self
            .records
            .list(T::KIND, prefix, after, limit)
            .await
            .map_err(|e| from_storage(&e))?;
        found.iter().map(decode).collect()
    }

    /// Every document below a prefix, in order of keys. For kinds with a quota.
    pub(crate) async fn all<T: Document>(&self, prefix: &str) -> Result<Vec<Stored<T>>, Error> {
        const PAGE: usize = 500;
        let mut all: Vec<Stored<T>> = Vec::new();
        loop {
            let after = all.last().map(|last| last.value.key());
            let page = self.list(prefix, after.as_deref(), PAGE).await?;
            let complete = page.len() < PAGE;
            all.extend(page);
            if complete {
                return Ok(all);
            }
        }
    }

    /// Makes a change.
    pub(crate) async fn commit(&self, change: Change) -> Result<Outcome, Error> {
        match self.records.commit(change.writes).await {
            Ok(_) => Ok(Outcome::Done),
            Err(storage::Error::Conflict { .. }) => Ok(Outcome::Lost),
            Err(error) => Err(from_storage(&error)),
        }
    }
}

impl Change {
    /// Makes a document that must not exist yet.
    pub(crate) fn create<T: Document>(&mut self, value: &T) -> &mut Self {
        self.put(value, Expect::Absent)
    }

    /// Replaces a document that was read, if it has not changed since.
    pub(crate) fn replace<T: Document>(&mut self, read: &Stored<T>, value: &T) -> &mut Self {
        debug_assert_eq!(read.value.key(), value.key(), "a document keeps its key");
        self.put(value, Expect::Revision(read.revision))
    }

    /// Replaces a document that was read, or makes it if there was none.
    pub(crate) fn upsert<T: Document>(&mut self, read: Option<&Stored<T>>, value: &T) -> &mut Self {
        self.put(
            value,
            read.map_or(Expect::Absent, |read| Expect::Revision(read.revision)),
        )
    }

    /// Deletes a document that was read, if it has not changed since.
    pub(crate) fn delete<T: Document>(&mut self, read: &Stored<T>) -> &mut Self {
        let expect = Expect::Revision(read.revision);
        self.writes.push(Write {
            kind: T::KIND.to_owned(),
            key: read.value.key(),
            expect,
            value: None,
        });
        self
    }

    /// Deletes a document whatever it holds, if it is there.
    pub(crate) fn remove<T: Document>(&mut self, key: String) -> &mut Self {
        self.writes.push(Write {
            kind: T::KIND.to_owned(),
            key,
            expect: Expect::Anything,
            value: None,
        });
        self
    }

    fn put<T: Document>(&mut self, value: &T, expect: Expect) -> &mut Self {
        self.writes.push(Write {
            kind: T::KIND.to_owned(),
            key: value.key(),
            expect,
            value: Some(encode(value)),
        });
        self
    }
}

/// Counts how often a call lost to others, and waits a little longer each time.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    lost: u32,
}

impl Tries {
    /// With this many losses in a row the caller is told to come back: enough for a hundred calls at once.
    pub(crate) const MAX: u32 = 200;

    /// After a loss: waits, or gives up.
    pub(crate) async fn again(&mut self) -> Result<(), Error> {
        self.lost += 1;
        if self.lost > Self::MAX {
            let message = "Too many calls change the same resource at the same time: call again in a moment.";
            return Err(Error::conflict(message));
        }
        let longest = u64::from(self.lost.min(20)) * 200;
        let random = uuid::Uuid::new_v4().as_u64_pair().0;
        tokio::time::sleep(Duration::from_micros(random % longest)).await;
        Ok(())
    }
}

fn encode<T: Document>(value: &T) -> Bytes {
    document::encode(T::SCHEMA, value)
}

fn decode<T: Document>(record: &storage::Record) -> Result<Stored<T>, Error> {
    let value = document::decode(T::SCHEMA, &record.value).map_err(|why| {
        tracing::error!(kind = T::KIND, key = record.key, %why, "a document cannot be read");
        Error::internal(format!(
            "The server cannot read its record of {} '{}'; its log says why.",
            T::KIND,
            record.key
        ))
    })?;
    Ok(Stored {
        revision: record.revision,
        value,
    })
}
