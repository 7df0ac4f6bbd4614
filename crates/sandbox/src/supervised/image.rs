//! The guest's program, ready to be executed.
//!
//! It is kept in a sealed anonymous file: nobody can change it, and what runs in a sandbox as PID 1 is no file of the
//! host that a sandbox could write through `/proc/<pid>/exe` (the class of CVE-2019-5736).

use crate::Error;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/eyot-guest"));

/// The program as a file that can be executed.
#[derive(Debug)]
pub(crate) struct Image(OwnedFd);

impl Image {
    /// Writes the program once; it is shared by all sandboxes of this server.
    pub(crate) fn new() -> Result<Self, Error> {
        let failed = |source: std::io::Error| Error::Io {
            what: "keeping the guest's program in memory".into(),
            source,
        };
        let fd = anonymous_file().map_err(|error| failed(error.into()))?;
        let mut file = File::from(fd);
        file.write_all(PROGRAM).map_err(failed)?;
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(|error| failed(error.into()))?;
        // A file that is open for writing anywhere is not executed.
        let readable = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(failed)?;
        Ok(Self(readable.into()))
    }

    /// Where to execute it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn anonymous_file() -> nix::Result<OwnedFd> {
    // MFD_EXEC, which hosts that refuse to execute anonymous files by default want to see, and older kernels do not know.
    const MFD_EXEC: libc::c_uint = 0x10;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(c"eyot-guest", flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create(c"eyot-guest", flags),
        other => other,
    }
}
