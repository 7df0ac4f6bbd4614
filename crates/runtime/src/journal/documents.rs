//! The journal's records: what they are called, how they are written, how they are read.
//!
//! - `session-lease`, key: the sandbox's id. The report of a living session.
//! - `session`, key: the number of the ended session, counted down from the largest, so that a list begins with the one
//!   that ended last. Number `n` takes the place of number `n - history`.
//! - `usage`, key: `{day}/{runtime id}`.
//!
//! Each is `{"schema": N, "data": {…}}`. A newer schema is refused; a broken document is said in the log and passed over,
//! because a lost line of history must not keep a server from starting.

use super::usage::DayUsage;
use crate::error::from_storage;
use crate::session::report::Report;
use bytes::Bytes;
use domain::Error;
use domain::id::SandboxId;
use jiff::civil::Date;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use storage::document::{self, Unreadable};
use storage::{Expect, Record, Records, Revision, Write};

const LEASE: &str = "session-lease";
const SESSION: &str = "session";
const USAGE: &str = "usage";
const SCHEMA: u32 = 1;
/// Documents read at a time.
const PAGE: usize = 200;

#[derive(Debug)]
pub(super) struct Documents {
    records: Arc<dyn Records>,
    history: u64,
}

impl Documents {
    pub(super) fn new(records: Arc<dyn Records>, history: usize) -> Self {
        // At least one: a session's record is also what shows that the session has been counted.
        let history = u64::try_from(history).unwrap_or(u64::MAX).max(1);
        Self { records, history }
    }

    /// Deletes what is older than the history is long, which may have been set to less. Answers the next free number.
    pub(super) async fn cut_history(&self) -> Result<u64, Error> {
        let next = self.next_number().await?;
        loop {
            let Some(oldest_kept) = next.checked_sub(self.history) else {
                return Ok(next);
            };
            let old = self.list(SESSION, "", Some(&session_key(oldest_kept)), PAGE).await?;
            if old.is_empty() {
                return Ok(next);
            }
            let writes = old.into_iter().map(|record| delete(SESSION, record.key)).collect();
            self.records.commit(writes).await.map_err(|e| from_storage(&e))?;
        }
    }

    /// The number after the newest.
    pub(super) async fn next_number(&self) -> Result<u64, Error> {
        let newest = self.list(SESSION, "", None, 1).await?;
        let number = newest.first().and_then(|record| session_number(&record.key));
        Ok(number.map_or(1, |number| number.saturating_add(1)))
    }

    /// The rows of living sessions.
    pub(super) async fn living(&self) -> Result<HashMap<SandboxId, Report>, Error> {
        let mut all = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.list(LEASE, "", after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.key.clone());
            for record in &page {
                let report: Option<Report> = decode(record)?;
                if let (Some(report), Ok(sandbox)) = (report, SandboxId::parse(&record.key)) {
                    all.insert(sandbox, report);
                }
            }
        }
    }

    /// Ended sessions after a key, the newest first. A broken one is left out, and its key given all the same.
    pub(super) async fn sessions(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Option<Report>)>, Error> {
        let page = self.list(SESSION, "", after, limit).await?;
        let each = page.into_iter().map(|record| {
            let report = decode(&record)?;
            Ok((record.key, report))
        });
        each.collect()
    }

    /// What one runtime used on one day so far, if that can be read, and the document's revision if there is one.
    pub(super) async fn usage_of(
        &self,
        day: Date,
        runtime: &str,
    ) -> Result<(Option<Revision>, Option<DayUsage>), Error> {
        let key = usage_key(day, runtime);
        let found = self.records.get(USAGE, &key).await.map_err(|e| from_storage(&e))?;
        let Some(record) = found else {
            return Ok((None, None));
        };
        Ok((Some(record.revision), decode(&record)?))
    }

    /// What runtimes used from one day to another, both included; in order of days.
    pub(super) async fn usage(&self, from: Date, to: Date) -> Result<Vec<DayUsage>, Error> {
        let mut all = Vec::new();
        // No runtime's id is the empty one, so this is before every key of the day.
        let mut after = format!("{from}/");
        loop {
            let page = self.list(USAGE, "", Some(&after), PAGE).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after.clone_from(&last.key);
            for record in &page {
                match decode::<DayUsage>(record)? {
                    Some(usage) if usage.day > to => return Ok(all),
                    Some(usage) => all.push(usage),
                    None => {}
                }
            }
        }
    }

    /// Keys of usage of days before `first`, the oldest first.
    pub(super) async fn usage_before(&self, first: Date, limit: usize) -> Result<Vec<String>, Error> {
        let first = first.to_string();
        let page = self.list(USAGE, "", None, limit).await?;
        Ok(page
            .into_iter()
            .map(|record| record.key)
            .take_while(|key| *key < first)
            .collect())
    }

    /// Makes a commit; [`storage::Error::Conflict`] is for the caller to resolve.
    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<(), storage::Error> {
        self.records.commit(writes).await.map(drop)
    }

    /// Whether a session's record is there as it should be written. `None` if there is none.
    pub(super) async fn is_written(&self, number: u64, report: &Report) -> Result<Option<bool>, Error> {
        let key = session_key(number);
        let found = self.records.get(SESSION, &key).await.map_err(|e| from_storage(&e))?;
        Ok(found.map(|record| record.value == encode(report)))
    }

    pub(super) fn put_living(sandbox: &SandboxId, report: &Report) -> Write {
        Write {
            kind: LEASE.to_owned(),
            key: sandbox.to_string(),
            expect: Expect::Anything,
            value: Some(encode(report)),
        }
    }

    pub(super) fn delete_living(sandbox: &SandboxId) -> Write {
        delete(LEASE, sandbox.to_string())
    }

    pub(super) fn delete_usage(key: String) -> Write {
        delete(USAGE, key)
    }

    /// Makes an ended session's record and deletes the one whose place it takes.
    pub(super) fn put_session(&self, number: u64, report: &Report) -> Vec<Write> {
        let mut writes = vec![Write {
            kind: SESSION.to_owned(),
            key: session_key(number),
            expect: Expect::Absent,
            value: Some(encode(report)),
        }];
        if let Some(oldest) = number.checked_sub(self.history) {
            writes.push(delete(SESSION, session_key(oldest)));
        }
        writes
    }

    pub(super) fn put_usage(runtime: &str, usage: &DayUsage, read: Option<Revision>) -> Write {
        Write {
            kind: USAGE.to_owned(),
            key: usage_key(usage.day, runtime),
            expect: read.map_or(Expect::Absent, Expect::Revision),
            value: Some(encode(usage)),
        }
    }

    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>, Error> {
        let listed = self.records.list(kind, prefix, after, limit).await;
        listed.map_err(|e| from_storage(&e))
    }
}

/// The key of an ended session's record: the larger the number, the smaller the key.
pub(super) fn session_key(number: u64) -> String {
    format!("{:020}", u64::MAX - number)
}

fn session_number(key: &str) -> Option<u64> {
    key.parse::<u64>().ok().map(|turned| u64::MAX - turned)
}

fn usage_key(day: Date, runtime: &str) -> String {
    format!("{day}/{runtime}")
}

fn delete(kind: &str, key: String) -> Write {
    Write {
        kind: kind.to_owned(),
        key,
        expect: Expect::Anything,
        value: None,
    }
}

fn encode<T: Serialize>(data: &T) -> Bytes {
    document::encode(SCHEMA, data)
}

fn decode<T: DeserializeOwned>(record: &Record) -> Result<Option<T>, Error> {
    let (kind, key) = (&record.kind, &record.key);
    match document::decode(SCHEMA, &record.value) {
        Ok(data) => Ok(Some(data)),
        Err(Unreadable::Newer { .. }) => {
            tracing::error!(
                kind,
                key,
                "a document was written by a newer Eyot: use that, or a newer one"
            );
            Err(Error::internal(format!(
                "The server's record of {kind} '{key}' was written by a newer Eyot: use that, or a newer one."
            )))
        }
        Err(Unreadable::Broken(error)) => {
            tracing::error!(kind, key, %error, "a document cannot be read and is passed over");
            Ok(None)
        }
    }
}
