//! From a launch to a running agent.
//!
//! [`process`] and [`container`] differ in what they build around the agent; from [`run_agent`] on they are the same:
//! fork the agent, let it shed its privileges and read its walls back, tell the server, wait for its word, execute,
//! supervise.

pub(crate) mod container;
mod mounts;
pub(crate) mod process;
mod rootfs;
mod storage;

use crate::agent::{self, Agent};
use crate::failure::{self, Context};
use crate::listening::Listening;
use crate::supervise::{Log, Supervisor};
use crate::{sys, walls};
use guest::frame;
use guest::protocol::{self, Commit, Failure, Launch, Progress};
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::Mode;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// What of the sandbox's directory the guest keeps open; it can reach nothing else of it once the walls stand.
pub(crate) struct Files {
    listener: UnixListener,
    log: Log,
    exit: File,
}

impl Files {
    /// Opens them and listens on the control socket.
    pub(crate) fn open(launch: &Launch) -> Result<Self, Failure> {
        let what = || format!("opening the files of {}", launch.dir.display());
        let file = |name: &str| {
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(0o600)
                .open(launch.dir.join(name))
        };
        let log = file(protocol::LOG).on_host(what())?;
        let old = file(protocol::OLD_LOG).on_host(what())?;
        let exit = file(protocol::EXIT).on_host(what())?;
        let listener = control_socket(&launch.dir).on_host("listening on the control socket")?;
        Ok(Self {
            listener,
            log: Log::new(log, old, launch.log_limit),
            exit,
        })
    }
}

/// Joins the sandbox's cgroups, so that everything from here on is counted and can be killed with them.
pub(crate) fn join_cgroups(launch: &Launch) -> Result<(), Failure> {
    for path in &launch.join {
        // "0" is the writer itself; no id can be mistaken.
        std::fs::write(path, "0").on_wall(format!("cgroup ({})", path.display()))?;
    }
    Ok(())
}

/// Runs the agent to its end. `shed` takes from the guest what it does not need any more, once the agent's process
/// exists. Returns whether the agent was started.
pub(crate) fn run_agent(
    launch: &Launch,
    mut channel: UnixStream,
    files: Files,
    listening: Listening,
    plan: &agent::Plan<'_>,
    shed: impl FnOnce() -> Result<(), Failure>,
) -> bool {
    let agent = match start_agent(&mut channel, plan, shed) {
        Ok(Some(agent)) => agent,
        Ok(None) => return false,
        Err(failure) => {
            // If nobody listens there is nobody to tell.
            let _ = frame::write(&mut channel, &Progress::Failed(failure));
            return false;
        }
    };
    if frame::write(&mut channel, &Progress::Started).is_err() {
        // The server went away between its word and now; the sandbox is written down, so its successor will find it.
    }
    drop(channel);
    let Files { listener, log, exit } = files;
    Supervisor::new(agent, listener, listening, log, exit, launch).run();
    true
}

/// `None` when the server ended the start.
fn start_agent(
    channel: &mut UnixStream,
    plan: &agent::Plan<'_>,
    shed: impl FnOnce() -> Result<(), Failure>,
) -> Result<Option<Agent>, Failure> {
    let mut waiting = agent::fork(plan)?;
    shed()?;
    let (walls, warnings) = waiting.ready()?;
    frame::write(channel, &Progress::Ready { walls, warnings }).on_host("answering the server")?;
    match frame::read::<Commit>(channel) {
        Ok(Some(Commit {})) => waiting.execute().map(Some),
        // The server has died or thought better of it.
        Ok(None) => Ok(None),
        Err(error) => Err(failure::host("waiting for the server's word", error)),
    }
}

/// Binds through the directory's descriptor, because a socket's path has no more than 108 bytes.
fn control_socket(dir: &Path) -> nix::Result<UnixListener> {
    let dir = open(
        dir,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let path = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), protocol::CONTROL_SOCKET);
    let socket: OwnedFd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
    listen(&socket, Backlog::new(128)?)?;
    Ok(UnixListener::from(socket))
}

/// What both launchers do first: leave the server's terminal and process group, and mark what is read back later.
pub(crate) fn detach() -> Result<walls::Host, Failure> {
    let _ = nix::sys::prctl::set_name(c"eyot-guest");
    nix::unistd::setsid().on_host("leaving the server's terminal")?;
    std::env::set_current_dir("/").on_host("leaving the server's directory")?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    sys::ignore_signal(nix::sys::signal::Signal::SIGPIPE).on_host("ignoring SIGPIPE")?;
    walls::Host::read().on_host("reading the namespaces of this process")
}
