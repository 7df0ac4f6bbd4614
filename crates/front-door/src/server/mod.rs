//! Sockets: accepts connections, serves them, and stops without losing an answer.
//!
//! [`Server::bind`] takes the address, so that every mistake in the configuration shows before anything runs;
//! [`Server::run`] serves until its token is cancelled, then drains: no new connection, no new work on old ones, and
//! answers under way get [`Config::drain_grace`] to finish. What is left then is cut.
//!
//! Read on: `connection` (one connection), `inlet` (those that come from inside sandboxes), `watch` (its deadlines), `socket` (its bytes), then `call`.
//!
//! Invariant: every task started here is tracked; when [`Server::run`] returns, none is left.

pub(crate) mod connection;
mod inlet;
mod socket;
mod tls;
pub(crate) mod watch;

use self::connection::Wire;
use crate::admit::Admission;
use crate::audit;
use crate::auth::Verifier;
use crate::authorize::Authority;
use crate::call::Door;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::route::{RouteError, Router};
use crate::service::Service;
use domain::Clock;
use domain::id::{AccountId, Region};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use inlet::Inlet;
pub use tls::TlsError;

/// How long to wait after the system refused to accept (for example, no file descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long cut connections may take to notice.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// What a server serves.
#[derive(Debug)]
pub struct Wiring {
    /// Who answers calls.
    pub services: Vec<Arc<dyn Service>>,
    /// Who signs.
    pub verifier: Verifier,
    /// Who bears tokens.
    pub tokens: oauth::Providers,
    /// The account whose resources these are; root of it may do everything.
    pub account: AccountId,
    /// The region that the server plays.
    pub region: Region,
    /// Where decisions are written down.
    pub audit: audit::Log,
    /// Wall time.
    pub clock: Clock,
    /// Where it is counted; registered on `registry`.
    pub metrics: Metrics,
    /// What `/_eyot/metrics` shows.
    pub registry: Arc<Registry>,
    /// What `/_eyot/readyz` answers.
    pub readiness: Readiness,
}

/// Whether the server wants to be sent calls. Starts as not ready; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

/// A server that owns its address and has not begun to serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Why a server cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {cause}; choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// TLS is set up wrongly.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Services do not fit together.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Spool files cannot be made.
    #[error("cannot make spool files in {}: {cause}; set spool_dir to a directory that this user may write", dir.display())]
    Spool {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All answers finished.
    Clean,
    /// The grace was over before this many connections and streams were.
    Cut(usize),
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) door: Door,
    tls: Option<Arc<rustls::ServerConfig>>,
    tasks: TaskTracker,
    /// One for each connection that may be open through the inlet.
    inside: Arc<Semaphore>,
    /// Finish what is under way.
    closing: CancellationToken,
    /// End at once.
    cut: CancellationToken,
}

impl Readiness {
    /// From now on the server wants calls, or does not.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether the server wants calls.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Server {
    /// Takes the address and checks everything that can be wrong with the configuration.
    pub async fn bind(address: SocketAddr, config: Config, wiring: Wiring) -> Result<Self, BindError> {
        let tls = tls::load(config.tls_cert.as_deref(), config.tls_key.as_deref())?;
        let router = Router::new(&wiring.services, &wiring.metrics)?;
        let dir = config.spool_dir();
        std::fs::create_dir_all(&dir)
            .and_then(|()| tempfile::tempfile_in(&dir))
            .map_err(|cause| BindError::Spool {
                dir: dir.clone(),
                cause,
            })?;
        let admission = Admission::new(config.max_calls, config.max_held_bytes);
        wiring.metrics.watch(&admission);
        let listener = TcpListener::bind(address)
            .await
            .map_err(|cause| BindError::Listen { address, cause })?;
        let address = listener
            .local_addr()
            .map_err(|cause| BindError::Listen { address, cause })?;
        let door = Door {
            config,
            spool_dir: dir,
            router,
            verifier: wiring.verifier,
            tokens: wiring.tokens,
            authority: Authority {
                account: wiring.account,
                region: wiring.region.to_string(),
                audit: wiring.audit,
                clock: wiring.clock,
            },
            admission,
            metrics: wiring.metrics,
            registry: wiring.registry,
            readiness: wiring.readiness,
            draining: AtomicBool::new(false),
            is_secure: tls.is_some(),
        };
        let shared = Shared {
            inside: Arc::new(Semaphore::new(door.config.max_connections)),
            door,
            tls,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
        };
        Ok(Self {
            listener,
            address,
            shared: Arc::new(shared),
        })
    }

    /// The address that is served; its port is the real one when port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Whether TLS is on.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.shared.tls.is_some()
    }

    /// A way in for connections that were accepted elsewhere.
    #[must_use]
    pub fn inlet(&self) -> Inlet {
        Inlet::new(&self.shared)
    }

    /// Serves until `shutdown` is cancelled and the drain is over.
    pub async fn run(self, shutdown: CancellationToken) -> Drained {
        let Self { listener, shared, .. } = self;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accept(&shared, &listener) => {}
        }
        // Nobody new: the address is free for a successor from here on.
        drop(listener);
        // In this order: connections ask for the signals below only after they saw this flag.
        shared.door.draining.store(true, Ordering::Release);
        shared.closing.cancel();
        shared.tasks.close();
        if tokio::time::timeout(shared.door.config.drain_grace, shared.tasks.wait())
            .await
            .is_ok()
        {
            return Drained::Clean;
        }
        let left = shared.tasks.len();
        tracing::warn!(left, "the drain grace is over; cutting what is left");
        shared.cut.cancel();
        if tokio::time::timeout(CUT_GRACE, shared.tasks.wait()).await.is_err() {
            tracing::error!(left = shared.tasks.len(), "cut connections did not end");
        }
        Drained::Cut(left)
    }
}

/// Counts a connection for as long as it is open, also when its task panics.
struct Open(Gauge);

impl Open {
    fn count(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Accepts for ever, as many at once as configured.
async fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let places = Arc::new(Semaphore::new(shared.door.config.max_connections));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let shared = Arc::clone(shared);
                let tasks = shared.tasks.clone();
                let open = Open::count(&shared.door.metrics.connections);
                tasks.spawn(async move {
                    connection::serve(shared, stream, peer, Wire::Own).await;
                    drop((place, open));
                });
            }
            // A connection that was reset while it waited is no reason to pause, but a pause harms nobody either.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
