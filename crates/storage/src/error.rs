//! Why storage did not do what it was asked, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

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
    /// Opened only for reading, and an older Eyot wrote it.
    #[error("{path} has schema {found}, this program needs {known}: start `eyot serve` on it once to upgrade it")]
    OlderSchema {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The schema of this program.
        known: u32,
    },
    /// A migration that is in the database differs from the program's of the same number.
    #[error(
        "{path} was made by another build of Eyot: its migration '{migration}' is not this program's; use that build"
    )]
    ForeignSchema {
        /// The database.
        path: PathBuf,
        /// The migration that differs.
        migration: String,
    },
    /// A write to a store that was opened only for reading.
    #[error("{0} is open for reading only")]
    ReadOnly(PathBuf),
    /// More commits are waiting than the queue holds, for longer than is worth waiting; nothing was written.
    #[error("the disk of {0} is too slow for the commits that are waiting; try again")]
    Overloaded(PathBuf),
    /// The device is full.
    #[error("no space left on the device that holds {0}; free some and try again")]
    Full(PathBuf),
    /// Another process uses the data directory.
    #[error("{dir} is in use by another eyot server{}; stop it, or choose another --data-dir", said(.pid))]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The process that holds it, where it could be read.
        pid: Option<u32>,
    },
    /// SQLite failed.
    #[error("database {path}: {source}")]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else has a lease.
    #[error("'{name}' is held by '{holder}' until {expires}")]
    Leased {
        /// What was asked for.
        name: String,
        /// Who has it.
        holder: String,
        /// Until when, unless it is renewed.
        expires: jiff::Timestamp,
    },
    /// A lease that has been released, or taken with a higher epoch: whoever held it must stop.
    #[error("the lease of '{name}' with epoch {epoch} has been released or taken by a later holder")]
    LeaseLost {
        /// What was held.
        name: String,
        /// The epoch that no longer counts.
        epoch: u64,
    },
    /// A document of this crate's own cannot be read.
    #[error("{kind} '{key}' cannot be read: {why}")]
    Unreadable {
        /// Kind of the document.
        kind: String,
        /// Key of the document.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The master key's file cannot be used as it is.
    #[error("master key {path}: {problem}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// A sealed value could not be opened: wrong master key, or it was changed.
    #[error("a sealed value cannot be opened: {0}")]
    Sealed(&'static str),
    /// The storage, or an upload after its failure, takes no more calls.
    #[error("the storage is closed")]
    Closed,
}

impl Error {
    /// A failed file operation; a full device becomes [`Error::Full`].
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path.to_owned()),
            _ => Self::Io {
                path: path.to_owned(),
                source,
            },
        }
    }

    /// A failed database operation; a full device becomes [`Error::Full`].
    pub(crate) fn database(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::ffi;
        // A full device shows as FULL when a page cannot be written, and as IOERR_SHMSIZE when the index of the
        // write-ahead log cannot grow.
        let full = source
            .sqlite_error()
            .is_some_and(|e| e.code == rusqlite::ErrorCode::DiskFull || e.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
        if full {
            Self::Full(path.to_owned())
        } else {
            Self::Database {
                path: path.to_owned(),
                source,
            }
        }
    }
}

/// For a caller of the API all but a conflict is the platform's fault, and file names are the operator's business.
impl From<Error> for domain::Error {
    fn from(error: Error) -> Self {
        match &error {
            Error::Conflict { .. } => Self::conflict("The resource was changed by another request. Try again."),
            Error::Full(_) => {
                tracing::error!(%error, "storage is full");
                Self::internal("The server has no storage space left. Nothing was changed.")
            }
            Error::Overloaded(_) => Self::new(domain::Kind::Throttled, "The server's storage is busy. Try again."),
            _ => {
                tracing::error!(%error, "storage failed");
                Self::internal("The server's storage failed. The server's log has the reason.")
            }
        }
    }
}

fn said(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
