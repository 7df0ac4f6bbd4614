//! Removing all of a sandbox, whatever state it is in: its processes, its control groups, its slots, its directory.
//!
//! Blocking, and idempotent: a step that finds nothing to do has been done before.

use super::record::{Kind, Record};
use super::slots::Slots;
use crate::{Error, sys};
use domain::id::SandboxId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a killed process may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Erases a sandbox. `pidfd` is the guest's, when the caller has one.
pub(super) fn erase(
    state_dir: &Path,
    id: &SandboxId,
    record: Option<&Record>,
    pidfd: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let dir = state_dir.join(id.as_str());
    if let Some(record) = record {
        // Killed before it is thawed, so that nothing in it runs on for a moment.
        let guest = record.guest.as_ref().and_then(super::record::Process::open);
        for guest in guest.iter().map(AsFd::as_fd).chain(pidfd) {
            let _ = sys::pidfd_kill(guest);
        }
        record.group.thaw()?;
    }
    if let Some(pidfd) = pidfd {
        end(pidfd)?;
    }
    match record {
        Some(record) => {
            if let Some(guest) = record.guest.as_ref().and_then(super::record::Process::open) {
                end(guest.as_fd())?;
            }
            record.group.kill();
            if record.kind == Kind::Process {
                end_strays(&dir)?;
            }
            record.group.remove()?;
            for slot in &record.slots {
                Slots::release(state_dir, slot, id);
            }
        }
        None => Slots::release_all(state_dir, id),
    }
    remove_tree(&dir).map_err(|source| Error::Io {
        what: format!("removing {}", dir.display()),
        source,
    })
}

/// Kills a process and waits until it has ended; takes its exit status if it is this process's child.
fn end(pidfd: BorrowedFd<'_>) -> Result<(), Error> {
    // ESRCH: it has ended.
    let _ = sys::pidfd_kill(pidfd);
    if wait_for_end(pidfd, PATIENCE) {
        reap(pidfd);
        return Ok(());
    }
    Err(Error::Host(
        "a guest does not end though it was killed; the kernel holds it, see `dmesg`".into(),
    ))
}

/// Waits until a process has ended; whether it has.
pub(super) fn wait_for_end(pidfd: BorrowedFd<'_>, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// Takes the exit status of a process that has ended, if it is a child of this one.
pub(super) fn reap(pidfd: BorrowedFd<'_>) {
    let _ = waitid(Id::PIDFd(pidfd), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
}

/// Ends processes of a sandbox without walls whose guest was killed before it could: whoever has the sandbox's own home
/// or temporary directory in its environment, or works in its directory.
fn end_strays(dir: &Path) -> Result<(), Error> {
    let Some(place) = dir.to_str() else { return Ok(()) };
    let marks = ["HOME", "TMPDIR"].map(|name| format!("{name}={place}/"));
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let mut found: Vec<OwnedFd> = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Ok(pidfd) = sys::pidfd_open(pid) else { continue };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let marked = environment
                .split(|byte| *byte == 0)
                .any(|v| marks.iter().any(|m| v.starts_with(m.as_bytes())));
            let inside = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
            if marked || inside {
                found.push(pidfd);
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        for pidfd in &found {
            end(pidfd.as_fd())?;
        }
    }
    Err(Error::Host(format!(
        "processes that belong to {place} start faster than they can be ended"
    )))
}

/// Removes a directory, also where the agent has taken the permissions to do so away.
fn remove_tree(dir: &Path) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut opened = false;
    loop {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !opened => {
                open_up(dir)?;
                opened = true;
            }
            // A guest whose server died before it could write down who it is still fills the directory. It ends by
            // itself as soon as it looks at the channel.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn open_up(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_permissions_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("box/a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(dir.path().join("box/a"), fs::Permissions::from_mode(0o100)).unwrap();
        remove_tree(&dir.path().join("box")).unwrap();
        remove_tree(&dir.path().join("box")).unwrap();
        assert!(!dir.path().join("box").exists());
    }
}
