//! Records in memory that count commits and behave badly on demand.

use crate::memory::Memory;
use async_trait::async_trait;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use storage::{Error, Record, Records, Result, Revision, Write};

#[derive(Debug)]
pub(super) struct Disk {
    below: Arc<Memory>,
    pub(super) mood: Mutex<Mood>,
    commits: AtomicUsize,
}

/// What becomes of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Fine,
    /// Nothing is written.
    Full,
    /// They are made, and their answers are errors.
    Liar,
    /// They never answer.
    Hung,
}

impl Disk {
    pub(super) fn new(below: Arc<Memory>) -> Self {
        Self {
            below,
            mood: Mutex::new(Mood::Fine),
            commits: AtomicUsize::new(0),
        }
    }

    pub(super) fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// How many commits were made since the last question.
    pub(super) fn commits(&self) -> usize {
        self.commits.swap(0, Ordering::SeqCst)
    }
}

#[async_trait]
impl Records for Disk {
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>> {
        self.below.get(kind, key).await
    }

    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>> {
        self.below.list(kind, prefix, after, limit).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Revision>> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Fine => {}
            Mood::Full => return Err(Error::Full("x".into())),
            Mood::Liar => {
                self.below.commit(writes).await?;
                return Err(Error::Closed);
            }
            Mood::Hung => std::future::pending().await,
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.below.commit(writes).await
    }
}
