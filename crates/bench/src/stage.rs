//! The two peers: the agent as a process, and a server with the same agent deployed into it.
//!
//! The server is used as anybody would use it: `eyot serve`, `eyot env`, `eyot deploy`, then the public API. The agent
//! in its sandbox is recognised by a variable that only this run gives it.
//!
//! Invariant: dropping a [`Stage`] ends what it started and removes its directory, in whatever state it is.

use crate::http::Connection;
use crate::request::{self, Account, JSON, Way};
use crate::{interrupt, process};
use anyhow::{Context as _, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

const START_DEADLINE: Duration = Duration::from_secs(60);
/// Longer than a server drains and its agents take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// How closely the start of a plain process is watched.
pub(crate) const START_POLL: Duration = Duration::from_micros(100);

/// Below the ports that Linux gives to connections by default.
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 32_000;

const AGENT: &str = "sample-agent";
/// What every agent is asked first.
pub(crate) const HELLO: &str = r#"{"prompt":"hello"}"#;
const MARK: &str = "EYOT_BENCH_RUN";

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) agent: Agent,
    pub(crate) server: Server,
    /// Declared last: it goes when those who use it have ended.
    home: TempDir,
}

/// The agent as a process.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// A server with the agent deployed into it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// The driver in use.
    pub(crate) driver: String,
    /// With the agent that was deployed first.
    pub(crate) account: Account,
    /// `NAME=VALUE` in the environment of its agents.
    mark: String,
    eyot: PathBuf,
    pub(crate) data: PathBuf,
}

impl Stage {
    /// Starts both and deploys the agent.
    pub(crate) fn set(eyot: &Path, agent: &Path, driver: &str) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("eyot-bench-").tempdir()?;
        let (source, program) = native_source(home.path(), agent)?;
        let agent = Agent::start(Command::new(&program).env_clear(), START_POLL)?;
        let mut server = Server::start(eyot, &home.path().join("data"), driver, &[])?;
        server.account.arn = server.deploy_native(&source)?;
        Ok(Self { agent, server, home })
    }

    /// Starts another agent as a process and asks it once; answers how long that took.
    pub(crate) fn start_direct(&self) -> anyhow::Result<Duration> {
        let program = self.home.path().join("source").join(AGENT);
        Ok(Agent::first_answer(Command::new(program).env_clear(), START_POLL)?.1)
    }

    /// Where requests of a way go.
    pub(crate) fn address(&self, way: Way) -> SocketAddr {
        match way {
            Way::Direct => self.agent.address,
            Way::Boto | Way::Declared => self.server.account.address,
        }
    }

    /// The head of a request, ready to be sent within the minutes that a signature lives.
    pub(crate) fn head(&self, way: Way, session: &str, kind: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        match way {
            Way::Direct => Ok(request::direct(self.agent.address, session, kind, body.len())),
            Way::Boto | Way::Declared => self.server.account.invocation(way, session, kind, body),
        }
    }

    /// A whole request with a JSON body.
    pub(crate) fn request(&self, way: Way, session: &str, body: &str) -> anyhow::Result<Vec<u8>> {
        let mut request = self.head(way, session, JSON, body.as_bytes())?;
        request.extend_from_slice(body.as_bytes());
        Ok(request)
    }

    /// Ends everything; fails if the server did not end well or left something.
    pub(crate) fn clear(self) -> anyhow::Result<()> {
        self.server.clear()
    }
}

impl Agent {
    /// Starts it and waits until it listens on the port that `PORT` says; `poll` is how closely that is watched.
    pub(crate) fn start(command: &mut Command, poll: Duration) -> anyhow::Result<Self> {
        let address = free_address()?;
        let child = command
            .env("PORT", address.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the agent")?;
        let mut agent = Self { child, address };
        let end = Instant::now() + START_DEADLINE;
        while std::net::TcpStream::connect(address).is_err() {
            interrupt::check()?;
            ensure!(agent.child.try_wait()?.is_none(), "the agent ended at once");
            ensure!(Instant::now() < end, "the agent does not listen");
            thread::sleep(poll);
        }
        Ok(agent)
    }

    /// Starts one and asks it once; answers it and how long that took until the answer's first byte.
    pub(crate) fn first_answer(command: &mut Command, poll: Duration) -> anyhow::Result<(Self, Duration)> {
        let start = Instant::now();
        let agent = Self::start(command, poll)?;
        let took = agent.hello()?.duration_since(start);
        Ok((agent, took))
    }

    /// Asks it once on a connection of its own; answers when the first byte of the answer was there.
    pub(crate) fn hello(&self) -> anyhow::Result<Instant> {
        let mut request = request::direct(self.address, &session(), JSON, HELLO.len());
        request.extend_from_slice(HELLO.as_bytes());
        Ok(Connection::open(self.address)?.exchange(&request)?.first_byte)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts one on a data directory of its own, with these variables of its configuration. Nothing is deployed into it.
    pub(crate) fn start(
        eyot: &Path,
        data: &Path,
        driver: &str,
        configuration: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let mut child = clean(eyot)
            // What is measured is the server, not its quotas.
            .env("EYOT__RUNTIME__QUOTAS__RATES__INVOKE_PER_SECOND", "0")
            .env("EYOT__RUNTIME__QUOTAS__RATES__STOP_PER_SECOND", "0")
            .env("EYOT__RUNTIME__QUOTAS__RATES__NEW_SESSIONS_PER_MINUTE", "0")
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--log",
                "warn",
                "--driver",
                driver,
                "--data-dir",
            ])
            .arg(data)
            .envs(configuration.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", eyot.display()))?;
        let lines = follow(child.stdout.take().context("it is piped")?);
        // From here on dropping it ends the process.
        let mut server = Self {
            child,
            driver: String::new(),
            account: Account {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                region: String::new(),
                key_id: String::new(),
                secret: String::new(),
                arn: String::new(),
            },
            mark: format!("{MARK}={}", Uuid::new_v4()),
            eyot: eyot.to_owned(),
            data: data.to_owned(),
        };
        let line = first(&lines)?;
        let read = line
            .rsplit_once(" (driver: ")
            .and_then(|(_, rest)| rest.strip_suffix(')'));
        read.with_context(|| format!("cannot read what the server says: {line}"))?
            .clone_into(&mut server.driver);

        let variables = output(clean(eyot).args(["env", "--format", "json", "--data-dir"]).arg(data))?;
        let variables: Value = serde_json::from_str(&variables).context("eyot env")?;
        let text = |name: &str| {
            let value = variables.get(name).and_then(Value::as_str);
            value
                .map(str::to_owned)
                .with_context(|| format!("eyot env does not say {name}"))
        };
        let url = text("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE")?;
        let address = url
            .strip_prefix("http://")
            .with_context(|| format!("{url} is not plain HTTP"))?;
        server.account.address = address.trim_end_matches('/').parse()?;
        server.account.region = text("AWS_REGION")?;
        server.account.key_id = text("AWS_ACCESS_KEY_ID")?;
        server.account.secret = text("AWS_SECRET_ACCESS_KEY")?;
        Ok(server)
    }

    /// Deploys the sample agent; answers its ARN.
    pub(crate) fn deploy_native(&self, source: &Path) -> anyhow::Result<String> {
        self.deploy("bench", source, &["--entry-point", &format!("./{AGENT}")])
    }

    /// Deploys a directory; answers the ARN.
    pub(crate) fn deploy(&self, name: &str, source: &Path, options: &[&str]) -> anyhow::Result<String> {
        let mut command = clean(&self.eyot);
        command.arg("deploy").arg(source);
        command.args(["--name", name, "--env", &self.mark]).args(options);
        let said = output(command.arg("--data-dir").arg(&self.data))?;
        let arn = said.lines().find(|line| line.starts_with("arn:"));
        Ok(arn
            .with_context(|| format!("eyot deploy does not say an ARN: {said}"))?
            .to_owned())
    }

    /// The value of a metric, by its name and labels as the server writes them.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<Option<f64>> {
        let address = self.account.address;
        let request = format!("GET /_eyot/metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let text = Connection::open(address)?.exchange_text(&[request.as_bytes()])?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.trim().parse().with_context(|| format!("{name} is {value}")))
            .transpose()
    }

    /// Ends it; fails if it did not end well or left something.
    pub(crate) fn clear(mut self) -> anyhow::Result<()> {
        let ended = end(&mut self.child, STOP_DEADLINE);
        ensure!(ended, "the server did not end well; its messages are above");
        let left = self.agents();
        ensure!(
            left.is_empty(),
            "the server has ended and left agents: processes {left:?}"
        );
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The agents in its sandboxes.
    pub(crate) fn agents(&self) -> Vec<u32> {
        process::with_variable(&self.mark)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child, STOP_DEADLINE);
        // Only a server that was killed, or is broken, leaves these; a guest goes with its agent.
        for pid in self.agents() {
            send(pid, Signal::SIGKILL);
        }
    }
}

/// An address that nobody listens on. Not one of the ports that the kernel gives to connections: one that is made to find
/// out whether the agent listens could get that very port, and take it from the agent.
fn free_address() -> anyhow::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let ports = FIRST_PORT..LAST_PORT;
    let start = u16::try_from(std::process::id() % u32::from(LAST_PORT - FIRST_PORT))?;
    for _ in ports.clone() {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (LAST_PORT - FIRST_PORT);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, FIRST_PORT + offset)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("none of the ports from {} to {} is free", ports.start, ports.end)
}

/// A directory with the sample agent to deploy, and the program in it.
pub(crate) fn native_source(home: &Path, agent: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let source = home.join("source");
    fs::create_dir(&source)?;
    let program = source.join(AGENT);
    fs::copy(agent, &program).with_context(|| format!("there is no agent at {}", agent.display()))?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok((source, program))
}

/// A session id of the form that SDKs make.
pub(crate) fn session() -> String {
    format!("bench-{}", Uuid::new_v4())
}

/// Asks a process to end and waits for it, or kills it; whether it ended by itself and well.
fn end(child: &mut Child, deadline: Duration) -> bool {
    let end = Instant::now() + deadline;
    let mut asked = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if !asked => {
                send(child.id(), Signal::SIGINT);
                asked = true;
            }
            Ok(None) if Instant::now() < end => thread::sleep(POLL),
            _ => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// A command that this run's environment does not steer.
fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AWS_") || text.starts_with("EYOT_") {
            command.env_remove(&name);
        }
    }
    command
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    interrupt::check()?;
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !done.status.success() {
        let words: Vec<_> = command.get_args().map(std::ffi::OsStr::to_string_lossy).collect();
        bail!(
            "eyot {} failed: {}",
            words.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// Lines of a program's output as they come. Read to the end, so that the program never writes to nobody.
fn follow(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::sync_channel(1);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Only the first is waited for.
            let _ = sender.try_send(line);
        }
    });
    lines
}

fn first(lines: &Receiver<String>) -> anyhow::Result<String> {
    let end = Instant::now() + START_DEADLINE;
    loop {
        interrupt::check()?;
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => return Ok(line),
            Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
            Err(RecvTimeoutError::Timeout) => bail!("the server is not ready after {START_DEADLINE:?}"),
            Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("the server ended before it was ready")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_does_not_end_is_killed() {
        let shell = |script: &str| {
            Command::new("sh")
                .args(["-c", script])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut obedient = shell("trap 'exit 0' INT; echo up; while :; do sleep 0.01; done");
        assert_eq!(first(&follow(obedient.stdout.take().unwrap())).unwrap(), "up");
        assert!(end(&mut obedient, Duration::from_secs(20)));
        let mut stubborn = shell("trap '' INT; echo up; while :; do sleep 0.01; done");
        assert_eq!(first(&follow(stubborn.stdout.take().unwrap())).unwrap(), "up");
        assert!(!end(&mut stubborn, Duration::from_millis(200)));
        assert!(stubborn.try_wait().unwrap().is_some());
    }

    #[test]
    fn a_program_that_ends_before_it_is_ready_is_an_error() {
        let mut silent = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
        let error = first(&follow(silent.stdout.take().unwrap())).unwrap_err();
        assert!(error.to_string().contains("ended before"), "{error}");
        silent.wait().unwrap();
    }
}
