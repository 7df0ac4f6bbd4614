//! The seam for large content: written once as a stream, then read as a file.

use crate::Result;
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;

/// Large immutable content under a key such as `bucket/path/of/object.zip`.
///
/// A key is 1 to 1024 bytes long: segments between single slashes, none of them empty, `.` or `..`, and no NUL
/// character anywhere; anything else is [`crate::Error::BadKey`]. One key may be the beginning of another (`a`, `a/b`).
#[async_trait]
pub trait Blobs: Send + Sync + fmt::Debug {
    /// A place to write new content to. Nothing can be read until [`Upload::finish`]; dropping the upload leaves
    /// nothing behind, and what a crash leaves is removed at the next start.
    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>>;

    /// The content as a file that is open for reading, or nothing. It stays readable when the key is replaced or
    /// deleted meanwhile.
    async fn open(&self, key: &str) -> Result<Option<Blob>>;

    /// Removes the content; answers whether there was any.
    async fn delete(&self, key: &str) -> Result<bool>;

    /// At most `limit` keys that start with `prefix` and sort after `after`, in order of their bytes.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>>;
}

/// Content on its way into a [`Blobs`].
///
/// A failed or cancelled [`Upload::write`] ends the upload: what follows answers [`crate::Error::Closed`].
#[async_trait]
pub trait Upload: Send {
    /// Adds bytes at the end.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;
    /// Makes the content readable under its key, replacing what was there. Durable once it answers.
    async fn finish(self: Box<Self>) -> Result<Stored>;
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
