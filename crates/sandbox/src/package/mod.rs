//! Code packages: zip archives from users, unpacked once per digest and shared read-only by every sandbox of a version.
//!
//! An archive is hostile input. It is read in four steps, one file each: `archive` reads the table of contents,
//! `path` turns a stored name into a path that stays inside, `plan` lays out the whole tree in memory and refuses what
//! does not fit together, `extract` writes it. `Store` owns the directory that the trees lie in.
//!
//! What is allowed: regular files, directories, and relative symbolic links that end inside the package. The zip
//! format has no hard links; devices, pipes and sockets are refused. Modes become 0644 or 0755.
//!
//! Invariant: nothing is ever written outside a fresh directory, nor through a symbolic link: links are made last.
//! Invariant: `<store>/<digest>` is whole and on the disk, or it is not there; work in progress has another name.
//! Invariant: memory is bounded by [`UnpackLimits::entries`], never by a number that the archive claims.

use crate::Error;
use aws_lc_rs::digest::{Context, SHA256};
use nix::errno::Errno;
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

mod archive;
mod extract;
mod path;
mod plan;

#[cfg(test)]
mod forge;
#[cfg(test)]
mod tests;

pub use extract::unpack_into;

/// Work in progress and things to be deleted begin so; a digest cannot.
const SCRATCH_PREFIX: &str = ".scratch-";

/// Unpacked packages by the digest of their archive. One process at a time may own the directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

/// One unpacked package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// SHA-256 of the archive, 64 lower-case hexadecimal digits.
    pub digest: String,
    /// The directory that holds its tree.
    pub root: PathBuf,
}

/// How much an archive may hold. The defaults are AWS's limits (`AgentCore docs: quotas`), counted in MiB so that nothing
/// that AWS takes is refused here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of the archive.
    pub archive: u64,
    /// Bytes of all files once unpacked, counted as they are written.
    pub unpacked: u64,
    /// Files, links and directories, those included that are only implied by a name.
    pub entries: usize,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            archive: 250 << 20,
            unpacked: 750 << 20,
            entries: 100_000,
        }
    }
}

impl Store {
    /// Opens a store, making the directory if needed and removing what a crash left half done.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let what = || format!("open the package store {}", dir.display());
        fs::create_dir_all(dir).map_err(|e| io_error(what(), e))?;
        for entry in fs::read_dir(dir).map_err(|e| io_error(what(), e))? {
            let entry = entry.map_err(|e| io_error(what(), e))?;
            if entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Unpacks an archive, or answers at once if one of the same digest is unpacked already.
    ///
    /// Blocks; call it from a blocking thread. The file must not be changed by anybody meanwhile. An archive that is
    /// not acceptable is [`Error::Artifact`], and nothing of it remains.
    pub fn unpack(&self, mut zip: File, limits: UnpackLimits) -> Result<Package, Error> {
        let size = zip.metadata().map_err(|e| io_error("read the code package", e))?.len();
        if size > limits.archive {
            return Err(Error::Artifact(format!(
                "the code package is {size} bytes and may be at most {}; leave out what the agent does not need",
                limits.archive
            )));
        }
        let digest = digest_of(&mut zip)?;
        if let Some(package) = self.get(&digest) {
            return Ok(package);
        }
        let scratch = Scratch::create(&self.dir)?;
        let written = unpack_into(&mut zip, &scratch.0, limits).and_then(|()| {
            // One call for the whole tree: an fsync for each of ten thousand files would take minutes.
            let dir = File::open(&scratch.0).map_err(|e| io_error("open the unpacked package", e))?;
            fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755))
                .map_err(|e| io_error("make the unpacked package readable", e))?;
            nix::unistd::syncfs(&dir).map_err(|e| io_error("flush the unpacked package to the disk", e.into()))
        });
        written.map_err(|error| self.explain_full_disk(error))?;
        self.publish(&scratch, &digest)
    }

    /// The package of a digest, if it is here.
    #[must_use]
    pub fn get(&self, digest: &str) -> Option<Package> {
        let root = self.dir.join(digest);
        (is_digest(digest) && root.is_dir()).then(|| Package {
            digest: digest.to_owned(),
            root,
        })
    }

    /// Removes every package whose digest is not in `keep`. The caller makes sure that no sandbox uses one of them and
    /// that none is being unpacked for a version that is not written down yet.
    pub fn remove_except(&self, keep: &HashSet<String>) -> Result<(), Error> {
        let what = || format!("list the package store {}", self.dir.display());
        for entry in fs::read_dir(&self.dir).map_err(|e| io_error(what(), e))? {
            let entry = entry.map_err(|e| io_error(what(), e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !is_digest(&name) || keep.contains(&name) {
                continue;
            }
            // Renamed first, so that a crash half-way does not leave a part that looks whole.
            let doomed = self.dir.join(scratch_name());
            fs::rename(entry.path(), &doomed).map_err(|e| io_error(format!("remove package {name}"), e))?;
            remove_tree(&doomed)?;
        }
        Ok(())
    }

    /// Gives a finished tree its name. Another thread may have been faster with the same archive: then its tree stays.
    fn publish(&self, scratch: &Scratch, digest: &str) -> Result<Package, Error> {
        let root = self.dir.join(digest);
        match fs::rename(&scratch.0, &root) {
            Ok(()) => {
                let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
                synced.map_err(|e| io_error(format!("flush the package store {}", self.dir.display()), e))?;
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) => {}
            Err(e) => return Err(io_error(format!("put package {digest} in its place"), e)),
        }
        Ok(Package {
            digest: digest.to_owned(),
            root,
        })
    }

    /// A full disk is the host's fault, not the package's, and the reader must know which disk.
    fn explain_full_disk(&self, error: Error) -> Error {
        match error {
            Error::Io { what, source } if is_disk_full(&source) => Error::Host(format!(
                "{what}: {source}; the code package was removed again. Free space on the file system of {} and try again",
                self.dir.display()
            )),
            other => other,
        }
    }
}

/// A directory that is removed unless it has been renamed away.
struct Scratch(PathBuf);

impl Scratch {
    fn create(parent: &Path) -> Result<Self, Error> {
        let path = parent.join(scratch_name());
        // Nobody else may look in before it is complete.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| io_error(format!("make {}", path.display()), e))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::warn!(%error, "a half unpacked package stays until the next start");
        }
    }
}

fn scratch_name() -> String {
    format!("{SCRATCH_PREFIX}{}", domain::id::random_tail())
}

/// `remove_dir_all` of the standard library never follows a link.
fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(format!("remove {}", path.display()), e)),
        _ => Ok(()),
    }
}

fn digest_of(file: &mut File) -> Result<String, Error> {
    let read = |e| io_error("read the code package", e);
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer).map_err(read)? {
            0 => return Ok(hex::encode(context.finish())),
            n => context.update(&buffer[..n]),
        }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_disk_full(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::ENOSPC | Errno::EDQUOT))
}

fn io_error(what: impl Into<String>, source: io::Error) -> Error {
    Error::Io {
        what: what.into(),
        source,
    }
}

/// An entry that is not acceptable, named so that its owner finds it; `why` also says what to do.
fn refused(entry: &str, why: impl std::fmt::Display) -> Error {
    Error::Artifact(format!("the code package's entry {entry:?} {why}"))
}
