//! The seam for small documents: read, list, and change several at once under conditions.

use crate::Result;
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;

/// A document's revision. Every write in a store gets a larger one than any write before it, so a revision is never
/// reused for another content, not even when a document is deleted and made again.
pub type Revision = u64;

/// One stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What sort of document this is; a short constant of the service that owns it.
    pub kind: String,
    /// Unique within the kind. Lists are ordered by the key's bytes.
    pub key: String,
    /// Revision of the content.
    pub revision: Revision,
    /// The content, JSON by convention.
    pub value: Bytes,
}

/// What must hold for a write to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// There is no such document.
    Absent,
    /// The document is there with exactly this revision.
    Revision(Revision),
    /// Nothing.
    Anything,
}

/// One change within a [`Records::commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Kind of the document.
    pub kind: String,
    /// Key of the document.
    pub key: String,
    /// Condition on its present state.
    pub expect: Expect,
    /// The new content, or nothing to delete the document.
    pub value: Option<Bytes>,
}

/// Small versioned documents with atomic, conditional writes.
///
/// Kinds and keys are 1 to 1024 bytes long and hold no NUL character; anything else is [`crate::Error::BadKey`].
#[async_trait]
pub trait Records: Send + Sync + fmt::Debug {
    /// The document, if there is one. Sees every commit that was answered before the call.
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>>;

    /// At most `limit` documents whose keys start with `prefix` and sort after `after`, in order of their keys.
    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>>;

    /// Makes all the writes or none, in order: a condition sees the writes before it. Answers the new revision of
    /// each write in order (0 for a deletion); durable once it answers. [`crate::Error::Conflict`] names the first
    /// write whose condition does not hold. If the future is dropped, the commit still happens wholly or not at all.
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Revision>>;
}
