//! What lies where in the data directory, and how a client command finds the server that uses it.
//!
//! ```text
//! lock          held by the server that uses the directory
//! master.key    seals secrets; readable by its owner only
//! state.db      records (SQLite, WAL)
//! server.json   where the running server listens; gone when none runs, stale after a crash
//! blobs/        uploaded artifacts
//! packages/     unpacked code packages, by digest
//! sandboxes/    one directory for each sandbox
//! spool/        request bodies on their way through; the files in it have no names
//! ```

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a client command waits for a server that was started a moment ago.
const STARTING: Duration = Duration::from_secs(10);

/// Paths inside a data directory.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

/// What `server.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServerFile {
    /// `http://127.0.0.1:8780`
    pub(crate) url: String,
    /// Process id of the server.
    pub(crate) pid: u32,
    /// Region that the server plays.
    pub(crate) region: String,
    /// Account that the server plays.
    pub(crate) account: String,
}

/// The directory asked for, or the default one.
pub(crate) fn resolve(asked: Option<PathBuf>) -> DataDir {
    DataDir(asked.unwrap_or_else(crate::config::default_data_dir))
}

impl DataDir {
    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The key that seals secrets.
    pub(crate) fn master_key(&self) -> PathBuf {
        self.0.join("master.key")
    }

    /// The records.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state.db")
    }

    /// Uploaded artifacts.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// Unpacked packages.
    pub(crate) fn packages(&self) -> PathBuf {
        self.0.join("packages")
    }

    /// Sandboxes.
    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.0.join("sandboxes")
    }

    /// The audit log, unless another file is configured.
    pub(crate) fn audit(&self) -> PathBuf {
        self.0.join("audit/audit.jsonl")
    }

    /// Request bodies on their way.
    pub(crate) fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }

    /// Says where the server listens. Written beside and renamed, so that a reader never sees half of it.
    pub(crate) fn announce(&self, server: &ServerFile) -> anyhow::Result<()> {
        let path = self.0.join("server.json");
        let fresh = self.0.join("server.json.new");
        std::fs::write(&fresh, serde_json::to_vec_pretty(server)?)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Takes the announcement back.
    pub(crate) fn withdraw(&self) {
        let _ = std::fs::remove_file(self.0.join("server.json"));
    }

    /// Where the running server listens.
    pub(crate) fn server(&self) -> anyhow::Result<ServerFile> {
        let path = self.0.join("server.json");
        let hint = || {
            let dir = self.0.display();
            format!(
                "no server runs on the data directory {dir}: start one with `eyot serve --data-dir {dir}`, name another \
                 directory with --data-dir, or set the AWS_ENDPOINT_URL_BEDROCK_AGENTCORE and AWS_* variables"
            )
        };
        // The announcement of a server that was killed stays behind; the lock of a dead process does not.
        let Ok(lock) = std::fs::File::open(self.0.join("lock")) else {
            bail!("{}", hint())
        };
        let patience = std::time::Instant::now() + STARTING;
        loop {
            if !matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)) {
                bail!("{}", hint());
            }
            match std::fs::read(&path) {
                Ok(text) => {
                    let server = serde_json::from_slice(&text);
                    return server.with_context(|| format!("{} cannot be read", path.display()));
                }
                Err(_) if std::time::Instant::now() < patience => std::thread::sleep(Duration::from_millis(20)),
                Err(_) => bail!(
                    "the server on the data directory {} is still starting: try again",
                    self.0.display()
                ),
            }
        }
    }
}
