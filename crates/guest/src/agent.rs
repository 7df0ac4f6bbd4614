//! The agent's process, from the fork to the exec of its program.
//!
//! The child sheds every privilege, reads back that it has none, and waits; the parent lets it go on when the server has
//! agreed. Parent and child talk over a socket pair that closes itself on exec, which is how the parent knows.
//!
//! Invariant: between the last read-back and the exec nothing happens that could lower a wall.

use crate::failure::{self, Context};
use crate::{seccomp, sys, walls};
use guest::frame;
use guest::protocol::{AGENT_ID, Failure, Launch};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{
    Gid, Pid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, execve, pipe2, setgroups, setresgid, setresuid,
};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Open files that an agent may have; a host with a lower hard limit gives what it has.
const OPEN_FILES: u64 = 65536;
/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How to start the agent.
pub(crate) struct Plan<'a> {
    pub(crate) launch: &'a Launch,
    pub(crate) workdir: &'a Path,
    pub(crate) privileges: Privileges<'a>,
}

/// What becomes of the privileges that the guest has.
pub(crate) enum Privileges<'a> {
    /// The agent runs as the server's user, behind no wall.
    Keep,
    /// All are shed, and every wall is read back against what the host had.
    Shed {
        host: &'a walls::Host,
        /// Whether the user namespace has a range of ids, so that the agent gets one of its own.
        own_ids: bool,
        /// Where a directory that outlives the sandbox must be.
        storage: Option<&'a str>,
    },
}

/// A process that waits to become the agent.
pub(crate) struct Waiting {
    pid: Pid,
    channel: UnixStream,
    output: [File; 2],
}

/// The running agent.
pub(crate) struct Agent {
    pub(crate) pid: Pid,
    /// The reading ends of its standard output and standard error.
    pub(crate) output: [File; 2],
}

/// What the child says before its program runs.
#[derive(Serialize, Deserialize)]
enum Word {
    Ready { walls: Vec<String>, warnings: Vec<String> },
    Failed(Failure),
}

/// Forks the process that will become the agent.
pub(crate) fn fork(plan: &Plan<'_>) -> Result<Waiting, Failure> {
    let (ours, theirs) = UnixStream::pair().on_host("a channel to the agent's process")?;
    let (out, out_writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).on_host("a pipe for the agent's output")?;
    let (err, err_writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).on_host("a pipe for the agent's errors")?;
    let pid = sys::fork_into(0, false).on_host("forking the agent's process")?;
    if pid == 0 {
        drop(ours);
        let mut channel = theirs;
        let failure = match become_agent(plan, &mut channel, &out_writer, &err_writer) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        let _ = frame::write(&mut channel, &Word::Failed(failure));
        sys::exit_now(127);
    }
    Ok(Waiting {
        pid: Pid::from_raw(pid),
        channel: ours,
        output: [File::from(out), File::from(err)],
    })
}

impl Waiting {
    /// Waits until the child has shed its privileges; what it read back.
    pub(crate) fn ready(&mut self) -> Result<(Vec<String>, Vec<String>), Failure> {
        match frame::read(&mut self.channel).on_host("hearing from the agent's process")? {
            Some(Word::Ready { walls, warnings }) => Ok((walls, warnings)),
            Some(Word::Failed(failure)) => Err(failure),
            None => Err(failure::host("preparing the agent's process", "it died")),
        }
    }

    /// Lets it execute its program.
    pub(crate) fn execute(mut self) -> Result<Agent, Failure> {
        self.channel.write_all(b"!").on_host("telling the agent's process")?;
        match frame::read(&mut self.channel).on_host("hearing from the agent's process")? {
            // The channel closed itself: the program runs.
            None => Ok(Agent {
                pid: self.pid,
                output: self.output,
            }),
            Some(Word::Failed(failure)) => Err(failure),
            Some(Word::Ready { .. }) => Err(failure::host("executing the agent", "it spoke out of turn")),
        }
    }
}

/// A type without values: becoming the agent does not return.
enum Never {}

fn become_agent(plan: &Plan<'_>, channel: &mut UnixStream, out: &OwnedFd, err: &OwnedFd) -> Result<Never, Failure> {
    nix::unistd::setsid().on_host("a session of its own for the agent")?;
    if matches!(plan.privileges, Privileges::Keep) {
        // Behind walls the guest is PID 1 and its end is everyone's; without them this comes closest.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).on_host("binding the agent to the guest")?;
    }
    connect_standard_files(channel, out, err).on_host("the agent's standard files")?;
    let program = Program::of(plan.launch)?;
    std::env::set_current_dir(plan.workdir)
        .map_err(|error| failure::artifact(format!("entering {}", plan.workdir.display()), error))?;
    limits(plan.launch).on_host("the agent's resource limits")?;
    sys::default_signals().on_host("the agent's signals")?;
    let (walls, warnings) = match plan.privileges {
        Privileges::Keep => (Vec::new(), Vec::new()),
        Privileges::Shed { host, own_ids, storage } => {
            shed(own_ids)?;
            walls::read_back(host, own_ids, storage)?
        }
    };
    frame::write(channel, &Word::Ready { walls, warnings }).on_host("answering the guest")?;
    let mut go = [0];
    if channel.read(&mut go).on_host("waiting for the guest's word")? == 0 {
        sys::exit_now(0);
    }
    Err(program.execute())
}

/// Nothing to read, the pipes to write, the channel as descriptor 3, and no other file.
fn connect_standard_files(channel: &mut UnixStream, out: &OwnedFd, err: &OwnedFd) -> std::io::Result<()> {
    // Moved up first, so that nothing is overwritten whatever numbers the others have.
    let up = |fd: &dyn AsFd| nix::fcntl::fcntl(fd.as_fd(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(10));
    let null = File::open("/dev/null")?;
    let raised = [up(&null)?, up(out)?, up(err)?, up(channel)?].map(sys::own);
    dup2_stdin(&raised[0])?;
    dup2_stdout(&raised[1])?;
    dup2_stderr(&raised[2])?;
    let mut third = sys::own(3);
    nix::unistd::dup3(&raised[3], &mut third, nix::fcntl::OFlag::O_CLOEXEC)?;
    let old = std::mem::replace(channel, UnixStream::from(third));
    // Every descriptor from 4 on goes in one call; their owners here must not close them a second time.
    for owner in raised {
        let _ = owner.into_raw_fd();
    }
    let _ = null.into_raw_fd();
    let _ = old.into_raw_fd();
    sys::close_from(4)
}

fn limits(launch: &Launch) -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = OPEN_FILES.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    for (resource, limit) in [
        (Resource::RLIMIT_NPROC, launch.max_processes),
        (Resource::RLIMIT_DATA, launch.max_data),
    ] {
        if let Some(limit) = limit {
            let (_, hard) = getrlimit(resource)?;
            setrlimit(resource, limit.min(hard), limit.min(hard))?;
        }
    }
    Ok(())
}

/// Gives up everything that the agent must not have, in the only order that works: each step needs what a later one takes.
fn shed(own_ids: bool) -> Result<(), Failure> {
    sys::lock_securebits().on_wall("securebits")?;
    sys::drop_bounding_set().on_wall("capability bounding set")?;
    if own_ids {
        let (uid, gid) = (Uid::from_raw(AGENT_ID), Gid::from_raw(AGENT_ID));
        setgroups(&[]).on_wall("supplementary groups")?;
        setresgid(gid, gid, gid).on_wall("unprivileged group")?;
        setresuid(uid, uid, uid).on_wall("unprivileged user")?;
    }
    sys::keep_capabilities(&[]).on_wall("capabilities")?;
    nix::sys::prctl::set_no_new_privs().on_wall("no new privileges")?;
    seccomp::apply().on_wall("seccomp")
}

/// What to execute, in the system's form.
struct Program {
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    fn of(launch: &Launch) -> Result<Self, Failure> {
        let text = |value: String| {
            CString::new(value)
                .map_err(|_| failure::artifact("the agent's command or environment", "it contains a zero byte"))
        };
        let Some(name) = launch.command.first() else {
            return Err(failure::artifact("the agent's command", "it is empty"));
        };
        let candidates = if name.contains('/') {
            vec![name.clone()]
        } else {
            let path = launch.env.iter().rev().find(|(key, _)| key == "PATH");
            let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
            path.split(':')
                .map(|dir| format!("{}/{name}", if dir.is_empty() { "." } else { dir }))
                .collect()
        };
        Ok(Self {
            candidates: candidates.into_iter().map(text).collect::<Result<_, _>>()?,
            arguments: launch.command.iter().cloned().map(text).collect::<Result<_, _>>()?,
            environment: launch
                .env
                .iter()
                .map(|(key, value)| text(format!("{key}={value}")))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Returns only if no candidate could be executed, with the reason that says most.
    fn execute(&self) -> Failure {
        let mut reason = Errno::ENOENT;
        for candidate in &self.candidates {
            let Err(error) = execve(candidate, &self.arguments, &self.environment);
            match error {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => reason = error,
                _ => {
                    reason = error;
                    break;
                }
            }
        }
        let name = self
            .arguments
            .first()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let detail = match reason {
            Errno::ENOENT => {
                "there is no such program, or the interpreter that its first line names does not exist".to_owned()
            }
            Errno::EACCES => "it is not executable for the agent's user".to_owned(),
            Errno::ENOEXEC => "it is neither a program for this machine nor a script with a '#!' line".to_owned(),
            other => other.desc().to_owned(),
        };
        failure::artifact(format!("running '{name}'"), detail)
    }
}
