//! The messages of the two channels.
//!
//! *Start channel*: a socket pair, the guest's end as its standard input. The server sends [`Launch`]; the guest
//! answers with [`Progress`] until the server says [`Commit`]. If the channel ends before that, the guest ends and
//! takes everything with it.
//!
//! ```text
//! server                       guest
//!   Launch          ->
//!                   <-         Cloned { pid }        (container only: the process that became PID 1)
//!                   <-         Ready { walls }       everything stands and was read back; the agent waits to be executed
//!   Commit          ->                               the server has written down how to find it again
//!                   <-         Started | Failed
//! ```
//!
//! *Control socket*: a Unix socket in the sandbox's directory. Each connection carries a [`Hello`] and one [`Request`];
//! the guest answers with a [`Hello`] and one [`Reply`], a `Watch` with one for each change of state until the end.
//!
//! Compatibility: a guest outlives the server that started it, so a newer server meets older guests. Fields are only
//! added, with a default; anything else raises [`VERSION`], and a server adopts the versions that it lists.

use serde::{Deserialize, Serialize};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

/// The version of both channels.
pub const VERSION: u32 = 1;

/// The name of the control socket in a sandbox's directory.
pub const CONTROL_SOCKET: &str = "control.sock";
/// The newer part of the agent's log, as [`crate::lines`] says.
pub const LOG: &str = "agent.log";
/// The older part of the agent's log.
pub const OLD_LOG: &str = "agent.log.1";
/// How the agent's first process ended, a JSON [`Exit`], empty until then.
pub const EXIT: &str = "exit.json";
/// The mount point on which the launcher builds a container's root, in a mount namespace of its own.
pub const ROOT: &str = "root";
/// The agent's working directory in a container.
pub const TASK: &str = "/var/task";
/// The agent's home in a container.
pub const HOME: &str = "/home/agent";
/// The agent's user and group inside a container.
pub const AGENT_ID: u32 = 1000;
/// How many ids a container's user namespace has where it has a range.
pub const ID_RANGE: u32 = 65536;

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// [`VERSION`].
    pub version: u32,
    /// The sandbox's directory on the host.
    pub dir: PathBuf,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The agent's whole environment.
    pub env: Vec<(String, String)>,
    /// The port that the agent will listen on, where the guest can reach it.
    pub port: u16,
    /// Bytes of log kept.
    pub log_limit: u64,
    /// The epoch of the server that starts it; see [`Hello::epoch`].
    #[serde(default)]
    pub epoch: u64,
    /// The sandbox ends by itself, as by a stop, when no server has watched it for so long.
    #[serde(default)]
    pub orphan_after: Option<Duration>,
    /// Where the server listens inside; see [`Request::Listener`]. In a container the addresses are added to the loopback.
    #[serde(default)]
    pub listen: Vec<SocketAddrV4>,
    /// Files to write `0` into, to join the sandbox's cgroups.
    pub join: Vec<PathBuf>,
    /// The most processes and threads of the agent's user, where the user namespace counts them.
    pub max_processes: Option<u64>,
    /// The most private memory of one process (stacks included), where no cgroup limits that of all.
    pub max_data: Option<u64>,
    /// With or without walls.
    pub mode: Mode,
}

/// With or without walls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No walls: a child process.
    Process {
        /// Its working directory.
        workdir: PathBuf,
    },
    /// Behind all walls.
    Container(Container),
}

/// How to build the walls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The directory shown at [`TASK`] under a private writable layer.
    pub package: PathBuf,
    /// Directories shown read-only at the same path.
    pub read_only: Vec<PathBuf>,
    /// Bytes of the private writable layer.
    pub scratch: u64,
    /// Which ids the user namespace has.
    pub ids: Ids,
    /// A directory that outlives the sandbox; only with a range of ids.
    #[serde(default)]
    pub storage: Option<Storage>,
}

/// A directory that outlives the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// The file with its file system.
    pub image: PathBuf,
    /// Where it is shown, one level below `/mnt`.
    pub mount_path: String,
}

/// Which ids a container's user namespace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    /// A range of the host's ids that nobody else has; only root can give it.
    Range {
        /// The first id on the host.
        base: u32,
    },
    /// The server's own user, as the agent's.
    Own,
}

/// How far a start has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The supervisor is this process of the server's; the launcher ends.
    Cloned {
        /// Its id in the server's namespace.
        pid: i32,
    },
    /// The walls stand; the agent's process waits to be executed.
    Ready {
        /// Every wall that was read back, in words.
        walls: Vec<String>,
        /// What is weaker than it should be, in words.
        warnings: Vec<String>,
    },
    /// The agent's program runs.
    Started,
    /// It does not; nothing remains.
    Failed(Failure),
}

/// The server's word that the agent may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {}

/// Why a start failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose matter it is.
    pub kind: FailureKind,
    /// What was being done, or which wall.
    pub what: String,
    /// What happened.
    pub detail: String,
}

/// Whose matter a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// A wall could not be built or did not read back.
    Wall,
    /// The agent's program cannot be run.
    Artifact,
    /// The host refused something else.
    Host,
}

/// The first frame of each side of a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// The server's lease on the sandbox; of the guest's hello it is the highest that it has seen. Lower ones are fenced: a
    /// server that has been succeeded, and may not know it, can do nothing any more. Servers of before have none, 0.
    #[serde(default)]
    pub epoch: u64,
}

/// What a control connection asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The state now and every change of it.
    Watch,
    /// A connection to a port inside.
    Dial {
        /// The port.
        port: u16,
    },
    /// The end.
    Stop {
        /// Time between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// The TCP ports that something inside listens on.
    Ports,
    /// What the processes inside use.
    Usage,
    /// A copy of the listening socket at an address of [`Launch::listen`].
    Listener {
        /// The address.
        address: SocketAddrV4,
    },
    /// Lines of the server's for the log; with the hello at most 16 KiB.
    Note {
        /// The text, without the last line end.
        text: String,
    },
}

/// The guest's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `Watch`.
    State(State),
    /// To `Dial`; the connected socket comes with the bytes of this frame.
    Dialed,
    /// To `Listener`; the socket comes with the bytes of this frame.
    Listener,
    /// To `Dial`: nothing listens there. To `Listener`: the server does not.
    Refused,
    /// To `Stop`.
    Stopped(Exit),
    /// To `Ports`, in order.
    Ports(Vec<u16>),
    /// To `Usage`.
    Usage(Usage),
    /// To `Note`.
    Noted,
    /// To anything: a server of this higher epoch has taken the sandbox over.
    Fenced(u64),
    /// The request makes no sense to this guest.
    Invalid(String),
}

/// Where the agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its program runs.
    Started,
    /// Its port accepts connections.
    Listening,
    /// Its first process has ended.
    Exited(Exit),
}

/// How the agent's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, when it exited.
    pub code: Option<i32>,
    /// Signal, when it was killed.
    pub signal: Option<i32>,
    /// The guest killed it because its grace was over.
    pub forced: bool,
}

/// What the processes inside use, the guest not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time of those that live and those that have been reaped.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub memory: u64,
}
