//! A running sandbox as its callers see it.

use super::control::{Dir, PATIENCE};
use super::erase;
use super::fence;
use super::follow;
use super::host::{self, Host};
use super::logs;
use super::record::Record;
use super::rest::Rest;
use crate::{Connection, Error, Exit, LogLine, Sandbox, State, Usage, sys};
use async_trait::async_trait;
use domain::id::SandboxId;
use guest::protocol::{self, Reply, Request};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::JoinHandle;

/// Beyond the grace, how long a stop may take before the guest itself is killed.
const MARGIN: Duration = Duration::from_secs(5);
/// The longest note. In JSON it may be six times as long, and must fit into one request.
const NOTE: usize = 2048;

/// A sandbox of this server. Dropping it does not end the sandbox.
#[derive(Debug)]
pub(crate) struct Handle {
    inner: Arc<Inner>,
    watcher: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    id: SandboxId,
    record: Record,
    path: PathBuf,
    dir: Dir,
    pidfd: OwnedFd,
    state: watch::Sender<State>,
    stopped: OnceCell<Exit>,
    /// What it was given by [`Sandbox::assign`].
    assigned: OnceLock<BTreeMap<String, String>>,
    rest: Rest,
    /// What was seen last, for when nobody can say.
    seen: Mutex<Usage>,
    host: Arc<Host>,
}

impl Handle {
    /// A handle for a guest that runs. `known` is what has been seen of it.
    pub(super) fn new(host: Arc<Host>, id: SandboxId, record: Record, pidfd: OwnedFd) -> Result<Self, Error> {
        let path = host.dir(&id);
        let dir = Dir::open(&path, host.epoch())?;
        let assigned = Record::read_assigned(&path)?.map_or_else(OnceLock::new, OnceLock::from);
        let rest = Rest::of(&record.group);
        // A paused guest cannot say how far the agent was.
        let listens = rest.is_paused() && Record::read_listened(&path);
        let (state, _) = watch::channel(if listens { State::Listening } else { State::Started });
        let inner = Arc::new(Inner {
            id,
            record,
            path,
            dir,
            pidfd,
            state,
            stopped: OnceCell::new(),
            assigned,
            rest,
            seen: Mutex::default(),
            host,
        });
        let watcher = tokio::spawn(Arc::clone(&inner).watch());
        // A guest is a child of the server that started it, also when nobody holds it any more. This ends with the guest.
        let child = inner.pidfd.try_clone().map_err(|source| Error::Io {
            what: "watching a guest".into(),
            source,
        })?;
        tokio::spawn(async move {
            sys::ended(&child).await;
            erase::reap(child.as_fd());
        });
        Ok(Self { inner, watcher })
    }

    /// Whether the guest answers, unless it is paused.
    pub(super) async fn check(&self) -> Result<(), Error> {
        if self.inner.rest.is_paused() {
            return Ok(());
        }
        self.inner.dir.ask(&Request::Usage, PATIENCE).await.map(|_| ())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.watcher.abort();
        self.inner.host.forget(&self.inner.id);
    }
}

#[async_trait]
impl Sandbox for Handle {
    fn id(&self) -> &SandboxId {
        &self.inner.id
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let assigned = self.inner.assigned.get().cloned().unwrap_or_default();
        let mut labels = self.inner.record.labels.clone();
        labels.extend(assigned);
        labels
    }

    async fn assign(&self, labels: BTreeMap<String, String>) -> Result<(), Error> {
        host::check_labels(&labels)?;
        if self.inner.stopped.initialized() {
            return Err(Error::Gone);
        }
        // In the background, so that it is done whole also if the caller goes away.
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _held = inner.hold()?;
            Record::assign(&inner.path, &labels)?;
            // Not set before: the file can be written once only.
            let _ = inner.assigned.set(labels);
            Ok(())
        })
        .await
    }

    fn state(&self) -> watch::Receiver<State> {
        self.inner.state.subscribe()
    }

    async fn dial(&self, port: u16) -> Result<Connection, Error> {
        let record = &self.inner.record;
        let real = if port == record.port { record.real_port } else { port };
        match self.inner.ask(&Request::Dial { port: real }).await? {
            (Reply::Dialed, Some(socket)) => {
                let stream = TcpStream::from(socket);
                // It comes non-blocking from the guest, but what the guest says is not taken on trust.
                stream
                    .set_nonblocking(true)
                    .and_then(|()| Connection::from_std(stream))
                    .map_err(|source| Error::Io {
                        what: format!("taking over the connection to port {port}"),
                        source,
                    })
            }
            (Reply::Refused, None) => Err(Error::Refused(port)),
            (reply, _) => Err(unexpected(&reply)),
        }
    }

    async fn listener(&self, address: SocketAddrV4) -> Result<tokio::net::TcpListener, Error> {
        // One of before has none, and its guest would not understand the question.
        let Some(real) = self.inner.record.listens_at(address) else {
            return Err(Error::Refused(address.port()));
        };
        match self.inner.ask(&Request::Listener { address: real }).await? {
            (Reply::Listener, Some(socket)) => {
                let listener = TcpListener::from(socket);
                listener
                    .set_nonblocking(true)
                    .and_then(|()| tokio::net::TcpListener::from_std(listener))
                    .map_err(|source| Error::Io {
                        what: format!("taking over the listening socket at {address}"),
                        source,
                    })
            }
            (Reply::Refused, None) => Err(Error::Refused(address.port())),
            (reply, _) => Err(unexpected(&reply)),
        }
    }

    async fn log_tail(&self, max: usize) -> Result<String, Error> {
        if self.inner.stopped.initialized() {
            return Err(Error::Gone);
        }
        let path = self.inner.path.clone();
        let format = self.inner.record.log_format;
        blocking(move || logs::tail(&path, format, max)).await
    }

    async fn logs(&self, follow: bool) -> Result<mpsc::Receiver<LogLine>, Error> {
        if self.inner.stopped.initialized() {
            return Err(Error::Gone);
        }
        let follow = follow.then(|| self.state());
        follow::logs(self.inner.path.clone(), self.inner.record.log_format, follow).await
    }

    async fn note(&self, text: &str) -> Result<(), Error> {
        let text = text[..text.floor_char_boundary(NOTE)].to_owned();
        if self.inner.rest.is_paused() && !self.inner.has_ended() {
            // It lies in the socket until the guest runs on.
            return self.inner.dir.request(&Request::Note { text }).await.map(drop);
        }
        match self.inner.ask(&Request::Note { text }).await? {
            (Reply::Noted, _) => Ok(()),
            (reply, _) => Err(unexpected(&reply)),
        }
    }

    async fn pause(&self) -> Result<(), Error> {
        if self.inner.has_ended() {
            return Err(Error::Gone);
        }
        // While it can still be asked.
        if !self.inner.rest.is_paused() {
            self.usage().await?;
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _held = inner.hold()?;
            let listened = *inner.state.borrow() == State::Listening;
            inner.rest.pause(&inner.record.group, &inner.path, listened)
        })
        .await
    }

    async fn resume(&self) -> Result<(), Error> {
        if self.inner.has_ended() {
            return Err(Error::Gone);
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let _held = inner.hold()?;
            inner.rest.resume(&inner.record.group, &inner.path)
        })
        .await
    }

    async fn ports(&self) -> Result<Vec<u16>, Error> {
        match self.inner.ask(&Request::Ports).await? {
            (Reply::Ports(mut ports), _) => {
                let record = &self.inner.record;
                for port in &mut ports {
                    if *port == record.real_port {
                        *port = record.port;
                    }
                }
                ports.sort_unstable();
                Ok(ports)
            }
            (reply, _) => Err(unexpected(&reply)),
        }
    }

    async fn usage(&self) -> Result<Usage, Error> {
        let group = self.inner.record.group.clone();
        let ((cpu, memory), peak) = blocking(move || Ok((group.usage(), group.memory_peak()))).await?;
        let (cpu, memory) = match (cpu, memory) {
            (Some(cpu), Some(memory)) => (cpu, memory),
            // It has not changed since.
            _ if self.inner.rest.is_paused() => return Ok(*self.inner.seen()),
            _ => match self.inner.ask(&Request::Usage).await? {
                (Reply::Usage(summed), _) => (cpu.unwrap_or(summed.cpu), memory.unwrap_or(summed.memory)),
                (reply, _) => return Err(unexpected(&reply)),
            },
        };
        let mut seen = self.inner.seen();
        *seen = Usage {
            cpu,
            memory,
            memory_peak: peak.unwrap_or(seen.memory_peak).max(memory),
        };
        Ok(*seen)
    }

    async fn stop(&self, grace: Duration) -> Result<Exit, Error> {
        let inner = &self.inner;
        // The first caller's grace counts; the others wait for its end. The work goes on if its caller goes away.
        let stop = || async {
            let task = tokio::spawn(Arc::clone(inner).stop(grace));
            task.await.map_err(|error| Error::Io {
                what: "stopping a sandbox".into(),
                source: io::Error::other(error),
            })?
        };
        inner.stopped.get_or_try_init(stop).await.cloned()
    }
}

impl Inner {
    async fn ask(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), Error> {
        if self.has_ended() {
            return Err(Error::Gone);
        }
        tokio::select! {
            biased;
            () = self.rest.paused() => Err(Error::Host("the sandbox is paused; it answers nothing until it is resumed".into())),
            answer = self.dir.ask(request, PATIENCE) => answer,
        }
    }

    /// Keeps it this server's while something is done without the guest.
    fn hold(&self) -> Result<Option<fence::Held>, Error> {
        fence::hold(&self.path, &self.record, self.host.epoch())
    }

    fn has_ended(&self) -> bool {
        matches!(*self.state.borrow(), State::Exited(_))
    }

    fn seen(&self) -> MutexGuard<'_, Usage> {
        // Numbers have no half-done state that a panic could leave.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the guest's word until the end.
    async fn watch(self: Arc<Self>) {
        let told = match self.dir.request(&Request::Watch).await {
            Ok(mut exchange) => loop {
                match exchange.next().await {
                    Ok(Reply::State(protocol::State::Exited(exit))) => break Some(exit),
                    Ok(Reply::State(protocol::State::Started)) => {}
                    Ok(Reply::State(protocol::State::Listening)) => self.advance(State::Listening),
                    Ok(_) | Err(_) => break None,
                }
            },
            Err(_) => None,
        };
        // Whether it said goodbye or was killed, it has ended or is about to.
        sys::ended(&self.pidfd).await;
        let inner = Arc::clone(&self);
        let told_all = blocking(move || {
            inner.advance(State::Exited(inner.exit(told)));
            Ok(())
        });
        if let Err(error) = told_all.await {
            tracing::error!(sandbox = %self.id, %error, "the end of a sandbox could not be told");
        }
    }

    /// Tells a change, never back from an end.
    fn advance(&self, state: State) {
        self.state.send_if_modified(|now| {
            let change = !matches!(now, State::Exited(_)) && *now != state;
            if change {
                *now = state;
            }
            change
        });
    }

    /// How it ended: as the guest said, as it wrote down, or killed with it.
    fn exit(&self, told: Option<protocol::Exit>) -> Exit {
        let written = || serde_json::from_slice(&fs::read(self.path.join(protocol::EXIT)).ok()?).ok();
        let killed = protocol::Exit {
            code: None,
            signal: Some(libc::SIGKILL),
            forced: false,
        };
        let exit = told.or_else(written).unwrap_or(killed);
        let out_of_memory = exit.signal == Some(libc::SIGKILL) && !exit.forced && self.record.group.out_of_memory();
        Exit {
            code: exit.code,
            signal: exit.signal,
            out_of_memory,
        }
    }

    async fn stop(self: Arc<Self>, grace: Duration) -> Result<Exit, Error> {
        let already = match &*self.state.borrow() {
            State::Exited(exit) => Some(exit.clone()),
            State::Started | State::Listening => None,
        };
        let inner = Arc::clone(&self);
        blocking(move || {
            let _held = inner.hold()?;
            inner.rest.end(&inner.record.group, &inner.path)
        })
        .await?;
        let told = match already {
            Some(_) => None,
            // A guest that does not answer is killed below.
            None => match self.dir.ask(&Request::Stop { grace }, grace + MARGIN).await {
                Ok((Reply::Stopped(exit), _)) => Some(exit),
                Err(fenced @ Error::Fenced(_)) => return Err(fenced),
                Ok(_) | Err(_) => None,
            },
        };
        blocking(move || {
            erase::wait_for_end(self.pidfd.as_fd(), if told.is_some() { MARGIN } else { Duration::ZERO });
            let exit = already.unwrap_or_else(|| self.exit(told));
            self.host
                .erase(&self.id, Some(&self.record), Some(self.pidfd.as_fd()))?;
            self.advance(State::Exited(exit.clone()));
            Ok(exit)
        })
        .await
    }
}

/// Runs something that blocks where that is no harm.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Io {
            what: "background work".into(),
            source: io::Error::other(error),
        }),
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Protocol(format!("an answer to another question: {reply:?}"))
}
