//! Mounts, made short to write. A bind gets its attributes while it is still detached, so it is never seen without them.

use crate::sys;
use nix::mount::{MsFlags, mount};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

pub(super) use crate::sys::{
    MOUNT_ATTR_NODEV as NODEV, MOUNT_ATTR_NOEXEC as NOEXEC, MOUNT_ATTR_NOSUID as NOSUID, MOUNT_ATTR_RDONLY as RDONLY,
};

/// Shows `source` at `target`, with all that is mounted below it if `recursive`.
pub(super) fn bind(source: &Path, target: &Path, attributes: u64, recursive: bool) -> io::Result<()> {
    let tree = sys::open_tree(&sys::c_path(source)?, recursive)?;
    sys::mount_setattr(tree.as_fd(), attributes, recursive, None)?;
    sys::move_mount(tree.as_fd(), &sys::c_path(target)?)
}

/// The same, with the owner's id shown as another one, as a user namespace maps it.
pub(super) fn bind_mapped(
    source: &Path,
    target: &Path,
    attributes: u64,
    ids: std::os::fd::BorrowedFd<'_>,
) -> io::Result<()> {
    let tree = sys::open_tree(&sys::c_path(source)?, false)?;
    sys::mount_setattr(tree.as_fd(), attributes | sys::MOUNT_ATTR_IDMAP, false, Some(ids))?;
    sys::move_mount(tree.as_fd(), &sys::c_path(target)?)
}

/// Mounts a file system that has no device behind it.
pub(super) fn fresh(kind: &str, target: &Path, flags: MsFlags, options: &str) -> io::Result<()> {
    mount(Some(kind), target, Some(kind), flags, Some(options)).map_err(io::Error::from)
}
