//! A small pool of read-only connections.
//!
//! In WAL mode a reader sees the last commit before it began and never waits for the writer.
//!
//! Invariant: a connection is used by one blocking task at a time, and comes back to the pool whatever the task does.

use super::connect;
use crate::records::Record;
use crate::{Error, Result};
use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, named_params};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task;
use tokio::time::{Duration, timeout};

const CONNECTIONS: usize = 4;
/// Far beyond what a read takes; past it the disk has stopped answering.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    free: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let connections: Result<Vec<_>> = (0..CONNECTIONS)
            .map(|_| connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY))
            .collect();
        Ok(Self {
            path: path.to_owned(),
            free: Arc::new(Mutex::new(connections?)),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    pub(super) async fn get(&self, kind: String, key: String) -> Result<Option<Record>> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT kind, key, revision, value FROM records WHERE kind = ?1 AND key = ?2")?
                .query_row((kind, key), record)
                .optional()
        })
        .await
    }

    pub(super) async fn list(
        &self,
        kind: String,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        // SQLite's limit is signed; nobody has more records than that.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |connection| {
            let (lower, from) = match after {
                Some(after) if after >= prefix => ("key > :from", after),
                _ => ("key >= :from", prefix.clone()),
            };
            // Without a prefix `:end` still has to occur, or binding it would fail; the planner drops the clause.
            let (upper, end) = match successor(&prefix) {
                Some(end) => ("key < :end", end),
                None => (":end = ''", String::new()),
            };
            connection
                .prepare_cached(&format!(
                    "SELECT kind, key, revision, value FROM records \
                     WHERE kind = :kind AND {lower} AND {upper} ORDER BY key LIMIT :limit"
                ))?
                .query_map(
                    named_params! { ":kind": kind, ":from": from, ":end": end, ":limit": limit },
                    record,
                )?
                .collect()
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = timeout(LONGEST_WAIT, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| Error::Overloaded(self.path.clone()))?
            .map_err(|_| Error::Closed)?;
        let pool = Arc::clone(&self.free);
        let done = task::spawn_blocking(move || Lease::take(pool, permit).read(query));
        // The join fails only when the runtime is shutting down.
        done.await
            .map_err(|_| Error::Closed)?
            .map_err(|e| Error::database(&self.path, e))
    }
}

/// A connection on loan, given back even if the query panics.
struct Lease {
    connection: Option<Connection>,
    pool: Arc<Mutex<Vec<Connection>>>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    fn take(pool: Arc<Mutex<Vec<Connection>>>, permit: OwnedSemaphorePermit) -> Self {
        let connection = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self {
            connection,
            pool,
            _permit: permit,
        }
    }

    fn read<T>(self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        query(
            self.connection
                .as_ref()
                .expect("there are as many connections as permits"),
        )
    }
}

impl Drop for Lease {
    // Fields drop after this: the connection is back before the permit is.
    fn drop(&mut self) {
        self.pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(self.connection.take());
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let value: Vec<u8> = row.get(3)?;
    Ok(Record {
        kind: row.get(0)?,
        key: row.get(1)?,
        revision: row.get(2)?,
        value: Bytes::from(value),
    })
}

/// The smallest text that sorts after every text with this prefix, if there is one. Characters sort as their UTF-8
/// bytes do.
fn successor(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // A range of characters steps over the surrogates, which are none.
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn successor_steps_over_what_is_no_character() {
        let check = |prefix: &str, expected: Option<&str>| assert_eq!(successor(prefix).as_deref(), expected);
        check("", None);
        check("a", Some("b"));
        check("a/", Some("a0"));
        check("\u{d7ff}", Some("\u{e000}"));
        check("a\u{10ffff}", Some("b"));
        check("\u{10ffff}\u{10ffff}", None);
    }

    proptest! {
        #[test]
        fn successor_bounds_exactly_the_texts_with_the_prefix(prefix in "\\PC{1,3}", other in "\\PC{0,4}") {
            let end = successor(&prefix);
            let inside = other.as_str() >= prefix.as_str() && end.is_none_or(|end| other < end);
            prop_assert_eq!(inside, other.starts_with(&prefix));
        }
    }
}
