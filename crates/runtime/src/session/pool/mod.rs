//! Warm sandboxes: started and healthy before any session asks, each used once and never shared.
//!
//! Every endpoint has a lane for the version that it serves, and for the time of a move another for the version that it
//! will serve. How many a lane wants follows demand: after new sessions as many as were started within ten seconds,
//! between the least and the most that are configured; without a new session for a while, the least again. One task, the
//! keeper, starts what is wanted and ends what is not: few at a time, after a pause, and never while a session of the
//! server is being started, so that nobody waits for a refill.
//!
//! A call takes one here with two look-ups under a lock; whose it is from then on is written into the sandbox itself
//! ([`sandbox::Sandbox::assign`]) before the first byte reaches it, so that not even a crash in between can hand it out twice.
//!
//! Invariant: a sandbox is in a lane, or a session's, or being ended. Invariant: warm sandboxes are given up before a
//! session is refused for want of memory.

use super::config::Config;
use super::environment;
use super::inside::{Inside, unassigned};
use super::machine::Answer;
use super::room::Room;
use super::router::Shared;
use super::start;
use crate::deployment::Target;
use crate::upstream::Upstream;
use domain::id::{EndpointName, RuntimeId};
use sandbox::{Sandbox, State};
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Sessions that start within this time of each other are one burst.
const BURST: Duration = Duration::from_secs(10);
/// After a new session, how long the keeper waits before it starts anything.
const SETTLE: Duration = Duration::from_millis(50);
/// How long sessions that are being started may put off a refill.
const PATIENCE: Duration = Duration::from_secs(2);
/// The keeper looks again after a failure, each time later up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// For the end of a sandbox that never served.
const GRACE: Duration = Duration::from_secs(2);
/// Bursts remembered; more than that is as good as that.
const MOST_RECENT: usize = 1024;

/// All lanes.
#[derive(Debug, Default)]
pub(super) struct Pool {
    lanes: Mutex<Lanes>,
    /// Wakes the keeper.
    wanted: Arc<Notify>,
    /// Wakes whoever waits for a lane to be ready.
    progress: Arc<Notify>,
}

/// A sandbox that is ready.
#[derive(Debug)]
pub(super) struct Warm {
    pub(super) sandbox: Arc<dyn Sandbox>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) answer: Answer,
    pub(super) inside: Inside,
    born: Instant,
    pub(super) memory: u64,
}

#[derive(Debug, Default)]
struct Lanes {
    lanes: HashMap<(RuntimeId, EndpointName), Vec<Lane>>,
    closed: bool,
}

/// The warm sandboxes of one version at one endpoint.
#[derive(Debug)]
struct Lane {
    target: Target,
    /// The endpoint does not serve it yet.
    pending: bool,
    /// The endpoint serves something else by now.
    left: bool,
    ready: Vec<Warm>,
    starting: usize,
    demand: Demand,
    failures: u32,
    retry_at: Option<Instant>,
    made: Instant,
}

/// How many new sessions an endpoint has had lately.
#[derive(Debug, Default)]
struct Demand {
    recent: VecDeque<Instant>,
    /// The largest burst, and when it was as large as that.
    peak: usize,
    peak_at: Option<Instant>,
}

/// What the keeper does next.
#[derive(Debug, Default)]
struct Plan {
    start: Vec<Target>,
    end: Vec<Warm>,
    /// When time alone changes the plan.
    again_at: Option<Instant>,
}

impl Pool {
    /// Takes a warm sandbox of what a target serves, if there is one, and notes the demand either way. `None` inside is a
    /// miss; `None` outside an endpoint that has no lane.
    pub(super) fn take(&self, target: &Target, config: &Config) -> Option<Option<Warm>> {
        if config.warm.max == 0 {
            return None;
        }
        let mut lanes = self.lock();
        let lane = lanes.find(target)?;
        lane.demand.note(Instant::now());
        let mut taken = None;
        while let Some(warm) = lane.ready.pop() {
            // One that has just died is the keeper's to clear away; it has been told.
            if *warm.sandbox.state().borrow() == State::Listening {
                taken = Some(warm);
                break;
            }
        }
        drop(lanes);
        self.wanted.notify_one();
        Some(taken)
    }

    /// What a runtime's endpoints serve now: lanes of anything else go.
    pub(super) fn serving(&self, runtime: &RuntimeId, targets: &[Target], config: &Config) {
        if config.warm.max == 0 {
            return;
        }
        let now = Instant::now();
        let mut lanes = self.lock();
        for target in targets {
            let all = lanes.lanes.entry(name(target)).or_default();
            match all
                .iter_mut()
                .find(|lane| lane.target.deployment.version == target.deployment.version)
            {
                Some(lane) => {
                    (lane.pending, lane.left) = (false, false);
                    lane.target = target.clone();
                }
                None => all.push(Lane::new(target.clone(), false, now)),
            }
        }
        for ((of, endpoint), all) in &mut lanes.lanes {
            if of == runtime {
                let served = targets.iter().find(|target| target.endpoint == *endpoint);
                let served = served.map(|target| target.deployment.version);
                for lane in all.iter_mut() {
                    // The keeper ends what is in it.
                    lane.left = Some(lane.target.deployment.version) != served && !lane.pending;
                }
            }
        }
        drop(lanes);
        self.wanted.notify_one();
    }

    /// Begins a lane for a target that its endpoint will serve. Whether as many as it shall have at least are ready, or
    /// cannot be made ready.
    fn is_warm(&self, target: &Target, config: &Config) -> bool {
        let now = Instant::now();
        let mut lanes = self.lock();
        if lanes.closed || least(target, config) == 0 {
            return true;
        }
        let all = lanes.lanes.entry(name(target)).or_default();
        match all
            .iter()
            .find(|lane| lane.target.deployment.version == target.deployment.version)
        {
            Some(lane) => lane.failures > 0 || lane.ready.len() >= least(target, config),
            None => {
                all.push(Lane::new(target.clone(), true, now));
                drop(lanes);
                self.wanted.notify_one();
                false
            }
        }
    }

    /// Gives one warm sandbox up, for its memory.
    pub(super) fn shed(&self) -> Option<Warm> {
        let mut lanes = self.lock();
        let mut all = lanes.lanes.values_mut().flatten();
        all.find_map(|lane| lane.ready.pop())
    }

    /// Starts none any more and gives all up.
    fn close(&self) -> Vec<Warm> {
        let mut lanes = self.lock();
        lanes.closed = true;
        let all = lanes.lanes.drain().flat_map(|(_, lanes)| lanes);
        all.flat_map(|lane| lane.ready).collect()
    }

    /// The unpacked packages that warm sandboxes run.
    pub(super) fn packages(&self) -> Vec<PathBuf> {
        let lanes = self.lock();
        let busy = |lane: &&Lane| lane.starting > 0 || !lane.ready.is_empty();
        let all = lanes.lanes.values().flatten().filter(busy);
        all.map(|lane| lane.target.deployment.package.clone()).collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lock().lanes.values().flatten().map(|lane| lane.ready.len()).sum()
    }

    fn plan(&self, now: Instant, config: &Config, room: &Room) -> Plan {
        self.lock().plan(now, config, room)
    }

    fn started(&self, target: &Target, warm: Result<Warm, domain::Error>) -> Option<Warm> {
        let mut lanes = self.lock();
        let unwanted = match (lanes.find(target), warm) {
            (Some(lane), Ok(warm)) => {
                lane.starting = lane.starting.saturating_sub(1);
                lane.failures = 0;
                lane.retry_at = None;
                lane.ready.push(warm);
                None
            }
            (Some(lane), Err(error)) => {
                lane.starting = lane.starting.saturating_sub(1);
                lane.failures = lane.failures.saturating_add(1);
                let wait = FIRST_RETRY.saturating_mul(1 << lane.failures.min(10)).min(LAST_RETRY);
                lane.retry_at = Some(Instant::now() + wait);
                let (runtime, version) = (&target.deployment.arn.id, target.deployment.version);
                tracing::warn!(%runtime, endpoint = %target.endpoint, %version, %error, ?wait, "a warm sandbox did not start");
                None
            }
            (None, warm) => warm.ok(),
        };
        drop(lanes);
        self.wanted.notify_one();
        self.progress.notify_waiters();
        unwanted
    }

    /// A warm sandbox has ended by itself. Gives it back if a session has not got it already.
    fn lost(&self, target: &Target, sandbox: &Arc<dyn Sandbox>) -> Option<Warm> {
        let mut lanes = self.lock();
        let lane = lanes.find(target)?;
        let index = lane.ready.iter().position(|warm| Arc::ptr_eq(&warm.sandbox, sandbox))?;
        Some(lane.ready.swap_remove(index))
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // Nothing under this lock can leave a lane half-changed.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.wanted.notify_one();
    }
}

impl Lanes {
    fn find(&mut self, target: &Target) -> Option<&mut Lane> {
        let lanes = self.lanes.get_mut(&name(target))?;
        let version = target.deployment.version;
        lanes.iter_mut().find(|lane| lane.target.deployment.version == version)
    }

    /// What is to be done now. Counts what it says shall be started.
    fn plan(&mut self, now: Instant, config: &Config, room: &Room) -> Plan {
        let mut plan = Plan::default();
        let warm = &config.warm;
        let all = || self.lanes.values().flatten();
        let mut starting: usize = all().map(|lane| lane.starting).sum();
        let in_use = |lane: &Lane| {
            let ready: u64 = lane.ready.iter().map(|warm| warm.memory).sum();
            ready + lane.starting as u64 * room.need(&lane.target.deployment)
        };
        let mut memory: u64 = all().map(in_use).sum();
        let mut wake = |at: Instant| plan.again_at = Some(plan.again_at.map_or(at, |other| other.min(at)));
        for lane in self.lanes.values_mut().flatten() {
            let wanted = if self.closed { 0 } else { lane.wanted(now, config) };
            let too_old = |warm: &Warm| now.duration_since(warm.born) >= warm_age(warm, config);
            let (old, mut ready): (Vec<_>, Vec<_>) = lane.ready.drain(..).partition(too_old);
            let surplus = ready.len().saturating_sub(wanted);
            plan.end.extend(old.into_iter().chain(ready.drain(..surplus)));
            lane.ready = ready;
            let need = room.need(&lane.target.deployment);
            let has_time = lane.retry_at.is_none_or(|at| at <= now);
            while has_time
                && lane.ready.len() + lane.starting < wanted
                && starting < warm.at_once.max(1)
                && memory.saturating_add(need) <= warm.memory
            {
                lane.starting += 1;
                starting += 1;
                memory = memory.saturating_add(need);
                plan.start.push(lane.target.clone());
            }
            lane.ready
                .iter()
                .for_each(|warm| wake(warm.born + warm_age(warm, config)));
            lane.demand.cools_at(config.warm.idle).into_iter().for_each(&mut wake);
            lane.retry_at.filter(|at| *at > now).into_iter().for_each(&mut wake);
            if lane.pending {
                wake(lane.made + config.start_deadline * 2);
            }
        }
        for lanes in self.lanes.values_mut() {
            lanes.retain(|lane| !lane.is_over(now, config));
        }
        self.lanes.retain(|_, lanes| !lanes.is_empty());
        plan
    }
}

impl Lane {
    fn new(target: Target, pending: bool, now: Instant) -> Self {
        Self {
            target,
            pending,
            left: false,
            ready: Vec::new(),
            starting: 0,
            demand: Demand::default(),
            failures: 0,
            retry_at: None,
            made: now,
        }
    }

    /// How many it shall have.
    fn wanted(&mut self, now: Instant, config: &Config) -> usize {
        // Whose storage a sandbox has is known only when its session is.
        if self.left || self.target.deployment.storage.is_some() {
            return 0;
        }
        let (least, most) = (least(&self.target, config), config.warm.max);
        self.demand.now(now, config.warm.idle).min(most).max(least)
    }

    /// Nothing is in it and nobody will want it again.
    fn is_over(&self, now: Instant, config: &Config) -> bool {
        let forgotten = self.pending && now.duration_since(self.made) >= config.start_deadline * 2;
        (self.left || forgotten) && self.ready.is_empty() && self.starting == 0
    }
}

impl Demand {
    fn note(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|at| now.duration_since(*at) >= BURST) || self.recent.len() >= MOST_RECENT
        {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.recent.len() >= self.peak {
            self.peak = self.recent.len();
            self.peak_at = Some(now);
        }
    }

    /// How many are wanted; forgets bursts that were long ago.
    fn now(&mut self, now: Instant, idle: Duration) -> usize {
        while let Some(at) = self.peak_at.filter(|at| now.duration_since(*at) >= idle) {
            self.peak /= 2;
            let quiet = self.recent.back().is_none_or(|last| now.duration_since(*last) >= idle);
            self.peak = if quiet { 0 } else { self.peak.max(1) };
            self.peak_at = (self.peak > 0).then_some(at + idle);
        }
        self.peak
    }

    fn cools_at(&self, idle: Duration) -> Option<Instant> {
        self.peak_at.map(|at| at + idle)
    }
}

/// Keeps the lanes as they shall be, until the router is gone.
pub(super) async fn keep(shared: Weak<Shared>) {
    let Some(wanted) = shared.upgrade().map(|shared| Arc::clone(&shared.pool.wanted)) else {
        return;
    };
    loop {
        let again_at = {
            let Some(shared) = shared.upgrade() else { return };
            let plan = shared.pool.plan(Instant::now(), &shared.config, &shared.room);
            shared.metrics.warm(shared.pool.count());
            for warm in plan.end {
                end(&shared, warm);
            }
            for target in plan.start {
                let starter = Arc::clone(&shared);
                shared.owners.spawn(async move { fill(starter, target).await });
            }
            plan.again_at
        };
        tokio::select! {
            () = wanted.notified() => sleep(SETTLE).await,
            () = until(again_at) => {}
        }
        // New sessions come first, for a while.
        let calm = async {
            while shared.upgrade().is_some_and(|shared| shared.is_starting()) {
                sleep(SETTLE).await;
            }
        };
        let _ = timeout(PATIENCE, calm).await;
    }
}

/// Waits until a target's lane has as many as it shall have at least; `None` if it has, or never will.
pub(super) fn warming(shared: &Arc<Shared>, target: &Target) -> Option<impl Future<Output = ()> + Send + 'static> {
    if shared.config.warm.max == 0 || target.deployment.storage.is_some() || shared.pool.is_warm(target, &shared.config)
    {
        return None;
    }
    let (shared, target) = (Arc::clone(shared), target.clone());
    Some(async move {
        let ready = async {
            loop {
                let progress = shared.pool.progress.notified();
                tokio::pin!(progress);
                // Before the look, so that what happens in between is not missed.
                progress.as_mut().enable();
                if shared.pool.is_warm(&target, &shared.config) {
                    return;
                }
                progress.await;
            }
        };
        if timeout(shared.config.start_deadline, ready).await.is_err()
            && let Some(lane) = shared.pool.lock().find(&target)
        {
            // Too slow counts as failed: the endpoint moves on without.
            lane.failures = lane.failures.max(1);
        }
    })
}

/// Ends all warm sandboxes.
pub(super) fn close(shared: &Arc<Shared>) {
    for warm in shared.pool.close() {
        end(shared, warm);
    }
}

/// Ends a warm sandbox in the background.
pub(super) fn end(shared: &Arc<Shared>, warm: Warm) {
    let driver = Arc::clone(&shared.driver);
    shared.owners.spawn(async move {
        warm.upstream.close();
        if let Err(error) = warm.sandbox.stop(GRACE).await {
            tracing::error!(sandbox = %warm.sandbox.id(), %error, "a warm sandbox could not be stopped; destroying it");
            super::owner::destroy(&driver, warm.sandbox.id()).await;
        }
        warm.inside.end().await;
    });
}

/// Starts one warm sandbox and puts it into its lane.
async fn fill(shared: Arc<Shared>, target: Target) {
    let started = start_one(&shared, &target).await;
    let watched = started.as_ref().ok().map(|warm| Arc::clone(&warm.sandbox));
    if let Some(unwanted) = shared.pool.started(&target, started) {
        return end(&shared, unwanted);
    }
    shared.metrics.warm(shared.pool.count());
    let Some(sandbox) = watched else { return };
    let mut state = sandbox.state();
    let weak = Arc::downgrade(&shared);
    drop(shared);
    // Not one of the tracked: it ends with the sandbox, which may be a session's by then.
    tokio::spawn(async move {
        start::exit_of(&mut state).await;
        if let Some(shared) = weak.upgrade()
            && let Some(dead) = shared.pool.lost(&target, &sandbox)
        {
            tracing::warn!(sandbox = %dead.sandbox.id(), "a warm sandbox has ended by itself");
            end(&shared, dead);
            shared.pool.wanted.notify_one();
        }
    });
}

async fn start_one(shared: &Arc<Shared>, target: &Target) -> Result<Warm, domain::Error> {
    let deployment = &target.deployment;
    let _hold = shared.room.admit(deployment, || None)?;
    let spec = environment::spec(&target.endpoint, deployment, &shared.config, &shared.node);
    let began = Instant::now();
    let deadline = began + shared.config.start_deadline;
    let metrics = Arc::clone(&shared.metrics);
    let sandbox = start::sandbox(Arc::clone(&shared.driver), spec, deadline, metrics).await?;
    let name = unassigned(sandbox.id());
    let inside = Inside::open(shared, &sandbox, &deployment.arn, &deployment.role, name);
    let agent = start::Agent::new(shared, Arc::clone(&sandbox), deployment, began, deadline);
    let upstream = Arc::clone(&agent.upstream);
    let healthy = tokio::select! {
        healthy = agent.healthy() => healthy,
        () = shared.closing.cancelled() => Err(domain::Error::internal("the server is stopping")),
    };
    let answer = match healthy {
        Ok(healthy) => healthy.answer,
        Err(error) => {
            let _ = sandbox.stop(GRACE).await;
            inside.end().await;
            return Err(error);
        }
    };
    let memory = match sandbox.usage().await {
        Ok(usage) => usage.memory,
        Err(_) => shared.room.need(deployment),
    };
    shared.room.learn(deployment, memory);
    Ok(Warm {
        sandbox,
        upstream,
        answer,
        inside,
        born: Instant::now(),
        memory,
    })
}

fn name(target: &Target) -> (RuntimeId, EndpointName) {
    (target.deployment.arn.id.clone(), target.endpoint.clone())
}

fn least(target: &Target, config: &Config) -> usize {
    target.switches.warm.unwrap_or(config.warm.min).min(config.warm.max)
}

/// Replaced at different ages, so that those of one burst are not all replaced at once.
fn warm_age(warm: &Warm, config: &Config) -> Duration {
    let seed = warm
        .sandbox
        .id()
        .as_str()
        .bytes()
        .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    config.warm.max_age * (90 + seed % 11) / 100
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
