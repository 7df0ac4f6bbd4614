//! The few system calls that the standard library and `nix` do not wrap.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor for a process: its number cannot be taken by another one.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: integer arguments only.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor; it closes itself on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// SIGKILL to the process of a descriptor.
pub(crate) fn pidfd_kill(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null pointer asks for the signal information of an ordinary `kill`.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            no_info,
            0,
        )
    })?;
    Ok(())
}

/// Waits until the process of a descriptor has ended.
pub(crate) async fn ended(pidfd: &OwnedFd) {
    let watched = pidfd.try_clone().and_then(|own| {
        // SAFETY: the descriptor is owned by the registration and closed with it, never before.
        unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }.map_err(|error| error.into_parts().1)
    });
    match watched {
        // An error means that the runtime is going away, and with it whoever waits.
        Ok(process) => drop(process.readable().await),
        Err(error) => tracing::error!(%error, "a guest's end cannot be watched"),
    }
}

/// Tells when a file has been written to.
#[derive(Debug)]
pub(crate) struct Changes(AsyncFd<Watch>);

#[derive(Debug)]
struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Changes {
    /// Watches a file, from now on.
    pub(crate) fn of(path: &std::path::Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(path, AddWatchFlags::IN_MODIFY)?;
        // SAFETY: the descriptor is owned by the registration and closed with it, never before.
        let watched = unsafe { AsyncFd::register_with_interest(Watch(inotify), Interest::READABLE) };
        watched.map(Self).map_err(|error| error.into_parts().1)
    }

    /// Waits until it has been written to since the last time.
    pub(crate) async fn next(&self) {
        // An error means that the runtime is going away, and with it whoever waits.
        let Ok(mut ready) = self.0.readable().await else { return };
        // What has changed is all one; equal events are one in the queue, so this ends soon.
        while ready.get_inner().0.read_events().is_ok() {}
        ready.clear_ready();
    }
}

/// Reads bytes from a Unix socket, and the descriptor that came with them.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut received = None;
    for control in message.cmsgs().map_err(io::Error::from)? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just installed this descriptor for us, and nobody else knows of it.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok((message.bytes, received))
}

/// The user that this process acts as.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether systemd has marked a control group as one that it leaves to whoever runs in it. Only root sees the older mark.
pub(crate) fn is_delegated(group: &Path) -> bool {
    let Ok(path) = CString::new(group.as_os_str().as_bytes()) else {
        return false;
    };
    [c"user.delegate", c"trusted.delegate"].into_iter().any(|mark| {
        let mut value = [0u8; 8];
        // SAFETY: both names end with a zero, and the kernel writes no more than the buffer's length.
        let size = unsafe { libc::getxattr(path.as_ptr(), mark.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        size == 1 && value[0] == b'1'
    })
}
