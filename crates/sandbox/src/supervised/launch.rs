//! One start, from an empty directory to a running agent. Blocking.
//!
//! Invariant: as long as [`Launching`] exists, dropping it removes all that was made; only [`Launching::finish`] lets the
//! sandbox live.

use super::erase;
use super::image::Image;
use super::record::{Process, Record};
use crate::{Error, sys};
use domain::id::SandboxId;
use guest::frame;
use guest::protocol::{Commit, Failure, FailureKind, Launch, Progress};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a guest may be silent while it builds its walls. Copying a large package on a slow disk is the longest step.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the guest itself says when it fails badly; see a sandbox's directory.
const COMPLAINTS: &str = "guest.log";

/// A sandbox in the making.
pub(super) struct Launching<'a> {
    state_dir: &'a Path,
    id: &'a SandboxId,
    pub(super) record: Record,
    guest: Option<OwnedFd>,
    live: bool,
}

/// What a start has found out.
pub(super) struct Started {
    pub(super) record: Record,
    pub(super) pidfd: OwnedFd,
    pub(super) walls: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Launching<'a> {
    /// Makes the sandbox's directory.
    pub(super) fn begin(state_dir: &'a Path, id: &'a SandboxId, record: Record) -> Result<Self, Error> {
        let dir = state_dir.join(id.as_str());
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|source| Error::Io {
                what: format!("making {}", dir.display()),
                source,
            })?;
        Ok(Self {
            state_dir,
            id,
            record,
            guest: None,
            live: false,
        })
    }

    /// The sandbox's directory.
    pub(super) fn dir(&self) -> PathBuf {
        self.state_dir.join(self.id.as_str())
    }

    /// Writes the record down: before anything that it names is made, slots excepted, which name the sandbox themselves.
    pub(super) fn save(&self) -> Result<(), Error> {
        self.record.write(&self.dir())
    }

    /// Starts the guest and the agent.
    pub(super) fn run(mut self, image: &Image, launch: &Launch, clones: bool) -> Result<Started, Error> {
        let (mut channel, theirs) = UnixStream::pair().map_err(|source| io_error("a channel to the guest", source))?;
        channel
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| channel.set_write_timeout(Some(PATIENCE)))
            .map_err(|source| io_error("a channel to the guest", source))?;
        let mut child = self.spawn(image, theirs)?;
        let own = i32::try_from(child.id()).map_err(|error| io_error("the guest's number", io::Error::other(error)))?;
        if !clones {
            self.watch_over(own)?;
        }
        let result = self.shake_hands(&mut channel, launch);
        if clones {
            // The launcher's work is done once it has cloned the guest. If it failed or hangs, it goes, and a guest that it
            // had cloned and not told us of ends with the channel.
            drop(channel);
            if result.is_err() {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
        let (walls, warnings) = result?;
        let Some(pidfd) = self.guest.take() else {
            return Err(Error::Protocol("the guest never said who it is".into()));
        };
        self.live = true;
        let record = self.record.clone();
        Ok(Started {
            record,
            pidfd,
            walls,
            warnings,
        })
    }

    fn spawn(&self, image: &Image, channel: UnixStream) -> Result<std::process::Child, Error> {
        let complaints = self.dir().join(COMPLAINTS);
        let complaints = fs::File::create(&complaints).map_err(|e| io_error(&complaints.display().to_string(), e))?;
        let mut command = Command::new(image.path());
        command
            .arg0("eyot-guest")
            .env_clear()
            .stdin(OwnedFd::from(channel))
            .stdout(Stdio::null())
            .stderr(complaints);
        command.spawn().map_err(|source| {
            if source.kind() == io::ErrorKind::PermissionDenied {
                let text =
                    "the guest's program may not be executed from memory: set the sysctl vm.memfd_noexec below 2";
                return Error::Host(text.into());
            }
            io_error("starting the guest", source)
        })
    }

    /// From here on the guest is killed if the start fails.
    fn watch_over(&mut self, pid: i32) -> Result<(), Error> {
        // Our child, for which nobody has waited: the number is its.
        self.guest = Some(sys::pidfd_open(pid).map_err(|source| io_error("watching the guest", source))?);
        self.record.guest = Some(Process::of(pid)?);
        Ok(())
    }

    fn shake_hands(&mut self, channel: &mut UnixStream, launch: &Launch) -> Result<(Vec<String>, Vec<String>), Error> {
        let failed = |error: frame::Error| Error::Protocol(format!("starting a sandbox: {error}"));
        frame::write(channel, launch).map_err(failed)?;
        let mut standing = None;
        loop {
            match frame::read::<Progress>(channel).map_err(failed)? {
                Some(Progress::Cloned { pid }) if self.guest.is_none() => self.watch_over(pid)?,
                Some(Progress::Ready { walls, warnings }) => {
                    let Some(process) = &self.record.guest else {
                        return Err(Error::Protocol("the guest is ready but never said who it is".into()));
                    };
                    self.record.group.verify(process.pid, &self.record.limits)?;
                    // Whoever comes after this process can find the guest from here on, so it may outlive us.
                    self.record.write_guest(&self.dir())?;
                    frame::write(channel, &Commit {}).map_err(failed)?;
                    standing = Some((walls, warnings));
                }
                Some(Progress::Started) => {
                    return standing.ok_or_else(|| Error::Protocol("the guest started the agent unasked".into()));
                }
                Some(Progress::Failed(failure)) => return Err(failure_error(failure)),
                Some(Progress::Cloned { .. }) => return Err(Error::Protocol("the guest was cloned twice".into())),
                None => {
                    return Err(Error::Protocol(format!(
                        "the guest died while it started{}",
                        self.complaints()
                    )));
                }
            }
        }
    }

    fn complaints(&self) -> String {
        let text = fs::read_to_string(self.dir().join(COMPLAINTS)).unwrap_or_default();
        if text.trim().is_empty() {
            String::new()
        } else {
            format!(": {}", text.trim())
        }
    }
}

impl Drop for Launching<'_> {
    fn drop(&mut self) {
        if self.live {
            return;
        }
        let guest = self.guest.as_ref().map(AsFd::as_fd);
        if let Err(error) = erase::erase(self.state_dir, self.id, Some(&self.record), guest) {
            // Its directory is still there, so the next start of the server finds it.
            tracing::warn!(sandbox = %self.id, %error, "a failed start could not be cleaned up");
        }
    }
}

fn io_error(what: &str, source: io::Error) -> Error {
    Error::Io {
        what: what.to_owned(),
        source,
    }
}

fn failure_error(failure: Failure) -> Error {
    let Failure { kind, what, detail } = failure;
    match kind {
        FailureKind::Wall => Error::Wall { wall: what, detail },
        FailureKind::Artifact => Error::Artifact(format!("{what}: {detail}")),
        FailureKind::Host => Error::Host(format!("{what}: {detail}")),
    }
}
