//! A directory that outlives the sandbox: a file system in a file, on a loop device, shown below `/mnt`.
//!
//! On disk everything belongs to the agent's id inside, whatever range of ids the sandbox has; the mount maps that one id,
//! so the next sandbox owns its files although its range is another one. The agent sees a directory of the file system and
//! not its root, where `lost+found` is.
//!
//! Nothing has to be taken down. The device detaches itself when the mount goes, and the mount goes with the namespace. The
//! lock on the file is the device's as well, so it is held exactly as long.

use super::mounts::{NODEV, NOSUID};
use super::rootfs::{directory, id_map};
use crate::failure::{self, Context};
use crate::sys;
use guest::protocol::{AGENT_ID, Failure, Storage};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, Uid, chown};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// Where the file system is mounted until its directory is where it belongs.
const ASIDE: &str = ".storage";
/// Its directory that is shown.
const SHOWN: &str = ".storage/data";
/// How often to look for a free loop device: others look at the same time.
const TRIES: usize = 50;

/// Shows the storage in the root that is being built, which is the current directory.
pub(super) fn show(storage: &Storage, base: u32) -> Result<(), Failure> {
    let what = || "session storage";
    let image = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&storage.image)
        .on_host(what())?;
    match image.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(failure::host(what(), "it is in use by another sandbox")),
        Err(TryLockError::Error(error)) => return Err(failure::host(what(), error)),
    }
    let (device, name) = attach(&image).on_host("a loop device for session storage")?;
    directory(Path::new(ASIDE), 0o700).on_host(what())?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    // Space that is freed inside is free outside again.
    mount(Some(name.as_str()), ASIDE, Some("ext4"), flags, Some("discard"))
        .map_err(|error| failure::host(what(), format!("its file system cannot be mounted: {error}")))?;
    // From here on the mount keeps the device.
    drop(device);
    prepare().on_host(what())?;
    let target = storage.mount_path.strip_prefix('/').unwrap_or_default();
    let bind = || {
        directory(Path::new(target), 0o755)?;
        let ids = id_map(AGENT_ID, AGENT_ID, base + AGENT_ID)?;
        super::mounts::bind_mapped(Path::new(SHOWN), Path::new(target), NOSUID | NODEV, ids.as_fd())?;
        umount2(ASIDE, MntFlags::MNT_DETACH)?;
        fs::remove_dir(ASIDE)
    };
    bind().on_wall("session storage")
}

/// At the first use the shown directory is made, and given to the agent.
fn prepare() -> io::Result<()> {
    match fs::create_dir(SHOWN) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Each time, because a crash may have come between.
    let (uid, gid) = (Uid::from_raw(AGENT_ID), Gid::from_raw(AGENT_ID));
    chown(SHOWN, Some(uid), Some(gid)).map_err(io::Error::from)
}

/// Attaches the file to a free loop device, which detaches itself when nobody uses it any more.
fn attach(image: &File) -> io::Result<(File, String)> {
    let open = |path: &str| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
    };
    let control = open("/dev/loop-control")?;
    for _ in 0..TRIES {
        let name = format!("/dev/loop{}", sys::free_loop(control.as_fd())?);
        let device = open(&name)?;
        match sys::configure_loop(device.as_fd(), image.as_fd()) {
            Ok(()) => return Ok((device, name)),
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("others take each free one first"))
}
