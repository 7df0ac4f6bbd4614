//! `eyot serve`: the server, put together.
//!
//! The order in [`Running::start`] is the order in which things need each other: the lock on the data directory before
//! anything in it is touched, storage, keys, the node's lease, the driver, the runtime (which first destroys what an
//! earlier process left and resumes half-made resources), and the socket last, so that nobody is answered by half a
//! server.

use crate::config::{Config, Layers, LogFormat};
use crate::data_dir::{DataDir, ServerFile};
use crate::iam::Federated;
use crate::master_key;
use crate::node::Tenure;
use crate::traces;
use anyhow::{Context, bail};
use domain::Clock;
use front_door::audit;
use front_door::auth::Verifier;
use front_door::server::{Drained, Readiness, Server, Wiring};
use iam::{Directory, directory};
use iam_service::IamService;
use prometheus_client::registry::Registry;
use runtime::RuntimeService;
use runtime::artifacts::Artifacts;
use runtime::catalog::Catalog;
use runtime::control::{self, Control};
use runtime::credentials::{Outside, Own};
use runtime::invoke::Invoker;
use runtime::journal::{self, Journal};
use runtime::observe::{self, Observer};
use runtime::service;
use runtime::session::{self, Router};
use runtime::throttle::SessionRate;
use sandbox::managed::Runtimes;
use sandbox::package;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use storage::files::FileBlobs;
use storage::sqlite::Store;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use toml::Value;
use tracing_subscriber::EnvFilter;

/// How long ending the sandboxes may take beyond the grace that agents get.
const END_GRACE: Duration = Duration::from_secs(5);
/// How long writing down the last sessions and sending the last traces may take, at the same time.
const FLUSH: Duration = Duration::from_secs(5);

/// Arguments of `eyot serve`; each overrides the configuration file and the environment.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Address to serve both planes on [default: 127.0.0.1:8780].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Directory of all state [default: ~/.local/share/eyot].
    #[arg(long, env = "EYOT_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How agents are isolated: auto, container or process [default: auto].
    #[arg(long, value_name = "DRIVER")]
    pub(crate) driver: Option<String>,
    /// Serve TLS with this certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// What to log, such as `info` or `runtime=debug`.
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

impl Args {
    /// Defaults, file, environment and flags laid over each other.
    pub(crate) fn configuration(&self) -> anyhow::Result<Config> {
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers.file(path)?;
        }
        layers.environment(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )?;
        let text = |value: &dyn ToString| Value::String(value.to_string());
        let path = |value: &PathBuf| Value::String(value.to_string_lossy().into_owned());
        let flags = [
            (&["listen"][..], "--listen", self.listen.as_ref().map(|v| text(v))),
            (&["data_dir"], "--data-dir", self.data_dir.as_ref().map(path)),
            (&["driver"], "--driver", self.driver.as_ref().map(|v| text(v))),
            (&["server", "tls_cert"], "--tls-cert", self.tls_cert.as_ref().map(path)),
            (&["server", "tls_key"], "--tls-key", self.tls_key.as_ref().map(path)),
            (&["log"], "--log", self.log.as_ref().map(|v| text(v))),
        ];
        for (key, flag, value) in flags {
            if let Some(value) = value {
                layers.set(key, value, flag);
            }
        }
        layers.read()
    }
}

/// Serves until SIGTERM or SIGINT, then drains; or until another server takes its place, which is an error.
///
/// SIGTERM is what a service manager sends for a restart or an upgrade: sessions go on, for the next server process of
/// the data directory. SIGINT comes from a person at a terminal who is done: sessions end.
#[expect(clippy::print_stdout, reason = "the line that says that the server is ready")]
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let config = args.configuration()?;
    start_logging(&config)?;
    // Before the first line that says that the server is there: whoever reads it may signal at once.
    let mut signals = Signals::install()?;
    let running = tokio::select! {
        running = Running::start(config) => running?,
        _ = signals.received() => return Ok(()),
    };
    println!("eyot is ready at {} (driver: {})", running.url, running.driver);
    let signal = tokio::select! {
        signal = signals.received() => signal,
        lost = running.lost() => {
            crate::report(&lost);
            // Returning would wait for work that is no longer ours to do.
            std::process::exit(1);
        }
    };
    signals.leave_at_the_next();
    let sessions = match signal {
        Received::Terminate if running.sessions.config().survive_shutdown => Sessions::GoOn,
        Received::Terminate | Received::Interrupt => Sessions::End,
    };
    running.stop(sessions).await
}

/// Which signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
}

/// What becomes of sessions when the server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// They go on without a server, for the next one.
    GoOn,
    /// They end.
    End,
}

/// SIGTERM and SIGINT, caught from the moment of [`Signals::install`] on.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches both from now on.
    pub(crate) fn install() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when one has come.
    pub(crate) async fn received(&mut self) -> Received {
        tokio::select! {
            _ = self.terminate.recv() => Received::Terminate,
            _ = self.interrupt.recv() => Received::Interrupt,
        }
    }

    /// Ends the process at the next one, for whoever does not want to wait for the drain.
    pub(crate) fn leave_at_the_next(mut self) {
        tokio::spawn(async move {
            self.received().await;
            tracing::warn!("second signal: leaving without draining; the next server takes over what is left");
            std::process::exit(130);
        });
    }
}

/// Sends log lines to standard error.
pub(crate) fn start_logging(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("'{}' is not a log filter", config.log))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

/// A server that serves.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where, such as `http://127.0.0.1:8780`.
    pub(crate) url: String,
    /// The driver in use.
    pub(crate) driver: &'static str,
    /// What stands between agents and this host.
    pub(crate) probe: sandbox::Probe,
    dir: DataDir,
    control: Control,
    sessions: Router,
    journal: Journal,
    exporter: Option<traces::Exporter>,
    readiness: Readiness,
    directory: Arc<Directory>,
    shutdown: CancellationToken,
    serving: JoinHandle<Drained>,
    tenure: Tenure,
    _lock: storage::lock::Guard,
}

impl Running {
    /// Starts everything; answers once the server takes calls.
    pub(crate) async fn start(mut config: Config) -> anyhow::Result<Self> {
        raise_file_limit();
        let clock = Clock::system();
        // Sandboxes and spool files must not depend on the directory that the server was started in.
        config.data_dir = std::path::absolute(&config.data_dir)?;
        let dir = crate::data_dir::resolve(Some(config.data_dir.clone()));
        let lock = storage::lock::DataDir::acquire(dir.path())?;
        // What a server that was killed left: clients would believe it as long as we hold the lock.
        dir.withdraw();
        std::fs::create_dir_all(dir.spool()).with_context(|| format!("cannot make {}", dir.spool().display()))?;
        config.server.spool_dir.get_or_insert_with(|| dir.spool());

        let master = Arc::new(config.master_key.load_or_create(&dir).await?);
        let store = Arc::new(Store::open(dir.state())?);
        let directory = Directory::open(directory::Parts {
            records: store.clone(),
            master,
            account: config.account.clone(),
            clock: clock.clone(),
        });
        let directory = Arc::new(directory.await?);

        let tenure = Tenure::begin(store.clone(), clock.clone()).await?;
        let sandboxes = sandbox::Config {
            state_dir: dir.sandboxes(),
            clock: clock.clone(),
            epoch: tenure.node().epoch,
        };
        let (driver, probe) = sandbox::detect(sandboxes, config.driver.into()).await?;
        for warning in &probe.warnings {
            tracing::warn!("driver {}: {warning}", driver.name());
        }
        tracing::info!("driver {}: {}", driver.name(), probe.walls.join(", "));
        let driver_name = driver.name();

        let mut registry = Registry::default();
        let audit =
            audit::Log::open(&config.audit, &dir.audit(), &mut registry).context("cannot open the audit log")?;
        let oauth_metrics = oauth::Metrics::register(&mut registry);
        let providers = oauth::Providers::new(&config.oauth, clock.clone(), oauth_metrics)?;
        let metrics = front_door::Metrics::register(&mut registry);
        let runtime_metrics = Arc::new(runtime::metrics::Metrics::register(&mut registry));
        let journal = Journal::open(journal::Parts {
            records: store.clone(),
            clock: clock.clone(),
            metrics: runtime_metrics.clone(),
            history: config.runtime.session.history,
        });
        let journal = journal.await?;
        let roles = Outside::new(
            &config.runtime.roles,
            Arc::new(Own::new(directory.clone())),
            clock.clone(),
        );
        let roles = Arc::new(roles.map_err(anyhow::Error::msg)?);
        let sessions = Router::new(session::Parts {
            config: config.runtime.session,
            driver,
            clock: clock.clone(),
            metrics: runtime_metrics.clone(),
            node: tenure.node(),
            journal: journal.clone(),
            roles,
            storage_dir: dir.path().join("storage"),
            rate: SessionRate::new(&config.runtime.quotas.rates),
        });
        let recovered = sessions.recover().await?;
        if recovered != session::Recovered::default() {
            tracing::info!(
                recovered.adopted,
                recovered.destroyed,
                recovered.left,
                "took over the sessions of an earlier server and removed what no session needs"
            );
        }

        let interpreters = config
            .interpreters
            .into_iter()
            .map(|(name, path)| (name.to_uppercase(), path))
            .collect();
        let artifacts = Artifacts::new(
            config.runtime.artifacts,
            &config.runtime.s3,
            Arc::new(FileBlobs::open(dir.blobs())?),
            Arc::new(package::Store::open(&dir.packages())?),
            Arc::new(Runtimes::discover(interpreters)),
            &dir.spool(),
            clock.clone(),
        );
        let artifacts = Arc::new(artifacts.map_err(anyhow::Error::msg)?);
        let catalog = Catalog::default();
        let control = Control::recover(control::Parts {
            region: config.region.clone(),
            account: config.account.clone(),
            quotas: config.runtime.quotas,
            reach: oauth::Reach::default(),
            records: store,
            artifacts: artifacts.clone(),
            sessions: sessions.clone(),
            catalog: catalog.clone(),
            clock: clock.clone(),
        });
        let control = control.await?;
        let shutdown = CancellationToken::new();
        let observer = Observer::new(observe::Parts {
            region: config.region.clone(),
            account: config.account.clone(),
            sessions: sessions.clone(),
            journal: journal.clone(),
            clock: clock.clone(),
            closing: shutdown.clone(),
        });
        let (tracer, exporter) =
            traces::start(config.traces, tenure.node().owner, clock.clone(), &runtime_metrics)?.unzip();
        let service = RuntimeService::new(service::Parts {
            region: config.region.clone(),
            account: config.account.clone(),
            control: control.clone(),
            catalog,
            invoker: Invoker::new(sessions.clone()),
            artifacts,
            observer,
            tracer,
        });

        let (region, account) = (config.region.clone(), config.account.clone());
        let federation = Arc::new(Federated::new(providers.clone(), &config.web_identity, &config.oauth)?);
        let iam = IamService::new(directory.clone(), federation, clock.clone());

        let readiness = Readiness::default();
        let wiring = Wiring {
            services: vec![Arc::new(service), Arc::new(iam)],
            verifier: Verifier::new(directory.clone(), config.region.as_str(), clock.clone()),
            tokens: providers,
            account: config.account,
            region: config.region.clone(),
            audit,
            clock,
            metrics,
            registry: Arc::new(registry),
            readiness: readiness.clone(),
        };
        let server = Server::bind(config.listen, config.server, wiring).await?;
        sessions.serve_agents(server.inlet());
        let scheme = if server.is_tls() { "https" } else { "http" };
        let url = format!("{scheme}://{}", reachable(server.local_addr()));
        let serving = tokio::spawn(server.run(shutdown.clone()));
        dir.announce(&ServerFile {
            url: url.clone(),
            pid: std::process::id(),
            region: region.to_string(),
            account: account.to_string(),
        })?;
        readiness.set(true);
        Ok(Self {
            url,
            driver: driver_name,
            probe,
            dir,
            control,
            sessions,
            journal,
            exporter,
            readiness,
            directory,
            shutdown,
            serving,
            tenure,
            _lock: lock,
        })
    }

    /// Resolves when another server has taken this one's place. Nothing may be drained then, only left.
    pub(crate) async fn lost(&self) -> anyhow::Error {
        self.tenure.lost().await
    }

    /// Drains: no new work, answers in flight finish within the grace, sessions end or go on; of those that end nothing
    /// remains.
    pub(crate) async fn stop(self, sessions: Sessions) -> anyhow::Result<()> {
        self.readiness.set(false);
        self.dir.withdraw();
        self.shutdown.cancel();
        let drained = self.serving.await.context("the server's task failed")?;
        self.control.shutdown().await;
        let grace = self.sessions.config().stop_grace + END_GRACE;
        let left = match sessions {
            Sessions::GoOn => self.sessions.leave(grace).await,
            Sessions::End => self.sessions.shutdown(grace).await,
        };
        if left > 0 {
            tracing::warn!("{left} sessions have not ended; the next start takes them over or removes what remains");
        }
        let write_down = async {
            if timeout(FLUSH, self.journal.flush()).await.is_err() {
                tracing::warn!(
                    "the last sessions could not be written down; the next start finds what is left of them"
                );
            }
        };
        let send_traces = async {
            if let Some(exporter) = self.exporter {
                exporter.stop(FLUSH).await;
            }
        };
        tokio::join!(write_down, send_traces);
        self.directory.close().await;
        self.tenure.end().await;
        match drained {
            Drained::Clean => Ok(()),
            Drained::Cut(count) => {
                tracing::warn!("{count} connections were cut because drain_grace was over");
                Ok(())
            }
        }
    }
}

/// The root key of a data directory; the server may be running.
pub(crate) async fn read_root_key(dir: &DataDir, master: &master_key::Config) -> anyhow::Result<(String, String)> {
    let master = master.load(dir).await?;
    let store = Store::open_read_only(dir.state())?;
    match directory::read_root(&store, &master).await? {
        Some((id, secret)) => Ok((id, secret.as_str().to_owned())),
        None => bail!("{} holds no root key", dir.state().display()),
    }
}

/// An address that a client on this machine can use for one that the server listens on.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Every session costs a few descriptors and the usual soft limit is 1024.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
