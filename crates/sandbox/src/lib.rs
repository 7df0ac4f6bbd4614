//! Sandboxes: where an agent's process runs, behind one contract.
//!
//! A [`Driver`] starts sandboxes and finds those that an earlier server process left running; a [`Sandbox`] is one of
//! them. Every driver passes the same suite (`contract`). A sandbox outlives the server: what a restarted server does
//! not adopt, it destroys.
//!
//! Invariant: this crate knows nothing of sessions, endpoints or requests; `labels` carry what its caller must find again.

mod cgroup;
mod config;
pub mod container;
#[cfg(test)]
mod contract;
mod detect;
mod env;
pub mod managed;
pub mod package;
pub mod process;
mod supervised;
mod sys;

pub use config::Config;
pub use detect::{Wanted, detect};

use async_trait::async_trait;
use domain::id::SandboxId;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Starts, finds and destroys sandboxes.
#[async_trait]
pub trait Driver: Send + Sync + fmt::Debug {
    /// `process` or `container`.
    fn name(&self) -> &'static str;

    /// Whether this host can run the driver, proven by trying, and which walls stand.
    async fn probe(&self) -> Result<Probe, Error>;

    /// Starts a sandbox and the agent in it. Answers as soon as the agent's process has been started; whether it
    /// listens is in [`Sandbox::state`]. When the future is dropped or fails, nothing of the sandbox remains.
    async fn start(&self, spec: Spec) -> Result<Arc<dyn Sandbox>, Error>;

    /// What earlier server processes of the same state directory left, dead or alive.
    async fn list(&self) -> Result<Vec<Found>, Error>;

    /// Takes over a running sandbox of [`Driver::list`].
    async fn adopt(&self, id: &SandboxId) -> Result<Arc<dyn Sandbox>, Error>;

    /// Kills a sandbox of [`Driver::list`] and removes all of it. Idempotent.
    async fn destroy(&self, id: &SandboxId) -> Result<(), Error>;

    /// What sandboxes of this driver can do on this host beyond running.
    fn abilities(&self) -> Abilities;
}

/// What a driver can do on this host beyond running sandboxes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// [`Sandbox::pause`] works.
    pub pause: bool,
    /// [`Spec::storage`] works.
    pub storage: bool,
}

/// One running sandbox. Dropping the last handle does not end it.
#[async_trait]
pub trait Sandbox: Send + Sync + fmt::Debug {
    /// Its id.
    fn id(&self) -> &SandboxId;

    /// The labels it was started with and those that it was given by [`Sandbox::assign`].
    fn labels(&self) -> BTreeMap<String, String>;

    /// Gives it further labels, which [`Driver::list`] shows from then on, also if this process is killed the moment
    /// after the answer. Works once; a second time is [`Error::Assigned`]. Not durable over a power cut, which no
    /// sandbox survives either.
    async fn assign(&self, labels: BTreeMap<String, String>) -> Result<(), Error>;

    /// The state now and every change of it.
    fn state(&self) -> watch::Receiver<State>;

    /// Opens a connection to a port on which something inside listens.
    async fn dial(&self, port: u16) -> Result<Connection, Error>;

    /// The socket that listens at an address of [`Spec::listen`]: whoever inside connects there is accepted from it here. It
    /// listens from before the agent's start to the sandbox's end; connections that come while no server accepts wait. It
    /// accepts from inside only: with walls no other sandbox and nobody on the host's network gets there. May be asked for
    /// again. [`Error::Refused`] if the sandbox was started without it.
    async fn listener(&self, address: SocketAddrV4) -> Result<tokio::net::TcpListener, Error>;

    /// The last lines that the agent wrote, oldest first, at most `max` bytes of text; without times and streams.
    async fn log_tail(&self, max: usize) -> Result<String, Error>;

    /// The log: what is kept of it, oldest first, then, if `follow`, every line as it is written until the sandbox ends or
    /// nobody in this process holds it any more. Reading never wakes a paused sandbox. Dropping the receiver ends the
    /// reading; a slow reader holds up nobody and may miss lines, which a line of [`Stream::Eyot`] then says.
    async fn logs(&self, follow: bool) -> Result<mpsc::Receiver<LogLine>, Error>;

    /// Adds lines of ours to the log, as [`Stream::Eyot`]; cut after about 2 KiB. Those for a paused sandbox appear when it is
    /// resumed, with the time of then.
    async fn note(&self, text: &str) -> Result<(), Error>;

    /// Stops all its processes from running, without their noticing, and lets the kernel take back memory where it can.
    /// Until [`Sandbox::resume`] whatever needs its answer ([`Sandbox::dial`], [`Sandbox::ports`]) is [`Error::Host`] at once, and
    /// it does not end as an orphan. [`Error::Host`] without [`Abilities::pause`]. Idempotent.
    async fn pause(&self) -> Result<(), Error>;

    /// Lets a paused sandbox run on. Idempotent; also for one that an earlier server process paused.
    async fn resume(&self) -> Result<(), Error>;

    /// The TCP ports that something inside listens on, to say which one a lost agent chose.
    async fn ports(&self) -> Result<Vec<u16>, Error>;

    /// What it uses now.
    async fn usage(&self) -> Result<Usage, Error>;

    /// Ends it: SIGTERM to the agent, up to `grace` for it to exit, SIGKILL to all. Afterwards nothing of it remains:
    /// no process, mount, cgroup, namespace or file. Idempotent; waits for a stop that is already under way. A paused
    /// sandbox is resumed for its grace.
    async fn stop(&self, grace: Duration) -> Result<Exit, Error>;
}

/// A byte stream to a port inside a sandbox. Its far end is an ordinary socket of this host's kernel.
pub type Connection = tokio::net::TcpStream;

/// What to run and within which limits.
#[derive(Debug, Clone)]
pub struct Spec {
    /// A fresh id.
    pub id: SandboxId,
    /// Kept with the sandbox and given back by [`Driver::list`]; at most 64 entries.
    pub labels: BTreeMap<String, String>,
    /// The unpacked code, shared read-only by all sandboxes of a version; the agent's working directory shows it.
    pub package: PathBuf,
    /// Directories of the host that the command needs (an interpreter's prefix), shown read-only at the same path.
    pub read_only: Vec<PathBuf>,
    /// Program and arguments. A program with a `/` that is relative is relative to the package.
    pub command: Vec<String>,
    /// The whole environment but for what the driver must add (`HOME`, `TMPDIR`, and `PORT` for the process driver).
    pub env: Vec<(String, String)>,
    /// The port that the agent will listen on. The process driver maps it to a free one and tells the agent by `PORT`.
    pub port: u16,
    /// Where this process listens inside; at most 8.
    pub listen: Vec<Listen>,
    /// Limits.
    pub limits: Limits,
    /// A directory that survives the sandbox. [`Error::Host`] without [`Abilities::storage`].
    pub storage: Option<Storage>,
    /// How long the sandbox runs on when no server holds it; then it ends by itself, as by [`Sandbox::stop`].
    pub orphan_after: Duration,
}

/// An address inside at which this process listens; see [`Sandbox::listener`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Behind walls the sandbox has it for itself, whatever the host does with it. Without walls a free port on the host's
    /// loopback stands for it.
    pub address: SocketAddrV4,
    /// Variables that tell the agent where it really is, as `http://ADDRESS` or `http://ADDRESS:PORT`; those that
    /// [`Spec::env`] has already stay as they are.
    pub variables: Vec<String>,
}

/// A writable directory that outlives its sandbox. Two sandboxes must not have the same one at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// A directory of the host that is this storage's own; made if it is not there. What the driver keeps in it is its own
    /// matter; removing it removes the storage.
    pub dir: PathBuf,
    /// Where the agent sees it: an absolute path such as `/mnt/data`.
    pub mount_path: String,
    /// The most bytes that can be stored. Of the first use; later uses keep it.
    pub bytes: u64,
}

/// One line of a sandbox's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When the guest read it.
    pub at: jiff::Timestamp,
    /// Who wrote it.
    pub stream: Stream,
    /// Without its line end; cut where it was very long.
    pub text: String,
}

/// Who wrote a line of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The agent, to standard output.
    Stdout,
    /// The agent, to standard error.
    Stderr,
    /// The server or the guest.
    Eyot,
}

/// Limits of one sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Memory in bytes, swap included.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u32,
    /// CPU in thousandths of a core.
    pub cpu_millis: u32,
    /// Bytes of the private writable layer.
    pub scratch: u64,
    /// Bytes of log kept.
    pub log: u64,
}

/// Where a sandbox stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The agent's process has been started; its port does not accept connections yet.
    Started,
    /// The port accepts connections.
    Listening,
    /// The agent's first process has ended, and all of the sandbox with it.
    Exited(Exit),
}

/// How the agent's first process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, when it exited.
    pub code: Option<i32>,
    /// Signal, when it was killed.
    pub signal: Option<i32>,
    /// It was killed for its memory limit.
    pub out_of_memory: bool,
}

/// What a sandbox uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time so far.
    pub cpu: Duration,
    /// Bytes of memory now, 0 where the host cannot say.
    pub memory: u64,
    /// The most bytes of memory so far, 0 where the host cannot say.
    pub memory_peak: u64,
}

/// What a driver can do on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The walls that stand, in words: `user namespace`, `seccomp`, `memory limit (cgroup v1)`.
    pub walls: Vec<String>,
    /// What is weaker than it should be here, and how to mend it.
    pub warnings: Vec<String>,
}

/// A sandbox that an earlier server process left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: SandboxId,
    /// The labels it was started with and was assigned; empty if they cannot be read.
    pub labels: BTreeMap<String, String>,
    /// Whether it still runs and can be adopted.
    pub alive: bool,
}

/// Why a driver did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host cannot do this: what is missing and how to get it.
    #[error("{0}")]
    Host(String),
    /// What was to be run cannot be run: bad package, missing program, unusable interpreter. The package owner's fault.
    #[error("{0}")]
    Artifact(String),
    /// The sandbox has ended.
    #[error("the sandbox has ended")]
    Gone,
    /// It has been assigned already.
    #[error("the sandbox has been assigned already")]
    Assigned,
    /// A server with a higher epoch has taken the sandbox over; this one must not touch it any more.
    #[error("the sandbox belongs to a newer server (epoch {0})")]
    Fenced(u64),
    /// Nothing inside listens on the port.
    #[error("nothing listens on port {0}")]
    Refused(u16),
    /// A wall could not be built or did not read back as it should; the agent was not started.
    #[error("the sandbox's {wall} could not be set up: {detail}")]
    Wall {
        /// Which wall.
        wall: String,
        /// What happened.
        detail: String,
    },
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The guest inside answered something that it must not answer.
    #[error("guest protocol: {0}")]
    Protocol(String),
}
