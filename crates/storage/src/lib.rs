//! Where state lives: narrow traits, each with one contract suite that every implementation passes.
//!
//! [`Records`] keeps small versioned documents that change together; [`Blobs`] keeps large immutable content. A new
//! service brings new kinds of record, not new tables.
//!
//! Invariant: this crate knows no noun of a service: a record is a kind, a key and bytes.

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::path::PathBuf;

/// A document's revision: 1 when it is made, then counted up by every write. Never reused for another content.
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
#[async_trait]
pub trait Records: Send + Sync + fmt::Debug {
    /// The document, if there is one.
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>, Error>;

    /// At most `limit` documents whose keys start with `prefix` and sort after `after`, in order of their keys.
    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>, Error>;

    /// Makes all the writes or none. Answers the new revision of each write in order (0 for a deletion); durable once
    /// it answers. [`Error::Conflict`] names the first write whose condition does not hold. If the future is dropped,
    /// the commit still happens wholly or not at all.
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Revision>, Error>;
}

/// Large immutable content under a key such as `bucket/path/of/object.zip`.
#[async_trait]
pub trait Blobs: Send + Sync + fmt::Debug {
    /// A place to write new content to. Nothing can be read until [`Upload::finish`]; dropping the upload leaves
    /// nothing behind, and what a crash leaves is removed at the next start.
    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>, Error>;

    /// The content as a file that is open for reading, or nothing.
    async fn open(&self, key: &str) -> Result<Option<Blob>, Error>;

    /// Removes the content; answers whether there was any.
    async fn delete(&self, key: &str) -> Result<bool, Error>;

    /// At most `limit` keys that start with `prefix` and sort after `after`, in order.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, Error>;
}

/// Content on its way into a [`Blobs`].
#[async_trait]
pub trait Upload: Send {
    /// Adds bytes at the end.
    async fn write(&mut self, bytes: Bytes) -> Result<(), Error>;
    /// Makes the content readable under its key, replacing what was there. Durable once it answers.
    async fn finish(self: Box<Self>) -> Result<Stored, Error>;
}

/// What [`Upload::finish`] stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content, lower-case hex.
    pub sha256: String,
}

/// Stored content, open for reading.
#[derive(Debug)]
pub struct Blob {
    /// Open at the start.
    pub file: std::fs::File,
    /// Bytes.
    pub size: u64,
}

/// Why storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A write's condition does not hold; read again and decide anew.
    #[error("{kind} '{key}' is not in the expected state")]
    Conflict {
        /// Kind of the document.
        kind: String,
        /// Key of the document.
        key: String,
    },
    /// A key that cannot be a key.
    #[error("'{0}' cannot be a key: {1}")]
    BadKey(String, &'static str),
    /// The file was written by a newer Eyot.
    #[error("{path} has schema {found}, this program knows up to {known}: use the Eyot that wrote it, or a newer one")]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema of this program.
        known: u32,
    },
    /// The device is full.
    #[error("no space left on the device that holds {0}")]
    Full(PathBuf),
    /// SQLite failed.
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A sealed value could not be opened: wrong master key, or it was changed.
    #[error("a sealed value cannot be opened: {0}")]
    Sealed(&'static str),
    /// The storage has been closed.
    #[error("the storage is closed")]
    Closed,
}
