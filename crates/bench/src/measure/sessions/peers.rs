//! What new sessions are measured on: a server that keeps sandboxes ready, one that keeps none, and the same agents as
//! plain processes.
//!
//! Invariant: an agent outside runs on the interpreter and from the files that it has inside.

use super::Start;
use crate::http::Connection;
use crate::interrupt;
use crate::request::Account;
use crate::stage::{Agent, START_POLL, Server, native_source};
use anyhow::{Context as _, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Warm sandboxes of each agent, and new sessions at once.
pub(crate) const BURST: usize = 32;

const FILL_DEADLINE: Duration = Duration::from_secs(180);
/// With nothing in the pool after this time there is no pool.
const FIRST_DEADLINE: Duration = Duration::from_secs(30);
const FILL_POLL: Duration = Duration::from_millis(20);
/// Closely enough for something that takes half a second, without taking a core from it.
const PYTHON_POLL: Duration = Duration::from_micros(500);

/// Runs an agent that binds port 8080 at the port of the environment instead; it costs nothing that can be measured.
const AT_ANOTHER_PORT: &str = r#"
import os, runpy, socket, sys
bind = socket.socket.bind
def moved(self, address):
    if isinstance(address, tuple) and address[1] == 8080:
        address = (address[0], int(os.environ["PORT"]), *address[2:])
    return bind(self, address)
socket.socket.bind = moved
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"#;

/// From where everything comes.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) eyot: &'a Path,
    pub(crate) native: &'a Path,
    pub(crate) python_agent: &'a Path,
    pub(crate) python: &'a Path,
    pub(crate) driver: &'a str,
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(super) cold: Server,
    pub(super) warm: Server,
    pub(super) native: Deployed,
    /// Or why there is none.
    pub(super) python: Result<Deployed, String>,
    /// Warm sandboxes when the pool is full, or why there are none.
    pub(super) pool: Result<usize, String>,
    /// Declared last: it goes when those who use it have ended.
    _home: TempDir,
}

/// An agent everywhere.
#[derive(Debug)]
pub(crate) struct Deployed {
    pub(super) name: &'static str,
    cold: Account,
    warm: Account,
    outside: Vec<PathBuf>,
    poll: Duration,
}

impl Peers {
    /// Starts both servers, deploys the agents and waits until the pool is full.
    pub(crate) fn set(wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("eyot-bench-").tempdir()?;
        let (source, program) = native_source(home.path(), wanted.native)?;
        let python = Python::of(wanted.python);
        let server = |name: &str, warm: usize| {
            let mut configuration = vec![
                ("EYOT__RUNTIME__SESSION__WARM__MIN", warm.to_string()),
                ("EYOT__RUNTIME__SESSION__WARM__MAX", warm.to_string()),
                ("EYOT__RUNTIME__SESSION__WARM__MEMORY", "64GiB".to_owned()),
                // Room for what is measured; how much a session asks for at first is not.
                ("EYOT__RUNTIME__SESSION__MEMORY_REQUEST", "16MiB".to_owned()),
            ];
            configuration.extend(UNLIMITED.iter().map(|name| (*name, "0".to_owned())));
            let interpreter;
            if let Ok(python) = &python {
                interpreter = format!("EYOT__INTERPRETERS__{}", python.runtime);
                configuration.push((&interpreter, python.program.display().to_string()));
                return Server::start(wanted.eyot, &home.path().join(name), wanted.driver, &configuration);
            }
            Server::start(wanted.eyot, &home.path().join(name), wanted.driver, &configuration)
        };
        let (cold, warm) = (server("cold", 0)?, server("warm", BURST)?);
        let native = Deployed {
            name: "sample agent (native)",
            cold: with(&cold.account, cold.deploy_native(&source)?),
            warm: with(&warm.account, warm.deploy_native(&source)?),
            outside: vec![program],
            poll: START_POLL,
        };
        let python = python
            .and_then(|python| python.deploy(wanted.python_agent, &cold, &warm))
            .map_err(|error| format!("{error:#}"));
        let mut peers = Self {
            cold,
            warm,
            native,
            python,
            pool: Ok(0),
            _home: home,
        };
        let full = BURST * peers.deployed().count();
        peers.pool = match peers.fill(full) {
            Ok(()) => Ok(full),
            Err(error) => {
                interrupt::check()?;
                Err(format!("{error:#}"))
            }
        };
        Ok(peers)
    }

    /// The agents that there are.
    pub(super) fn deployed(&self) -> impl Iterator<Item = &Deployed> {
        std::iter::once(&self.native).chain(self.python.as_ref().ok())
    }

    /// Ways to start that can be measured.
    pub(super) fn starts(&self) -> Vec<Start> {
        let mut all = vec![Start::Outside, Start::Running, Start::Cold];
        all.extend(self.pool.is_ok().then_some(Start::Warm));
        all
    }

    /// The server of a way to start.
    pub(super) fn server(&self, start: Start) -> &Server {
        match start {
            Start::Warm => &self.warm,
            Start::Cold | Start::Outside | Start::Running => &self.cold,
        }
    }

    /// Waits until the pool is as full as it gets.
    pub(super) fn refill(&self) -> anyhow::Result<()> {
        match self.pool {
            Ok(full) => self.fill(full),
            Err(_) => Ok(()),
        }
    }

    fn fill(&self, full: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let ready = self.warm.metric("eyot_warm_sandboxes")?.unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "few")]
            if ready >= full as f64 {
                return Ok(());
            }
            let deadline = if ready > 0.0 { FILL_DEADLINE } else { FIRST_DEADLINE };
            ensure!(
                start.elapsed() < deadline,
                "{ready} of {full} warm sandboxes are ready after {} s",
                deadline.as_secs()
            );
            interrupt::sleep(FILL_POLL)?;
        }
    }

    /// Ends everything; fails if a server did not end well or left something.
    pub(crate) fn clear(self) -> anyhow::Result<()> {
        self.cold.clear()?;
        self.warm.clear()
    }
}

impl Deployed {
    /// Whom to ask for a new session.
    pub(super) fn account(&self, start: Start) -> &Account {
        match start {
            Start::Warm => &self.warm,
            Start::Cold | Start::Outside | Start::Running => &self.cold,
        }
    }

    /// Starts it as a process and asks it once; answers it and how long that took.
    pub(super) fn start_outside(&self) -> anyhow::Result<(Agent, Duration)> {
        Agent::first_answer(&mut self.command()?, self.poll)
    }

    /// Starts it as a process and waits until it is healthy, as a warm sandbox is.
    pub(super) fn run_outside(&self) -> anyhow::Result<Agent> {
        let agent = Agent::start(&mut self.command()?, self.poll)?;
        let ping = format!("GET /ping HTTP/1.1\r\nHost: {}\r\n\r\n", agent.address);
        Connection::open(agent.address)?.exchange(ping.as_bytes())?;
        Ok(agent)
    }

    fn command(&self) -> anyhow::Result<Command> {
        let (program, arguments) = self.outside.split_first().context("there is a program")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }
}

/// A Python of this machine.
struct Python {
    program: PathBuf,
    /// As the API calls it.
    runtime: String,
}

impl Python {
    /// The interpreter itself, not the environment or the script that leads to it.
    fn of(python: &Path) -> anyhow::Result<Self> {
        let ask = "import os, sys; print(os.path.realpath(getattr(sys, '_base_executable', sys.executable))); \
                   print(f'PYTHON_{sys.version_info.major}_{sys.version_info.minor}')";
        let done = Command::new(python).args(["-c", ask]).output();
        let done = done.with_context(|| format!("{} cannot be started", python.display()))?;
        let said = String::from_utf8(done.stdout)?;
        let Some((program, runtime)) = said.trim().split_once('\n') else {
            bail!("{} does not say which Python it is", python.display());
        };
        Ok(Self {
            program: PathBuf::from(program),
            runtime: runtime.to_owned(),
        })
    }

    fn deploy(self, source: &Path, cold: &Server, warm: &Server) -> anyhow::Result<Deployed> {
        let deploy = |server: &Server| {
            let arn = server.deploy("bench_python", source, &["--runtime", &self.runtime]);
            anyhow::Ok(with(&server.account, arn?))
        };
        let accounts = (deploy(cold)?, deploy(warm)?);
        let main = main_of(&cold.data.join("packages")).context("the unpacked package is not where it is expected")?;
        let outside = [self.program, "-c".into(), AT_ANOTHER_PORT.into(), main];
        Ok(Deployed {
            name: "Python agent (bedrock-agentcore SDK)",
            cold: accounts.0,
            warm: accounts.1,
            outside: outside.into(),
            poll: PYTHON_POLL,
        })
    }
}

/// `main.py` of the package that has the SDK.
fn main_of(packages: &Path) -> Option<PathBuf> {
    let mut open = vec![packages.to_owned()];
    while let Some(dir) = open.pop() {
        let main = dir.join("main.py");
        if main.is_file() {
            return Some(main);
        }
        open.extend(
            fs::read_dir(dir)
                .ok()?
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
    }
    None
}

fn with(account: &Account, arn: String) -> Account {
    Account { arn, ..account.clone() }
}

/// Limits of rates that a measurement would run into.
const UNLIMITED: &[&str] = &[
    "EYOT__RUNTIME__QUOTAS__RATES__INVOKE_PER_SECOND",
    "EYOT__RUNTIME__QUOTAS__RATES__STOP_PER_SECOND",
    "EYOT__RUNTIME__QUOTAS__RATES__NEW_SESSIONS_PER_MINUTE",
];
