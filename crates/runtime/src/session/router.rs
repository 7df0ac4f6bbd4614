//! Which session a call belongs to.
//!
//! Invariant: a key has at most one session in the table, from before its sandbox is started until nothing of the
//! sandbox is left; every start goes through the table under its lock, so a hundred first calls make one start.
//! Invariant: no lock is held across an await.

use super::adopt::{self, Recovered};
use super::chores;
use super::config::Config;
use super::gate::{Gate, Pass, Refused};
use super::live::{Past, Session, Summary, Wish};
use super::machine::{Phase, Reason};
use super::owner::{Adopted, Birth, Owner};
use super::pool::{self, Pool};
use super::report::Report;
use super::room::Room;
use super::storage;
use crate::credentials::Roles;
use crate::deployment::Target;
use crate::journal::Journal;
use crate::metrics::{Metrics, Step};
use crate::throttle::SessionRate;
use domain::id::{EndpointName, RuntimeId, SessionId};
use domain::{Clock, Error, Kind};
use front_door::Inlet;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use sandbox::{Driver, LogLine};
use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const SHARDS: usize = 16;
/// Beyond the stop's grace, how long a call waits for its session's former sandbox to be gone.
const TURNOVER: Duration = Duration::from_secs(5);
/// Beyond the stop's grace, how long ending a session may take; the owner gives up a little earlier.
const END_DEADLINE: Duration = Duration::from_secs(65);
/// For how long the id of a deleted runtime is refused; longer than any call that found the runtime before is on its way.
const BARRED_FOR: Duration = Duration::from_secs(600);
/// `StopRuntimeSession` calls remembered for their `clientToken`.
const STOPS_REMEMBERED: usize = 1024;

/// Whose a session is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The runtime.
    pub runtime: RuntimeId,
    /// The endpoint; the same session id on another endpoint is another session.
    pub endpoint: EndpointName,
    /// The client's session id.
    pub session: SessionId,
}

/// What a router is made of.
#[derive(Debug)]
pub struct Parts {
    /// What an operator can set.
    pub config: Config,
    /// Who starts sandboxes.
    pub driver: Arc<dyn Driver>,
    /// Wall time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who owns the sessions of this process.
    pub node: Node,
    /// What is kept of sessions.
    pub journal: Journal,
    /// Who issues the credentials of agents.
    pub roles: Arc<dyn Roles>,
    /// Where session storage is kept.
    pub storage_dir: PathBuf,
    /// How many new sessions there may be.
    pub rate: SessionRate,
}

/// Who owns sessions: this process as the holder of its node's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node's name, the same for every server process of one data directory.
    pub owner: String,
    /// The lease's epoch, higher for every later process.
    pub epoch: u64,
}

/// Finds or starts the session of each call. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Router(Arc<Shared>);

/// What the router and all owners share.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) node: Node,
    pub(super) journal: Journal,
    pub(super) roles: Arc<dyn Roles>,
    /// The way of agents to the API, once there is one.
    pub(super) inlet: watch::Sender<Option<Inlet>>,
    /// Wakes whoever writes down what sessions have.
    pub(super) issued: Arc<Notify>,
    pub(super) storage_dir: PathBuf,
    rate: SessionRate,
    pub(super) pool: Pool,
    pub(super) room: Room,
    /// No sandbox is started any more.
    pub(super) closing: CancellationToken,
    /// Owners, and what they leave to be done behind them.
    pub(super) owners: TaskTracker,
    /// Sessions that are being started.
    starting: AtomicUsize,
    hasher: RandomState,
    shards: [Mutex<HashMap<Key, Arc<Session>>>; SHARDS],
    count: AtomicUsize,
    draining: AtomicBool,
    barred: Mutex<VecDeque<(Instant, RuntimeId)>>,
    stops: Mutex<VecDeque<(Key, String)>>,
}

/// Reads the log of a session.
#[derive(Debug)]
pub struct LogReader {
    lines: mpsc::Receiver<LogLine>,
    session: Arc<Session>,
}

impl LogReader {
    /// The next line, and the request that it was written for where exactly one call was in flight.
    pub async fn next(&mut self) -> Option<(LogLine, Option<uuid::Uuid>)> {
        let line = self.lines.recv().await?;
        let at = line.at.duration_since(self.session.since);
        // What was written before the session had its warm sandbox belongs to no call.
        let request = Duration::try_from(at)
            .ok()
            .and_then(|at| self.session.calls.request_at(at));
        Some((line, request))
    }
}

/// What a `clientToken` was used for before.
enum Recalled {
    /// To stop this very session.
    Same,
    /// To stop another one.
    Other,
}

impl Router {
    /// A router without sessions.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            config,
            driver,
            clock,
            metrics,
            node,
            journal,
            roles,
            storage_dir,
            rate,
        } = parts;
        let shared = Arc::new(Shared {
            node,
            journal,
            roles,
            inlet: watch::Sender::new(None),
            issued: Arc::default(),
            storage_dir,
            rate,
            pool: Pool::default(),
            room: Room::new(&config),
            config: Arc::new(config),
            driver,
            clock,
            metrics,
            hasher: RandomState::new(),
            shards: Default::default(),
            count: AtomicUsize::new(0),
            starting: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            barred: Mutex::default(),
            stops: Mutex::default(),
            closing: CancellationToken::new(),
            owners: TaskTracker::new(),
        });
        tokio::spawn(pool::keep(Arc::downgrade(&shared)));
        tokio::spawn(chores::checkpoint(Arc::downgrade(&shared)));
        tokio::spawn(chores::expire_storage(Arc::downgrade(&shared)));
        Self(shared)
    }

    /// Takes over the sessions that an earlier server process left, and destroys what no session needs. To be called
    /// before the first session is started.
    pub async fn recover(&self) -> Result<Recovered, Error> {
        adopt::recover(&self.0).await
    }

    /// From now on agents reach the API through this. What they have sent before waits until then.
    pub fn serve_agents(&self, inlet: Inlet) {
        self.0.inlet.send_replace(Some(inlet));
    }

    /// Lets a call into its session, started if need be on what the endpoint serves now, healthy or about to be. Answers
    /// also whether this call started it.
    pub(crate) async fn enter(&self, key: &Key, target: &Target) -> Result<(Pass<Session>, bool), Error> {
        let patience = Instant::now() + self.0.config.stop_grace + TURNOVER;
        loop {
            let (session, started) = self.0.find_or_start(key, target)?;
            match Gate::enter(Arc::clone(&session)) {
                Ok(pass) => return Ok((pass, started)),
                Err(Refused::Full) => {
                    let most = self.0.config.max_calls_per_session;
                    return Err(Error::new(
                        Kind::Throttled,
                        format!("More than {most} calls at once in one session."),
                    ));
                }
                // Its sandbox is being ended. Nothing has been sent, so the call may have the next one.
                Err(Refused::Shut) => {
                    if !session
                        .gone_within(patience.saturating_duration_since(Instant::now()))
                        .await
                    {
                        return Err(busy());
                    }
                }
            }
        }
    }

    /// Ends a session as `StopRuntimeSession` does and waits until nothing of it is left. A repetition with the same
    /// `client_token` succeeds as the first did; that token for another session is a conflict.
    pub async fn stop(&self, key: &Key, client_token: Option<&str>) -> Result<(), Error> {
        let session = self.0.find(key);
        match self.0.recall_stop(key, client_token) {
            Some(Recalled::Same) => {
                // The repetition must not end a session that was started since.
                return match session.filter(|session| session.is_stopped_by(client_token)) {
                    Some(session) => self.gone(&session).await,
                    None => Ok(()),
                };
            }
            Some(Recalled::Other) => return Err(token_used()),
            None => {}
        }
        let Some(session) = session else {
            return Err(no_such_session());
        };
        match session.phase() {
            Phase::Terminated(_) => return Err(no_such_session()),
            Phase::Provisioning | Phase::Terminating(_) => return Err(busy()),
            Phase::Active | Phase::Idle | Phase::Paused => {
                if session.claim_stop(client_token)
                    && let Some(token) = client_token
                {
                    self.0.remember_stop(key, token);
                }
                session.end(Reason::Stopped);
            }
        }
        self.gone(&session).await
    }

    /// Ends all sessions of a runtime, waits until nothing of them is left, and starts none for it any more.
    pub async fn end_runtime(&self, runtime: &RuntimeId, reason: Reason) {
        self.0.bar(runtime);
        self.serving(runtime, &[]);
        self.end_all(reason, |key| key.runtime == *runtime).await;
        storage::remove(&self.0.storage_dir, runtime).await;
    }

    /// Ends all sessions of one endpoint and waits until nothing of them is left.
    pub async fn end_endpoint(&self, runtime: &RuntimeId, endpoint: &EndpointName, reason: Reason) {
        self.end_all(reason, |key| key.runtime == *runtime && key.endpoint == *endpoint)
            .await;
    }

    /// Starts no more sessions, ends all there are, and waits for up to `grace` until nothing of them is left.
    /// Answers how many are left. Agents get SIGTERM at once; calls in flight should have ended before.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        self.close();
        let ended = async {
            self.end_all(Reason::Draining, |_| true).await;
            self.0.owners.wait().await;
        };
        let _ = timeout(grace, ended).await;
        self.count()
    }

    /// Starts no more sessions and lets go of all there are: their sandboxes go on for the next server process. Answers
    /// how many it did not get to let go of within `grace`.
    pub async fn leave(&self, grace: Duration) -> usize {
        self.close();
        for session in self.0.all(|_| true) {
            session.want(Wish::Leave);
        }
        let _ = timeout(grace, self.0.owners.wait()).await;
        self.count()
    }

    fn close(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
        self.0.closing.cancel();
        pool::close(&self.0);
        self.0.owners.close();
    }

    /// The head of a session's first answer is there, so long after its first call: its start is complete.
    pub(crate) fn first_answer(&self, session: &Session, took: Duration) {
        self.0.metrics.step(Step::FirstByte, took);
        let start = &session.report(&self.0.node).start;
        let key = &session.key;
        tracing::info!(
            runtime = %key.runtime, endpoint = %key.endpoint, session = %key.session, warm = start.warm,
            queue_ms = start.queue_ms, prepare_ms = start.prepare_ms, sandbox_ms = start.sandbox_ms,
            process_ms = start.process_ms, healthy_ms = start.healthy_ms, first_byte_ms = start.first_byte_ms,
            "session started"
        );
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Reports of the living sessions of which `which` is true, in no order. Wakes and prolongs none.
    #[must_use]
    pub fn reports(&self, which: impl Fn(&Key) -> bool) -> Vec<Report> {
        let all = self.0.all(which);
        all.iter().map(|session| session.report(&self.0.node)).collect()
    }

    /// The log of a living session, with `follow` until it ends.
    pub async fn logs(&self, key: &Key, follow: bool) -> Result<LogReader, Error> {
        let session = self.0.find(key).ok_or_else(no_such_session)?;
        let starting = || Error::new(Kind::SessionBusy, "The session is being started and has no log yet.");
        let sandbox = Arc::clone(session.upstream().ok_or_else(starting)?.sandbox());
        let lines = sandbox.logs(follow).await.map_err(|error| {
            tracing::warn!(sandbox = %sandbox.id(), %error, "a log could not be read");
            Error::internal("The session's log could not be read. The server's log says why.")
        })?;
        Ok(LogReader { lines, session })
    }

    /// Says what a runtime's endpoints serve now; warm sandboxes of anything else go.
    pub(crate) fn serving(&self, runtime: &RuntimeId, targets: &[Target]) {
        self.0.pool.serving(runtime, targets, &self.0.config);
    }

    /// Whether as many warm sandboxes of a target are ready as it shall have at least. If not, they are being started,
    /// and the future ends when they are ready or cannot be made ready in the time that a start may take.
    pub(crate) fn warming(&self, target: &Target) -> Option<BoxFuture<'static, ()>> {
        Some(Box::pin(pool::warming(&self.0, target)?))
    }

    /// The endpoints that have living sessions.
    pub(crate) fn endpoints(&self) -> BTreeSet<(RuntimeId, EndpointName)> {
        let sessions = self.0.all(|_| true);
        let keys = sessions.iter().map(|session| &session.key);
        keys.map(|key| (key.runtime.clone(), key.endpoint.clone())).collect()
    }

    /// The unpacked packages that living sandboxes run.
    pub(crate) fn packages(&self) -> Vec<PathBuf> {
        let sessions = self.0.all(|_| true);
        let of_sessions = sessions.iter().map(|session| session.deployment.package.clone());
        of_sessions.chain(self.0.pool.packages()).collect()
    }

    /// All sessions, in no order.
    #[must_use]
    pub fn sessions(&self) -> Vec<Summary> {
        self.0.all(|_| true).iter().map(|session| session.summary()).collect()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Wall time.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    async fn gone(&self, session: &Session) -> Result<(), Error> {
        if session.gone_within(self.0.config.stop_grace + END_DEADLINE).await {
            Ok(())
        } else {
            Err(busy())
        }
    }

    async fn end_all(&self, reason: Reason, which: impl Fn(&Key) -> bool) {
        let sessions = self.0.all(which);
        for session in &sessions {
            session.end(reason);
        }
        let deadline = Instant::now() + self.0.config.stop_grace + END_DEADLINE;
        for session in &sessions {
            if !session
                .gone_within(deadline.saturating_duration_since(Instant::now()))
                .await
            {
                tracing::error!(session = %session.key.session, %reason, "a session did not end in time");
            }
        }
    }
}

impl Shared {
    /// Forgets a session of which nothing is left.
    pub(super) fn forget(&self, session: &Arc<Session>) {
        let mut shard = self.shard(&session.key);
        if let Entry::Occupied(entry) = shard.entry(session.key.clone())
            && Arc::ptr_eq(entry.get(), session)
        {
            entry.remove();
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn find(&self, key: &Key) -> Option<Arc<Session>> {
        self.shard(key).get(key).cloned()
    }

    /// The session of a key, and whether it has been started here.
    fn find_or_start(self: &Arc<Self>, key: &Key, target: &Target) -> Result<(Arc<Session>, bool), Error> {
        let mut shard = self.shard(key);
        if let Some(session) = shard.get(key) {
            return Ok((Arc::clone(session), false));
        }
        self.admit(key)?;
        let birth = self.birth(target).inspect_err(|_| {
            self.count.fetch_sub(1, Ordering::AcqRel);
        })?;
        let now = self.clock.now();
        let session = Arc::new(Session::new(key.clone(), target, now, Past::default(), &self.config));
        shard.insert(key.clone(), Arc::clone(&session));
        drop(shard);
        self.run(&session, birth);
        Ok((session, true))
    }

    /// How a new session gets its sandbox; an error if the host has no room for one.
    fn birth(self: &Arc<Self>, target: &Target) -> Result<Birth, Error> {
        if let Some(taken) = self.pool.take(target, &self.config) {
            self.metrics.take(taken.is_some());
            self.metrics.warm(self.pool.count());
            if let Some(warm) = taken {
                return Ok(Birth::Warm(warm));
            }
        }
        let shed = || {
            let warm = self.pool.shed()?;
            let bytes = warm.memory;
            pool::end(self, warm);
            Some(bytes)
        };
        self.room.admit(&target.deployment, shed).map(Birth::Cold)
    }

    /// Gives a session its owner.
    fn run(self: &Arc<Self>, session: &Arc<Session>, birth: Birth) {
        let owner = Owner::new(Arc::clone(session), Arc::clone(self), birth);
        self.owners.spawn(owner.run());
    }

    /// Puts a session of an earlier server process into the table, unless its place is taken.
    pub(super) fn insert(self: &Arc<Self>, session: &Arc<Session>, adopted: Adopted) -> Result<(), Adopted> {
        match self.shard(&session.key).entry(session.key.clone()) {
            Entry::Occupied(_) => return Err(adopted),
            Entry::Vacant(place) => place.insert(Arc::clone(session)),
        };
        self.count.fetch_add(1, Ordering::AcqRel);
        self.run(session, Birth::Adopted(adopted));
        Ok(())
    }

    /// A session begins to be started.
    pub(super) fn begin_start(&self) {
        self.starting.fetch_add(1, Ordering::AcqRel);
    }

    /// A session has been started, or will not be.
    pub(super) fn end_start(&self) {
        self.starting.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether any session is being started.
    pub(super) fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Acquire) > 0
    }

    /// Counts one more session, or says why there may be none.
    fn admit(&self, key: &Key) -> Result<(), Error> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(Error::new(
                Kind::Draining,
                "The server is stopping; send the call again in a moment.",
            ));
        }
        if lock(&self.barred).iter().any(|(_, runtime)| *runtime == key.runtime) {
            return Err(Error::not_found(format!(
                "The runtime '{}' has been deleted.",
                key.runtime
            )));
        }
        let most = self.config.max_sessions;
        let more = |count: usize| (count < most).then_some(count + 1);
        self.count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .map_err(|_| {
                let message = format!(
                    "maxVms limit exceeded: this server runs at most {most} sessions at once. Stop some or wait."
                );
                Error::new(Kind::QuotaExceeded, message)
            })?;
        self.rate.admit(&key.runtime, &key.endpoint).inspect_err(|_| {
            self.count.fetch_sub(1, Ordering::AcqRel);
        })
    }

    pub(super) fn all(&self, which: impl Fn(&Key) -> bool) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(
                lock(shard)
                    .iter()
                    .filter(|(key, _)| which(key))
                    .map(|(_, session)| Arc::clone(session)),
            );
        }
        all
    }

    fn bar(&self, runtime: &RuntimeId) {
        let mut barred = lock(&self.barred);
        while barred.front().is_some_and(|(since, _)| since.elapsed() > BARRED_FOR) {
            barred.pop_front();
        }
        barred.push_back((Instant::now(), runtime.clone()));
    }

    fn remember_stop(&self, key: &Key, token: &str) {
        let mut stops = lock(&self.stops);
        if stops.len() == STOPS_REMEMBERED {
            stops.pop_front();
        }
        stops.push_back((key.clone(), token.to_owned()));
    }

    fn recall_stop(&self, key: &Key, token: Option<&str>) -> Option<Recalled> {
        let token = token?;
        let stops = lock(&self.stops);
        let mut keys = stops.iter().filter(|(_, t)| t == token).map(|(k, _)| k).peekable();
        keys.peek()?;
        // Two stops at the same moment may both have used it; each is a repetition of its own.
        Some(if keys.any(|k| k == key) {
            Recalled::Same
        } else {
            Recalled::Other
        })
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Arc<Session>>> {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        lock(&self.shards[index])
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("sessions", &self.count)
            .finish_non_exhaustive()
    }
}

pub(crate) fn busy() -> Error {
    Error::new(Kind::SessionBusy, "Session operation in progress, please retry.")
}

fn token_used() -> Error {
    Error::conflict(
        "This clientToken was used for StopRuntimeSession with other parameters: use a new token for a new call.",
    )
}

fn no_such_session() -> Error {
    Error::not_found("There is no such session, or it has already ended.")
}

/// Nothing under these locks can leave the data half-changed, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
