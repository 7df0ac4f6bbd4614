//! Writes a planned tree.
//!
//! Directories come first, then files, links last: while files are written there is no link on the disk to be written
//! through, and every step opens one component with `O_NOFOLLOW` all the same.
//!
//! Invariant: files are made with `O_EXCL` below descriptors of directories that this code made.

use super::archive::{Archive, too_large};
use super::plan::{Node, Plan};
use super::{UnpackLimits, io_error};
use crate::Error;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::symlinkat;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const CHUNK: usize = 64 * 1024;

/// Unpacks an archive into an existing, empty directory.
///
/// Blocks. On an error the directory holds a part of the tree and should be removed; nothing outside it was touched.
/// This is also what the fuzz target calls.
pub fn unpack_into<R: Read + Seek>(zip: R, root: &Path, limits: UnpackLimits) -> Result<(), Error> {
    let mut archive = Archive::open(zip, &limits)?;
    let entries = std::mem::take(&mut archive.entries);
    let (mut plan, paths) = Plan::new(&entries, &limits)?;
    let root = File::open(root).map_err(|e| io_error(format!("open {}", root.display()), e))?;
    let mut tree = Tree {
        root: root.into(),
        last: None,
    };
    for (path, node) in plan.nodes() {
        if *node == Node::Dir {
            tree.make_dir(path)?;
        }
    }
    let mut buffer = vec![0; CHUNK];
    let mut left = limits.unpacked;
    for (entry, path) in entries.iter().zip(&paths) {
        let mut data = archive.data(entry)?;
        let node = path.as_deref().and_then(|path| plan.get(path));
        let mut file = match (path.as_deref(), node) {
            (Some(path), Some(Node::File { executable })) => Some(tree.make_file(path, *executable)?),
            _ => None,
        };
        let mut target = Vec::new();
        loop {
            let n = data.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            left = left.checked_sub(n as u64).ok_or_else(|| too_large(limits.unpacked))?;
            match &mut file {
                Some(file) => file
                    .write_all(&buffer[..n])
                    .map_err(|e| write_error(&entry.shown(), e))?,
                // A directory is empty and a link short: the plan has seen to it, and the size is checked as it is read.
                None => target.extend_from_slice(&buffer[..n]),
            }
        }
        if let (Some(path), Some(Node::Link(_))) = (path, node) {
            plan.set_target(path, &target)?;
        }
    }
    plan.check_links()?;
    for (path, node) in plan.nodes() {
        if let Node::Link(Some(target)) = node {
            tree.make_link(path, target)?;
        }
    }
    Ok(())
}

/// The directory being filled.
struct Tree {
    root: OwnedFd,
    /// The directory written to last: archives list a directory's files one after the other.
    last: Option<(String, OwnedFd)>,
}

impl Tree {
    fn make_dir(&mut self, path: &str) -> Result<(), Error> {
        let (parent, name) = split(path);
        let made = self.open_dir(parent).and_then(|dir| {
            mkdirat(dir, name, Mode::S_IRWXU)?;
            // Not through mkdirat's argument, which the umask narrows.
            let new = openat(dir, name, dir_flags(), Mode::empty())?;
            fchmod(&new, mode(0o755))
        });
        made.map_err(|e| write_error(path, e.into()))
    }

    fn make_file(&mut self, path: &str, executable: bool) -> Result<File, Error> {
        let (parent, name) = split(path);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = self.open_dir(parent).and_then(|dir| {
            let file = openat(dir, name, flags, mode(0o600))?;
            fchmod(&file, mode(if executable { 0o755 } else { 0o644 }))?;
            Ok(File::from(file))
        });
        made.map_err(|e| write_error(path, e.into()))
    }

    fn make_link(&mut self, path: &str, target: &str) -> Result<(), Error> {
        let (parent, name) = split(path);
        let made = self.open_dir(parent).and_then(|dir| symlinkat(target, dir, name));
        made.map_err(|e| write_error(path, e.into()))
    }

    /// Opens a directory one component at a time, never through a link.
    fn open_dir(&mut self, path: &str) -> nix::Result<&OwnedFd> {
        if path.is_empty() {
            return Ok(&self.root);
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let mut dir: Option<OwnedFd> = None;
            for component in path.split('/') {
                let from = dir.as_ref().unwrap_or(&self.root).as_fd();
                dir = Some(openat(from, component, dir_flags(), Mode::empty())?);
            }
            self.last = dir.map(|dir| (path.to_owned(), dir));
        }
        Ok(self.last.as_ref().map_or(&self.root, |(_, dir)| dir))
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn dir_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits)
}

fn write_error(path: &str, source: std::io::Error) -> Error {
    io_error(format!("unpack {path:?} of the code package"), source)
}
