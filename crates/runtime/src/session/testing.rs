//! A driver whose sandboxes are servers on loopback in this process, for tests of everything above the driver.

use super::config::Config;
use super::router::{Key, Node, Parts, Router};
use crate::credentials::{NoRoles, Roles};
use crate::deployment::{Deployment, Target};
use crate::invoke::Invoker;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::throttle::{Rates, SessionRate};
use crate::trace::Recording;
use async_trait::async_trait;
use bytes::Bytes;
use domain::id::{AccountId, EndpointName, Region, RuntimeId, RuntimeName, SandboxId, SessionId, Version};
use domain::{Clock, Error, Principal, RuntimeArn};
use front_door::body::{self, BodyError, Incoming as RequestBody, Outgoing};
use front_door::service::{Call, Reply};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use sandbox::{Abilities, Connection, Driver, Exit, Found, LogLine, Probe, Sandbox, Spec, State, Stream, Usage};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) const UNIX_START: i64 = 1_800_000_000;

/// What runs in a fake sandbox.
#[derive(Clone)]
pub(crate) struct Agent {
    serve: Serve,
    pub(crate) listens: bool,
    pub(crate) other_ports: Vec<u16>,
    pub(crate) log: String,
    pub(crate) exits_at_once: Option<Exit>,
    pub(crate) cannot_start: Option<fn() -> sandbox::Error>,
    pub(crate) start_takes: Duration,
    /// How long it takes to exit after SIGTERM.
    pub(crate) stop_takes: Duration,
}

#[derive(Clone)]
enum Serve {
    Http(Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Outgoing>> + Send + Sync>),
    Raw(Arc<dyn Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync>),
}

impl Agent {
    /// An agent that answers every request by `handler`, `/ping` included.
    pub(crate) fn all<F, A>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Outgoing>> + Send + 'static,
    {
        Self::new(Serve::Http(Arc::new(move |request| Box::pin(handler(request)))))
    }

    /// A healthy agent that answers invocations by `handler`.
    pub(crate) fn http<F, A>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Outgoing>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        Self::all(move |request| {
            let handler = Arc::clone(&handler);
            async move {
                if request.uri().path() == "/ping" {
                    healthy()
                } else {
                    handler(request).await
                }
            }
        })
    }

    /// A healthy agent that returns what it gets, with its type.
    pub(crate) fn echo() -> Self {
        Self::http(|request: Request<Incoming>| async move {
            let mut response = Response::new(());
            if let Some(value) = request.headers().get("content-type") {
                response.headers_mut().insert("content-type", value.clone());
            }
            response.map(|()| Outgoing::new(request.into_body().map_err(|e| BodyError::Agent(e.to_string()))))
        })
    }

    /// An agent that does with each connection as it likes.
    pub(crate) fn raw<F, A>(handler: F) -> Self
    where
        F: Fn(TcpStream) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        Self::new(Serve::Raw(Arc::new(move |stream| Box::pin(handler(stream)))))
    }

    fn new(serve: Serve) -> Self {
        Self {
            serve,
            listens: true,
            other_ports: Vec::new(),
            log: String::new(),
            exits_at_once: None,
            cannot_start: None,
            start_takes: Duration::ZERO,
            stop_takes: Duration::ZERO,
        }
    }
}

pub(crate) fn healthy() -> Response<Outgoing> {
    Response::new(body::full(r#"{"status":"Healthy"}"#))
}

pub(crate) fn status(code: u16, text: &str) -> Response<Outgoing> {
    let mut response = Response::new(body::full(text.to_owned()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

pub(crate) const CRASH: Exit = Exit {
    code: Some(3),
    signal: None,
    out_of_memory: false,
};

/// Starts fake sandboxes.
pub(crate) struct FakeDriver {
    made: Instant,
    agent: Mutex<Agent>,
    pub(crate) sandboxes: Mutex<Vec<Arc<FakeSandbox>>>,
    pub(crate) left_over: Mutex<Vec<Found>>,
    pub(crate) destroyed: Mutex<Vec<SandboxId>>,
}

/// A server on loopback.
pub(crate) struct FakeSandbox {
    pub(crate) spec: Spec,
    agent: Agent,
    address: std::net::SocketAddr,
    server: AbortHandle,
    state: watch::Sender<State>,
    pub(crate) dials: AtomicUsize,
    pub(crate) stops: Mutex<Vec<Duration>>,
    pub(crate) assigned: Mutex<Option<BTreeMap<String, String>>>,
    pub(crate) paused: AtomicBool,
    pub(crate) notes: Mutex<Vec<String>>,
    pub(crate) usage: Mutex<Usage>,
    /// The sockets for the server inside, as the guest keeps them.
    listening: Mutex<HashMap<SocketAddrV4, std::net::TcpListener>>,
}

impl FakeDriver {
    pub(crate) fn new(agent: Agent) -> Arc<Self> {
        Arc::new(Self {
            made: Instant::now(),
            agent: Mutex::new(agent),
            sandboxes: Mutex::default(),
            left_over: Mutex::default(),
            destroyed: Mutex::default(),
        })
    }

    /// What the next sandboxes run.
    pub(crate) fn runs(&self, agent: Agent) {
        *self.agent.lock().unwrap() = agent;
    }

    pub(crate) fn started(&self) -> usize {
        self.sandboxes.lock().unwrap().len()
    }

    pub(crate) fn sandbox(&self, index: usize) -> Arc<FakeSandbox> {
        Arc::clone(&self.sandboxes.lock().unwrap()[index])
    }

    /// How many run now.
    pub(crate) fn alive(&self) -> usize {
        let sandboxes = self.sandboxes.lock().unwrap();
        sandboxes.iter().filter(|sandbox| sandbox.lives()).count()
    }
}

impl FakeSandbox {
    /// A copy of the socket at an address inside, if the server asked for one there.
    fn listening(&self, address: SocketAddrV4) -> Option<std::net::TcpListener> {
        if !self.spec.listen.iter().any(|listen| listen.address == address) {
            return None;
        }
        let mut all = self.listening.lock().unwrap();
        let made = all.entry(address).or_insert_with(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        });
        Some(made.try_clone().unwrap())
    }

    /// A connection from inside to the server.
    pub(crate) async fn calls(&self, address: &str) -> TcpStream {
        let listener = self.listening(address.parse().unwrap()).unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()
    }

    fn lives(&self) -> bool {
        !matches!(*self.state.borrow(), State::Exited(_))
    }

    /// All its sockets close; waits until that is to be seen.
    pub(crate) async fn hangs_up(&self) {
        self.server.abort();
        while TcpStream::connect(self.address).await.is_ok() {}
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    /// The agent dies.
    pub(crate) fn dies(&self, exit: Exit) {
        self.server.abort();
        self.state.send_if_modified(|state| {
            let lives = !matches!(state, State::Exited(_));
            if lives {
                *state = State::Exited(exit);
            }
            lives
        });
    }
}

#[async_trait]
impl Driver for FakeDriver {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn probe(&self) -> Result<Probe, sandbox::Error> {
        Ok(Probe {
            walls: Vec::new(),
            warnings: Vec::new(),
        })
    }

    async fn start(&self, spec: Spec) -> Result<Arc<dyn Sandbox>, sandbox::Error> {
        let agent = self.agent.lock().unwrap().clone();
        tokio::time::sleep(agent.start_takes).await;
        if let Some(error) = agent.cannot_start {
            return Err(error());
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, agent.serve.clone())).abort_handle();
        let state = match (&agent.exits_at_once, agent.listens) {
            (Some(exit), _) => State::Exited(exit.clone()),
            (None, true) => State::Listening,
            (None, false) => State::Started,
        };
        let sandbox = Arc::new(FakeSandbox {
            spec,
            agent,
            address,
            server,
            state: watch::Sender::new(state),
            dials: AtomicUsize::new(0),
            stops: Mutex::default(),
            assigned: Mutex::default(),
            paused: AtomicBool::new(false),
            notes: Mutex::default(),
            usage: Mutex::default(),
            listening: Mutex::default(),
        });
        self.sandboxes.lock().unwrap().push(Arc::clone(&sandbox));
        Ok(sandbox)
    }

    async fn list(&self) -> Result<Vec<Found>, sandbox::Error> {
        let mut found = self.left_over.lock().unwrap().clone();
        let sandboxes = self.sandboxes.lock().unwrap();
        found.extend(sandboxes.iter().filter(|sandbox| sandbox.lives()).map(|sandbox| Found {
            id: sandbox.spec.id.clone(),
            labels: sandbox.labels(),
            alive: true,
        }));
        Ok(found)
    }

    async fn adopt(&self, id: &SandboxId) -> Result<Arc<dyn Sandbox>, sandbox::Error> {
        let sandboxes = self.sandboxes.lock().unwrap();
        let found = sandboxes
            .iter()
            .find(|sandbox| sandbox.spec.id == *id && sandbox.lives());
        match found {
            Some(sandbox) => Ok(Arc::clone(sandbox) as Arc<dyn Sandbox>),
            None => Err(sandbox::Error::Gone),
        }
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            pause: true,
            storage: true,
        }
    }

    async fn destroy(&self, id: &SandboxId) -> Result<(), sandbox::Error> {
        self.destroyed.lock().unwrap().push(id.clone());
        let sandboxes = self.sandboxes.lock().unwrap();
        if let Some(sandbox) = sandboxes.iter().find(|sandbox| sandbox.spec.id == *id) {
            sandbox.dies(CRASH);
        }
        Ok(())
    }
}

#[async_trait]
impl Sandbox for FakeSandbox {
    fn id(&self) -> &SandboxId {
        &self.spec.id
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.spec.labels.clone();
        labels.extend(self.assigned.lock().unwrap().clone().unwrap_or_default());
        labels
    }

    async fn assign(&self, labels: BTreeMap<String, String>) -> Result<(), sandbox::Error> {
        let mut assigned = self.assigned.lock().unwrap();
        if assigned.is_some() {
            return Err(sandbox::Error::Assigned);
        }
        *assigned = Some(labels);
        Ok(())
    }

    fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    async fn dial(&self, port: u16) -> Result<Connection, sandbox::Error> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        if !self.lives() {
            return Err(sandbox::Error::Gone);
        }
        assert!(!self.paused.load(Ordering::SeqCst), "a paused sandbox was dialled");
        TcpStream::connect(self.address)
            .await
            .map_err(|_| sandbox::Error::Refused(port))
    }

    async fn listener(&self, address: SocketAddrV4) -> Result<TcpListener, sandbox::Error> {
        if !self.lives() {
            return Err(sandbox::Error::Gone);
        }
        self.listening(address)
            .map(|listener| TcpListener::from_std(listener).unwrap())
            .ok_or(sandbox::Error::Refused(address.port()))
    }

    async fn log_tail(&self, max: usize) -> Result<String, sandbox::Error> {
        let log = &self.agent.log;
        Ok(log[log.len().saturating_sub(max)..].to_owned())
    }

    async fn logs(&self, _follow: bool) -> Result<mpsc::Receiver<LogLine>, sandbox::Error> {
        let (lines, receiver) = mpsc::channel(64);
        for line in self.agent.log.lines() {
            let at = Timestamp::from_second(UNIX_START).unwrap();
            let (stream, text) = (Stream::Stdout, line.to_owned());
            let _ = lines.try_send(LogLine { at, stream, text });
        }
        Ok(receiver)
    }

    async fn note(&self, text: &str) -> Result<(), sandbox::Error> {
        self.notes.lock().unwrap().push(text.to_owned());
        Ok(())
    }

    async fn pause(&self) -> Result<(), sandbox::Error> {
        self.paused.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn resume(&self) -> Result<(), sandbox::Error> {
        self.paused.store(false, Ordering::SeqCst);
        Ok(())
    }

    async fn ports(&self) -> Result<Vec<u16>, sandbox::Error> {
        Ok(self.agent.other_ports.clone())
    }

    async fn usage(&self) -> Result<Usage, sandbox::Error> {
        Ok(*self.usage.lock().unwrap())
    }

    async fn stop(&self, grace: Duration) -> Result<Exit, sandbox::Error> {
        self.stops.lock().unwrap().push(grace);
        tokio::time::sleep(self.agent.stop_takes.min(grace)).await;
        let signal = if self.agent.stop_takes > grace { 9 } else { 15 };
        self.dies(Exit {
            code: None,
            signal: Some(signal),
            out_of_memory: false,
        });
        let State::Exited(exit) = self.state.borrow().clone() else {
            return Err(sandbox::Error::Gone);
        };
        Ok(exit)
    }
}

/// Aborting it closes all its connections.
async fn serve(listener: TcpListener, how: Serve) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        match how.clone() {
            Serve::Http(handler) => {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Serve::Raw(handler) => {
                connections.spawn(handler(stream));
            }
        }
    }
}

impl fmt::Debug for FakeDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeDriver")
    }
}

impl fmt::Debug for FakeSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeSandbox")
            .field("id", &self.spec.id)
            .finish_non_exhaustive()
    }
}

/// All that a test of sessions needs.
pub(crate) struct Rig {
    pub(crate) driver: Arc<FakeDriver>,
    pub(crate) router: Router,
    pub(crate) invoker: Invoker,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) target: Target,
}

impl Rig {
    /// Without warm sandboxes, so that starts can be counted.
    pub(crate) fn new(agent: Agent) -> Self {
        Self::with(agent, config())
    }

    pub(crate) fn with(agent: Agent, config: Config) -> Self {
        Self::over(FakeDriver::new(agent), config)
    }

    /// A server process with its own idea of the time, over a driver that may have sandboxes of another one.
    pub(crate) fn over(driver: Arc<FakeDriver>, config: Config) -> Self {
        Self::with_roles(driver, config, Arc::new(NoRoles), Journal::none())
    }

    /// The same with what it issues credentials by, and what it remembers.
    pub(crate) fn with_roles(driver: Arc<FakeDriver>, config: Config, roles: Arc<dyn Roles>, journal: Journal) -> Self {
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let began = driver.made;
        let clock = Clock::from_fn(move || {
            Timestamp::from_second(UNIX_START).unwrap() + jiff::SignedDuration::try_from(began.elapsed()).unwrap()
        });
        let router = Router::new(Parts {
            config,
            driver: Arc::clone(&driver) as Arc<dyn Driver>,
            clock,
            metrics: Arc::clone(&metrics),
            node: Node {
                owner: "node".to_owned(),
                epoch: 1,
            },
            journal,
            roles,
            storage_dir: "/storage".into(),
            rate: SessionRate::new(&Rates::unlimited()),
        });
        let invoker = Invoker::new(router.clone());
        let target = Target {
            endpoint: EndpointName::default_endpoint(),
            deployment: Arc::new(deployment()),
            switches: Arc::default(),
        };
        Self {
            driver,
            router,
            invoker,
            metrics,
            target,
        }
    }

    /// Invokes session `name` with a body and returns the reply.
    pub(crate) async fn invoke(&self, name: &str, payload: &str) -> Result<Reply, Error> {
        self.invoker
            .invoke(
                call(name, body::full(payload.to_owned())),
                self.target.clone(),
                &mut Recording::default(),
            )
            .await
    }

    /// Invokes session `name` and reads the answer to its end.
    pub(crate) async fn ask(&self, name: &str, payload: &str) -> Result<String, Error> {
        let (_, body) = streamed(self.invoke(name, payload).await?);
        let bytes = body
            .collect()
            .await
            .map_err(|error| Error::agent(error.to_string()))?
            .to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    pub(crate) async fn stop(&self, name: &str) -> Result<(), Error> {
        self.router.stop(&key(name), None).await
    }
}

/// The default, without warm sandboxes.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.warm.max = 0;
    config
}

pub(crate) fn streamed(reply: Reply) -> (HeaderMap, Outgoing) {
    let Reply::Stream { headers, body } = reply else {
        panic!("not a stream")
    };
    (headers, body)
}

/// The next chunk of a body.
pub(crate) async fn chunk(body: &mut Outgoing) -> Option<Result<Bytes, BodyError>> {
    Some(body.frame().await?.map(|frame| frame.into_data().unwrap()))
}

pub(crate) fn call(name: &str, body: RequestBody) -> Call {
    call_with(json!({ "runtimeSessionId": key(name).session.as_str() }), body)
}

pub(crate) fn call_with(input: Value, body: RequestBody) -> Call {
    let Value::Object(input) = input else {
        panic!("not an object")
    };
    let input: Map<String, Value> = input;
    let account = AccountId::parse("123456789012").unwrap();
    Call {
        operation: api::operation(api::Plane::Data, "InvokeAgentRuntime").unwrap(),
        input,
        body,
        headers: HeaderMap::new(),
        caller: Arc::new(Principal::root(account, "AKIAIOSFODNN7EXAMPLE".to_owned())),
        request_id: Uuid::nil(),
        received: Instant::now(),
    }
}

/// The key of a session whose id is `name`, filled up.
pub(crate) fn key(name: &str) -> Key {
    Key {
        runtime: RuntimeId::parse("agent-0123456789").unwrap(),
        endpoint: EndpointName::default_endpoint(),
        session: SessionId::parse(&format!("{name}-{}", "0".repeat(33))).unwrap(),
    }
}

pub(crate) fn deployment() -> Deployment {
    Deployment {
        arn: RuntimeArn {
            region: Region::parse("us-west-2").unwrap(),
            account: AccountId::parse("123456789012").unwrap(),
            id: RuntimeId::parse("agent-0123456789").unwrap(),
        },
        name: RuntimeName::parse("agent").unwrap(),
        version: Version::FIRST,
        package: "/package".into(),
        read_only: Vec::new(),
        command: vec!["main".to_owned()],
        environment: Vec::new(),
        port: 8080,
        path: "/invocations".to_owned(),
        idle_timeout: Duration::from_secs(900),
        max_lifetime: Duration::from_secs(28_800),
        header_allowlist: Vec::new(),
        storage: None,
        authorizer: None,
        role: "arn:aws:iam::123456789012:role/agent".to_owned(),
    }
}
