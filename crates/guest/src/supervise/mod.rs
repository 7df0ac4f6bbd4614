//! The guest's life once the agent runs: one loop around `poll`.
//!
//! It watches for the agent's end ([`tree`] reaps and kills), for the agent's port ([`readiness`]), for output ([`logs`])
//! and for the server ([`control`]). When the agent's first process ends, all others are killed, the last output is
//! kept, the exit is written down and told to everyone who asked, and the guest ends.
//!
//! A server that restarts connects again with a higher epoch, and the guest obeys lower ones no more. One that does not
//! come back leaves an orphan, which ends by itself.
//!
//! Invariant: an idle guest that is watched sleeps without a timeout. Invariant: no descriptor here ever blocks the loop.

mod control;
mod dial;
mod logs;
mod readiness;
mod tree;

pub(crate) use logs::Log;

use crate::agent::Agent;
use crate::listening::Listening;
use control::Connection;
use guest::protocol::{Exit, Launch, Mode, Reply, Request, State};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use readiness::Readiness;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use tree::Tree;

/// Control connections at a time; more wait in the socket's backlog.
const CONNECTIONS: usize = 256;
/// Output read in one turn from one pipe, so that a flood does not starve the rest.
const OUTPUT_TURN: usize = 256 * 1024;
/// The grace when the host itself asks the guest to end (SIGTERM at its shutdown).
const HOST_GRACE: Duration = Duration::from_secs(10);
/// How long to wait for slow watchers at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// All that the guest knows of its sandbox.
pub(crate) struct Supervisor {
    tree: Tree,
    output: [Option<File>; 2],
    log: Log,
    exit_file: File,
    listener: UnixListener,
    /// For the server, whichever that is.
    listening: Listening,
    connections: Vec<Connection>,
    state: State,
    readiness: Readiness,
    kill_at: Option<Instant>,
    forced: bool,
    /// The highest epoch of a server that has spoken.
    epoch: u64,
    orphan_after: Option<Duration>,
    alone_since: Option<Instant>,
}

/// What `poll` found.
#[derive(Default)]
struct Ready {
    signals: bool,
    listener: bool,
    output: [bool; 2],
    connections: Vec<bool>,
}

impl Supervisor {
    pub(crate) fn new(
        agent: Agent,
        listener: UnixListener,
        listening: Listening,
        log: Log,
        exit_file: File,
        launch: &Launch,
    ) -> Self {
        let whole_namespace = matches!(launch.mode, Mode::Container(_));
        Self {
            tree: Tree::new(agent.pid, whole_namespace),
            output: agent.output.map(Some),
            log,
            exit_file,
            listener,
            listening,
            connections: Vec::new(),
            state: State::Started,
            readiness: Readiness::new(launch.port, Instant::now()),
            kill_at: None,
            forced: false,
            epoch: launch.epoch,
            orphan_after: launch.orphan_after,
            alone_since: None,
        }
    }

    /// Supervises until the agent's first process has ended and nothing of the sandbox runs.
    pub(crate) fn run(mut self) {
        let signals = signal_source();
        for pipe in self.output.iter().flatten() {
            // One that cannot be made non-blocking is read only when `poll` says so, as all are; nothing is lost.
            let _ = nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
        }
        loop {
            // A child may have ended before its signal was routed here, so this comes before the first wait.
            if let Some((code, signal)) = self.tree.reap() {
                let exit = Exit {
                    code,
                    signal,
                    forced: self.forced,
                };
                return self.finish(exit);
            }
            let now = Instant::now();
            self.on_time(now);
            let ready = self.wait(signals.as_ref(), now);
            if ready.signals {
                self.on_signals(signals.as_ref());
            }
            for index in 0..ready.output.len() {
                if ready.output[index] {
                    self.copy_output(index, OUTPUT_TURN);
                }
            }
            self.on_connections(&ready.connections);
            if ready.listener {
                self.accept();
            }
        }
    }

    fn wait(&self, signals: Option<&SignalFd>, now: Instant) -> Ready {
        let mut fds = Vec::with_capacity(4 + self.connections.len());
        let readable = PollFlags::POLLIN;
        let listening = self.connections.len() < CONNECTIONS;
        fds.push(PollFd::new(
            self.listener.as_fd(),
            if listening { readable } else { PollFlags::empty() },
        ));
        fds.extend(signals.map(|fd| PollFd::new(fd.as_fd(), readable)));
        fds.extend(self.output.iter().flatten().map(|fd| PollFd::new(fd.as_fd(), readable)));
        let connections = fds.len();
        fds.extend(self.connections.iter().map(Connection::interest));
        let timeout = self.next_event(now, signals.is_none());
        if poll(&mut fds, timeout).is_err() {
            // Interrupted: the next turn looks at everything again.
            return Ready {
                connections: vec![false; self.connections.len()],
                ..Ready::default()
            };
        }
        let mut hit = fds
            .iter()
            .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        let mut next = |wanted: bool| wanted && hit.next().unwrap_or(false);
        let mut ready = Ready {
            listener: next(true),
            signals: next(signals.is_some()),
            ..Ready::default()
        };
        ready.output = [next(self.output[0].is_some()), next(self.output[1].is_some())];
        ready.connections = fds[connections..]
            .iter()
            .map(|fd| fd.revents().is_some_and(|e| !e.is_empty()))
            .collect();
        ready
    }

    /// When something must be done though nothing happens; never, most of the time.
    fn next_event(&self, now: Instant, deaf: bool) -> PollTimeout {
        let mut next = [
            self.kill_at,
            self.readiness.next(),
            deaf.then(|| now + Duration::from_millis(50)),
        ]
        .into_iter()
        .flatten()
        .chain(self.connections.iter().filter_map(Connection::deadline))
        .chain(self.log.deadline())
        .chain(self.orphan_at())
        .min();
        match next.take() {
            None => PollTimeout::NONE,
            Some(at) => {
                // Rounded up to whole milliseconds, so as not to spin through the last one.
                let wait = at.saturating_duration_since(now) + Duration::from_micros(999);
                PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
            }
        }
    }

    fn on_time(&mut self, now: Instant) {
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.forced = true;
            self.tree.kill_all();
        }
        self.log.release(Some(now));
        if self.connections.iter().any(Connection::watches) {
            self.alone_since = None;
        } else {
            self.alone_since.get_or_insert(now);
        }
        if self.orphan_at().is_some_and(|at| at <= now) {
            // Once.
            self.orphan_after = None;
            self.log.note("no server has held this sandbox for too long: it ends");
            self.begin_stop(HOST_GRACE);
        }
        if self.readiness.listens(now) {
            self.change(State::Listening);
        }
        self.connections
            .retain(|connection| connection.deadline().is_none_or(|at| at > now));
    }

    fn on_signals(&mut self, signals: Option<&SignalFd>) {
        while let Some(Ok(Some(info))) = signals.map(SignalFd::read_signal) {
            if i32::try_from(info.ssi_signo) == Ok(Signal::SIGTERM as i32) {
                self.begin_stop(HOST_GRACE);
            }
        }
    }

    /// SIGTERM now, SIGKILL after `grace`; of several stops the earliest end counts.
    fn begin_stop(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        if self.kill_at.is_none() && !self.forced {
            self.tree.terminate_all();
        }
        if !self.forced {
            self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// Copies what a pipe holds, up to `most` bytes; `false` when it holds no more for now.
    fn copy_output(&mut self, index: usize, most: usize) {
        let Some(pipe) = self.output[index].as_mut() else {
            return;
        };
        let mut buffer = [0; 16 * 1024];
        let mut copied = 0;
        while copied < most {
            match pipe.read(&mut buffer) {
                Ok(0) => {
                    self.output[index] = None;
                    return;
                }
                Ok(count) => {
                    self.log.take(index, &buffer[..count]);
                    copied += count;
                }
                Err(_) => return,
            }
        }
    }

    fn accept(&mut self) {
        while self.connections.len() < CONNECTIONS {
            match self.listener.accept() {
                Ok((stream, _)) => self.connections.extend(Connection::new(stream)),
                Err(_) => return,
            }
        }
    }

    fn on_connections(&mut self, ready: &[bool]) {
        let before = self.epoch;
        // Backwards, so that one that is done can be taken out without moving those still to be looked at.
        for index in (0..self.connections.len().min(ready.len())).rev() {
            if ready[index] && !self.on_connection(index) {
                self.connections.swap_remove(index);
            }
        }
        if self.epoch > before {
            self.connections
                .retain(|connection| connection.epoch().is_none_or(|epoch| epoch >= self.epoch));
        }
    }

    /// When to end because no server has watched for so long; the time runs only then.
    fn orphan_at(&self) -> Option<Instant> {
        Some(self.alone_since? + self.orphan_after?)
    }

    /// Whether the connection stays.
    fn on_connection(&mut self, index: usize) -> bool {
        match self.connections[index].advance() {
            control::Step::Wait => true,
            control::Step::Close => false,
            control::Step::Asked(request) => {
                let epoch = self.connections[index].epoch().unwrap_or(0);
                let highest = self.epoch.max(epoch);
                self.connections[index].greet(highest);
                if epoch < highest {
                    return self.connections[index].fence(highest);
                }
                self.epoch = highest;
                let reply = match request {
                    Request::Note { text } => {
                        self.log.note(&text);
                        Reply::Noted
                    }
                    Request::Watch => Reply::State(self.state),
                    Request::Dial { port } => return self.connections[index].dial(port),
                    Request::Listener { address } => match self.listening.at(address) {
                        Some(socket) => return self.connections[index].pass(&Reply::Listener, socket),
                        None => Reply::Refused,
                    },
                    Request::Stop { grace } => {
                        self.begin_stop(grace);
                        return true;
                    }
                    Request::Ports => Reply::Ports(self.tree.ports(&self.listening)),
                    Request::Usage => Reply::Usage(self.tree.usage()),
                };
                self.connections[index].answer(&reply)
            }
        }
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.connections
            .retain_mut(|connection| !connection.watches() || connection.answer(&Reply::State(state)));
    }

    fn finish(mut self, exit: Exit) {
        self.tree.end_all();
        // All writers are dead, so this ends; bounded all the same.
        for index in 0..self.output.len() {
            self.copy_output(index, usize::MAX);
        }
        self.log.release(None);
        if let Ok(text) = serde_json::to_vec(&exit) {
            // A full disk leaves the file empty; those who watch are told below.
            let _ = self.exit_file.write_all(&text);
        }
        self.change(State::Exited(exit));
        for connection in &mut self.connections {
            if connection.stops() {
                connection.answer(&Reply::Stopped(exit));
            }
        }
        let until = Instant::now() + FAREWELL;
        self.connections.retain_mut(|connection| connection.flush_until(until));
    }
}

/// SIGCHLD and SIGTERM as a file. Without it (no descriptor left) the loop looks every 50 ms.
fn signal_source() -> Option<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.add(Signal::SIGTERM);
    for other in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        let _ = crate::sys::ignore_signal(other);
    }
    set.thread_block().ok()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok()
}
