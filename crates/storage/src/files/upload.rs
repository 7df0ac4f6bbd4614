//! Content on its way in: a temporary file, hashed as it is written, that gets its name only when it is complete.
//!
//! Invariant: until [`Draft::publish`] the file has no name that a reader could find, and dropping the draft at any
//! point removes it.

use super::Folder;
use super::key::Name;
use crate::blobs::{Stored, Upload};
use crate::durable::{make_dirs, sync_dir};
use crate::{Error, Result};
use async_trait::async_trait;
use aws_lc_rs::digest;
use bytes::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task;

/// Bytes are handed to a blocking task in pieces of about this size: smaller ones would spend more on the handing
/// over than on the writing, larger ones on memory.
const PIECE: usize = 1 << 20;

/// An upload into a [`super::FileBlobs`].
pub(super) struct FileUpload {
    folder: Arc<Folder>,
    names: Vec<Name>,
    /// Nothing after a failure or a cancelled write.
    draft: Option<Draft>,
    waiting: Vec<Bytes>,
}

impl FileUpload {
    pub(super) async fn begin(folder: Arc<Folder>, names: Vec<Name>) -> Result<Self> {
        let temporary = folder.temporary.clone();
        let draft = task::spawn_blocking(move || Draft::new(temporary))
            .await
            .map_err(|_| Error::Closed)??;
        Ok(Self {
            folder,
            names,
            draft: Some(draft),
            waiting: Vec::new(),
        })
    }

    async fn flush(&mut self) -> Result<()> {
        let pieces = std::mem::take(&mut self.waiting);
        // The draft goes into the task and comes back; if this future is dropped meanwhile, the task drops the draft.
        let mut draft = self.draft.take().ok_or(Error::Closed)?;
        let draft = task::spawn_blocking(move || {
            for piece in pieces {
                draft.write(&piece)?;
            }
            Ok::<_, Error>(draft)
        });
        self.draft = Some(draft.await.map_err(|_| Error::Closed)??);
        Ok(())
    }
}

#[async_trait]
impl Upload for FileUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if self.draft.is_none() {
            return Err(Error::Closed);
        }
        self.waiting.push(bytes);
        if self.waiting.iter().map(Bytes::len).sum::<usize>() < PIECE {
            return Ok(());
        }
        self.flush().await
    }

    async fn finish(mut self: Box<Self>) -> Result<Stored> {
        self.flush().await?;
        let draft = self.draft.take().ok_or(Error::Closed)?;
        let (folder, names) = (Arc::clone(&self.folder), std::mem::take(&mut self.names));
        task::spawn_blocking(move || draft.publish(&folder, &names))
            .await
            .map_err(|_| Error::Closed)?
    }
}

struct Draft {
    path: PathBuf,
    file: File,
    size: u64,
    hash: digest::Context,
    published: bool,
}

impl Draft {
    fn new(temporary: PathBuf) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = temporary.join(format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| Error::io(&path, e))?;
        Ok(Self {
            path,
            file,
            size: 0,
            hash: digest::Context::new(&digest::SHA256),
            published: false,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, e))?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn publish(mut self, folder: &Folder, names: &[Name]) -> Result<Stored> {
        self.file.sync_all().map_err(|e| Error::io(&self.path, e))?;
        let target = folder.path(names);
        let parent = target.parent().expect("a blob's file is in a folder");
        // A delete that tidies folders away must not come between making this one and using it.
        let _names = folder.lock_names();
        make_dirs(parent)?;
        fs::rename(&self.path, &target).map_err(|e| Error::io(&target, e))?;
        self.published = true;
        sync_dir(parent)?;
        let hash = std::mem::replace(&mut self.hash, digest::Context::new(&digest::SHA256));
        Ok(Stored {
            size: self.size,
            sha256: hex::encode(hash.finish()),
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        // One quick system call, so it may run on an async thread. What it cannot remove, the next start does.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "an abandoned upload stays until the next start");
        }
    }
}
