//! [`Blobs`] as files below one folder: `objects/` holds the content, `temporary/` what is on its way in.
//!
//! Content is written to `temporary/`, synced, renamed into `objects/`, and the folder synced: a reader sees the old
//! content or the new, never a part. [`key`] says where a key lives; [`upload`] is the way in.
//!
//! Invariant: one `FileBlobs` at a time per folder (the data directory's lock sees to it), because opening clears
//! what an earlier process left in `temporary/`.

mod key;
#[cfg(test)]
mod tests;
mod upload;

use crate::blobs::{Blob, Blobs, Upload};
use crate::durable::{make_dirs, remove_file, sync_dir};
use crate::{Error, Result};
use async_trait::async_trait;
use key::Name;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task;
use upload::FileUpload;

/// Blobs as files below one folder.
#[derive(Debug)]
pub struct FileBlobs {
    folder: Arc<Folder>,
}

impl FileBlobs {
    /// Opens the folder, made if it is not there, and removes what uploads of an earlier process left behind.
    ///
    /// Blocks: call it before serving, or in `spawn_blocking`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let folder = Folder {
            objects: dir.as_ref().join("objects"),
            temporary: dir.as_ref().join("temporary"),
            names: Mutex::new(()),
        };
        make_dirs(&folder.objects)?;
        make_dirs(&folder.temporary)?;
        for leftover in entries(&folder.temporary)? {
            tracing::info!(file = %leftover.display(), "removing an upload that was cut off");
            remove_file(&leftover)?;
        }
        Ok(Self {
            folder: Arc::new(folder),
        })
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Folder) -> Result<T> + Send + 'static) -> Result<T> {
        let folder = Arc::clone(&self.folder);
        // The join fails only when the runtime is shutting down.
        task::spawn_blocking(move || work(&folder))
            .await
            .map_err(|_| Error::Closed)?
    }
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>> {
        key::check(key)?;
        Ok(Box::new(
            FileUpload::begin(Arc::clone(&self.folder), Name::path_of(key)).await?,
        ))
    }

    async fn open(&self, key: &str) -> Result<Option<Blob>> {
        key::check(key)?;
        let names = Name::path_of(key);
        self.blocking(move |folder| folder.open(&names)).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        key::check(key)?;
        let names = Name::path_of(key);
        self.blocking(move |folder| folder.delete(&names)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let listing = Listing {
            prefix: prefix.as_bytes().to_vec(),
            after: after.map(|after| after.as_bytes().to_vec()),
            limit,
            found: Vec::new(),
        };
        self.blocking(move |folder| listing.walk(&folder.objects)).await
    }
}

#[derive(Debug)]
struct Folder {
    objects: PathBuf,
    temporary: PathBuf,
    /// Held while names appear or vanish in `objects`, never while content is written.
    names: Mutex<()>,
}

impl Folder {
    fn path(&self, names: &[Name]) -> PathBuf {
        names
            .iter()
            .fold(self.objects.clone(), |path, name| path.join(name.encode()))
    }

    fn lock_names(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, names: &[Name]) -> Result<Option<Blob>> {
        let path = self.path(names);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(&path, e)),
        };
        let size = file.metadata().map_err(|e| Error::io(&path, e))?.len();
        Ok(Some(Blob { file, size }))
    }

    fn delete(&self, names: &[Name]) -> Result<bool> {
        let path = self.path(names);
        let _names = self.lock_names();
        if !remove_file(&path)? {
            return Ok(false);
        }
        // Folders that hold nothing any more go too. A folder that does stay has to remember what was in it.
        let mut dir = path.parent().expect("a blob's file is in a folder");
        while dir != self.objects && fs::remove_dir(dir).is_ok() {
            dir = dir.parent().expect("it is below the objects folder");
        }
        sync_dir(dir)?;
        Ok(true)
    }
}

/// A walk through the folders in the order of the keys.
struct Listing {
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    limit: usize,
    found: Vec<String>,
}

impl Listing {
    fn walk(mut self, objects: &Path) -> Result<Vec<String>> {
        self.visit(objects, &[])?;
        Ok(self.found)
    }

    /// `dir` holds exactly the keys that begin with `start`.
    fn visit(&mut self, dir: &Path, start: &[u8]) -> Result<()> {
        let mut names: Vec<(Name, PathBuf)> = entries(dir)?
            .into_iter()
            .filter_map(|path| Some((Name::decode(path.file_name()?.to_str()?)?, path)))
            .collect();
        names.sort_by_cached_key(|(name, _)| name.sort_key());
        for (name, path) in names {
            if self.found.len() >= self.limit {
                break;
            }
            let key = [start, &name.sort_key()].concat();
            match name {
                Name::File(_) if self.wants_key(&key) => self.found.extend(String::from_utf8(key).ok()),
                Name::File(_) => {}
                Name::Segment(_) | Name::Cut(_) if self.wants_keys_below(&key) => self.visit(&path, &key)?,
                Name::Segment(_) | Name::Cut(_) => {}
            }
        }
        Ok(())
    }

    fn wants_key(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix) && self.after.as_deref().is_none_or(|after| key > after)
    }

    fn wants_keys_below(&self, start: &[u8]) -> bool {
        let in_prefix = start.starts_with(&self.prefix) || self.prefix.starts_with(start);
        in_prefix
            && self
                .after
                .as_deref()
                .is_none_or(|after| start > after || after.starts_with(start))
    }
}

/// What a folder holds; nothing if it has just been removed.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = match fs::read_dir(dir) {
        Ok(read) => read,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(dir, e)),
    };
    read.map(|entry| entry.map(|e| e.path()).map_err(|e| Error::io(dir, e)))
        .collect()
}
