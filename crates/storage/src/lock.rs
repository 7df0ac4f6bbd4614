//! One server per data directory: two would each believe that they own every session and sandbox in it.
//!
//! The lock is `flock` on `<data-dir>/lock`. The kernel drops it when the process ends, however it ends, so a crash
//! never leaves a directory locked. The file holds the process id only to name it in an error.
//!
//! Invariant: the lock's file descriptor is never inherited by another program (it is close-on-exec), else a sandbox
//! that outlives the server would keep the directory locked.

use crate::durable::make_dirs;
use crate::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where a server keeps everything.
#[derive(Debug)]
pub struct DataDir;

/// The right to use a data directory; dropping it gives the right up.
#[derive(Debug)]
pub struct Guard {
    dir: PathBuf,
    lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there (readable only for its owner) and takes it for this process.
    ///
    /// [`Error::InUse`] names the process that has it. Does not wait.
    pub fn acquire(dir: &Path) -> Result<Guard> {
        make_dirs(dir)?;
        let path = dir.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| Error::io(&path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse {
                    dir: dir.to_owned(),
                    pid: holder(&lock),
                });
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&path, e)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|e| Error::io(&path, e))?;
        Ok(Guard {
            dir: dir.to_owned(),
            lock,
        })
    }
}

impl Guard {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Guard {
    /// Unlocks by hand: a child between its fork and its exec has a copy of the descriptor, and closing ours alone
    /// would leave the lock with it for that moment.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(dir = %self.dir.display(), %error, "the data directory stays locked until this process ends");
        }
    }
}

fn holder(mut lock: &File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_directory_belongs_to_one_holder_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("made/on/the/way");
        let guard = DataDir::acquire(&dir).unwrap();
        assert_eq!(guard.path(), dir);
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);

        let refused = DataDir::acquire(&dir).unwrap_err();
        assert!(
            matches!(refused, Error::InUse { pid: Some(pid), .. } if pid == std::process::id()),
            "{refused}"
        );
        let text = refused.to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");

        drop(guard);
        DataDir::acquire(&dir).unwrap();
    }
}
