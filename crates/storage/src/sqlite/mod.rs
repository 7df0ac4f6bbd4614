//! [`Records`] in one SQLite file, for a server without a database server beside it.
//!
//! The file is in WAL mode with `synchronous = FULL`: an answered commit survives a power cut. [`writer`] makes one
//! commit after the other and lets those that wait share an fsync; [`readers`] is a small pool of connections that
//! never wait for the writer. Both work in `spawn_blocking`, so no async thread ever waits for the disk (and a
//! paused test clock stands still while they work).
//!
//! Invariant: the file is readable only for its owner. Invariant: SQL is written in this folder and nowhere else.

mod migrate;
mod readers;
#[cfg(test)]
mod tests;
mod writer;

use crate::records::{Record, Records, Revision, Write};
use crate::{Error, Result};
use async_trait::async_trait;
use readers::Readers;
use rusqlite::{Connection, OpenFlags};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use writer::Writer;

/// How long SQLite waits for another process's lock, such as that of a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The write-ahead log is cut back to this after a burst.
const LOG_LIMIT: u32 = 64 << 20;
const LONGEST_NAME: usize = 1024;

/// Records in one SQLite file. Dropping it lets waiting commits finish.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    readers: Readers,
    writer: Option<Writer>,
}

impl Store {
    /// Opens the file, made if it is not there, and upgrades its schema.
    ///
    /// [`Error::NewerSchema`] if a newer Eyot wrote it. Blocks: call it before serving, or in `spawn_blocking`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // SQLite would make the file with the process's umask; its log and index take the mode of this file.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| Error::io(path, e))?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        migrate::upgrade(&mut connection, path)?;
        let readers = Readers::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            readers,
            writer: Some(Writer::new(path, connection)),
        })
    }

    /// Opens a file that a server may be using at the same time. [`Records::commit`] answers [`Error::ReadOnly`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        path.metadata().map_err(|e| Error::io(path, e))?;
        migrate::require_current(&connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?, path)?;
        Ok(Self {
            path: path.to_owned(),
            readers: Readers::open(path)?,
            writer: None,
        })
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[async_trait]
impl Records for Store {
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>> {
        check_names(kind, key)?;
        self.readers.get(kind.to_owned(), key.to_owned()).await
    }

    async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>> {
        check_name(kind)?;
        self.readers
            .list(kind.to_owned(), prefix.to_owned(), after.map(str::to_owned), limit)
            .await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Revision>> {
        let writer = self.writer.as_ref().ok_or_else(|| Error::ReadOnly(self.path.clone()))?;
        for write in &writes {
            check_names(&write.kind, &write.key)?;
        }
        writer.commit(writes).await
    }
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection> {
    let failed = |e| Error::database(path, e);
    // Each connection has one user at a time here, so SQLite's own mutex would be wasted.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    if access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
            .map_err(failed)?;
        if mode != "wal" {
            let said = "its file system cannot hold SQLite's write-ahead log; put the data directory on a local disk";
            return Err(Error::io(path, io::Error::new(io::ErrorKind::Unsupported, said)));
        }
        connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
        connection
            .pragma_update(None, "journal_size_limit", LOG_LIMIT)
            .map_err(failed)?;
    }
    connection.pragma_update(None, "foreign_keys", false).map_err(failed)?;
    connection
        .pragma_update(None, "trusted_schema", false)
        .map_err(failed)?;
    Ok(connection)
}

fn check_names(kind: &str, key: &str) -> Result<()> {
    check_name(kind)?;
    check_name(key)
}

fn check_name(name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "it is empty"
    } else if name.len() > LONGEST_NAME {
        "it is longer than 1024 bytes"
    } else if name.contains('\0') {
        "it has a NUL character"
    } else {
        return Ok(());
    };
    Err(Error::BadKey(name.to_owned(), problem))
}
