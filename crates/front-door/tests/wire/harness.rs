//! A real server with a fake service behind it, a signer, and a client that writes bytes as they are.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use domain::id::{AccountId, Region};
use domain::{Clock, Error};
use front_door::auth::{AccessKey, Directory, Verifier};
use front_door::service::{Access, Call, Head, OwnCall, OwnReply, Reply, Service, StsCall, StsRecord, StsReply};
use front_door::{Config, Drained, Inlet, Metrics, Readiness, Server, Wiring};
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(crate) const ARN: &str = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/agent-0123456789";
pub(crate) const INVOKE: &str =
    "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A123456789012%3Aruntime%2Fagent-0123456789/invocations";
/// No event of a test takes longer.
pub(crate) const LONG: Duration = Duration::from_secs(20);

type Answer<C, R> = Box<dyn Fn(C) -> BoxFuture<'static, Result<R, Error>> + Send + Sync>;

/// A service whose answers a test gives.
pub(crate) struct Fake {
    on_call: Answer<Call, Reply>,
    on_own: Answer<OwnCall, OwnReply>,
    /// Whose tokens the runtime of [`ARN`] takes.
    authorizer: Option<Arc<oauth::Config>>,
    /// Calls that arrived.
    pub(crate) calls: AtomicUsize,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

#[async_trait::async_trait]
impl Service for Fake {
    fn operations(&self) -> &'static [&'static api::Operation] {
        static ON: std::sync::LazyLock<Vec<&'static api::Operation>> = std::sync::LazyLock::new(|| {
            let on = |plane, name| api::operation(plane, name).expect("an operation of the model");
            vec![
                on(api::Plane::Data, "InvokeAgentRuntime"),
                on(api::Plane::Data, "StopRuntimeSession"),
                on(api::Plane::Control, "CreateAgentRuntime"),
                on(api::Plane::Control, "GetAgentRuntime"),
                on(api::Plane::Control, "ListAgentRuntimes"),
                on(api::Plane::Control, "ListTagsForResource"),
            ]
        });
        &ON
    }

    async fn call(&self, call: Call) -> Result<Reply, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        (self.on_call)(call).await
    }

    fn authorizer(&self, operation: &'static api::Operation, head: Head<'_>) -> Option<Arc<oauth::Config>> {
        let is_ours = operation.plane == api::Plane::Data && head.label("agentRuntimeArn") == Some(ARN);
        self.authorizer.clone().filter(|_| is_ours)
    }

    fn access(&self, operation: &'static api::Operation, _: &serde_json::Map<String, serde_json::Value>) -> Access {
        Access::of(format!("bedrock-agentcore:{}", operation.name), ARN)
    }

    fn own_access(&self, _: &OwnCall) -> Result<Access, Error> {
        Ok(Access::of("eyot:Test", "*"))
    }

    fn answers_sts(&self) -> bool {
        true
    }

    async fn call_sts(&self, call: StsCall) -> Result<StsReply, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let caller = call.key.map(|key| key.principal().arn.clone());
        let said = format!("{caller:?} {:?}", call.parameters);
        let reply = OwnReply {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: front_door::body::full(said),
        };
        let record = StsRecord::default();
        Ok(StsReply { reply, record })
    }

    fn own_routes(&self) -> &'static [&'static str] {
        &["artifacts"]
    }

    async fn call_own(&self, call: OwnCall) -> Result<OwnReply, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        (self.on_own)(call).await
    }
}

/// A running server.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    pub(crate) readiness: Readiness,
    pub(crate) spool: tempfile::TempDir,
    pub(crate) shutdown: CancellationToken,
    pub(crate) inlet: Inlet,
    task: JoinHandle<Drained>,
}

/// A configuration with deadlines that a test can wait for.
pub(crate) fn config() -> Config {
    Config {
        drain_grace: Duration::from_secs(10),
        ..Config::default()
    }
}

/// A server whose service answers calls with `on_call`.
pub(crate) async fn start<F, R>(config: Config, on_call: F) -> Running
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Reply, Error>> + Send + 'static,
{
    start_with(
        config,
        Box::new(move |call| Box::pin(on_call(call))),
        Box::new(|_| Box::pin(async { Err(Error::internal("no own routes here")) })),
    )
    .await
}

/// A server whose service answers calls with `on_call` and calls of its own routes with `on_own`.
pub(crate) async fn start_with(
    config: Config,
    on_call: Answer<Call, Reply>,
    on_own: Answer<OwnCall, OwnReply>,
) -> Running {
    let fake = Fake {
        on_call,
        on_own,
        authorizer: None,
        calls: AtomicUsize::new(0),
    };
    start_fake(config, fake).await
}

/// A server whose runtime takes bearer tokens.
pub(crate) async fn start_for<F, R>(config: Config, authorizer: Arc<oauth::Config>, on_call: F) -> Running
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Reply, Error>> + Send + 'static,
{
    let fake = Fake {
        on_call: Box::new(move |call| Box::pin(on_call(call))),
        on_own: Box::new(|_| Box::pin(async { Err(Error::internal("no own routes here")) })),
        authorizer: Some(authorizer),
        calls: AtomicUsize::new(0),
    };
    start_fake(config, fake).await
}

async fn start_fake(mut config: Config, fake: Fake) -> Running {
    let spool = tempfile::tempdir().unwrap();
    if config.spool_dir.is_none() {
        config.spool_dir = Some(spool.path().to_owned());
    }
    let fake = Arc::new(fake);
    let readiness = Readiness::default();
    let wiring = wiring(vec![Arc::clone(&fake) as Arc<dyn Service>], readiness.clone());
    let server = Server::bind(([127, 0, 0, 1], 0).into(), config, wiring).await.unwrap();
    let address = server.local_addr();
    let inlet = server.inlet();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.run(shutdown.clone()));
    Running {
        address,
        fake,
        readiness,
        spool,
        shutdown,
        inlet,
        task,
    }
}

/// What a server serves with these services.
pub(crate) fn wiring(services: Vec<Arc<dyn Service>>, readiness: Readiness) -> Wiring {
    let mut registry = Registry::default();
    let settings = oauth::Settings {
        allow_loopback: true,
        ..oauth::Settings::default()
    };
    let metrics = oauth::Metrics::register(&mut registry);
    Wiring {
        services,
        verifier: verifier(),
        tokens: oauth::Providers::new(&settings, Clock::system(), metrics).unwrap(),
        account: AccountId::parse("123456789012").unwrap(),
        region: Region::parse("us-west-2").unwrap(),
        audit: front_door::audit::Log::off(),
        clock: Clock::system(),
        metrics: Metrics::register(&mut registry),
        registry: Arc::new(registry),
        readiness,
    }
}

fn verifier() -> Verifier {
    let key = AccessKey {
        id: KEY_ID.to_owned(),
        account: AccountId::parse("123456789012").unwrap(),
        secret: SECRET.to_owned().into(),
        session_token: None,
        enabled: true,
    };
    Verifier::new(Arc::new(Directory::fixed([key]).unwrap()), "us-west-2", Clock::system())
}

impl Running {
    pub(crate) async fn connect(&self) -> Raw<TcpStream> {
        Raw::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// One signed request on a connection of its own.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &[u8]) -> Wire {
        self.send_with(method, path, &[], body).await
    }

    pub(crate) async fn send_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Wire {
        let mut raw = self.connect().await;
        raw.write(&self.signed(method, path, headers, body)).await;
        raw.answer().await
    }

    /// The bytes of a signed request.
    pub(crate) fn signed(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        [self.head(method, path, headers, body, false), body.to_vec()].concat()
    }

    /// The head of a signed request for a body; `declare` sends the body's hash along.
    pub(crate) fn head(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        declare: bool,
    ) -> Vec<u8> {
        let signed = sign_for(&self.address.to_string(), method, path, headers, body, declare);
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers
            .iter()
            .map(|(n, v)| (*n, *v))
            .chain(signed.iter().map(|(n, v)| (n.as_str(), v.as_str())))
        {
            head += &format!("{name}: {value}\r\n");
        }
        let is_chunked = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
        if !is_chunked && (!body.is_empty() || method != "GET") {
            head += &format!("content-length: {}\r\n", body.len());
        }
        (head + "\r\n").into_bytes()
    }

    pub(crate) fn calls(&self) -> usize {
        self.fake.calls.load(Ordering::SeqCst)
    }

    /// What `/_eyot/metrics` shows.
    pub(crate) async fn metrics(&self) -> String {
        let mut raw = self.connect().await;
        raw.write(b"GET /_eyot/metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        raw.answer().await.text()
    }

    /// Waits until a metric has a value, such as a gauge that a task updates when it ends.
    pub(crate) async fn wait_for_metric(&self, line: &str) {
        let deadline = tokio::time::Instant::now() + LONG;
        loop {
            let text = self.metrics().await;
            if text.lines().any(|found| found == line) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "no '{line}' in:\n{text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Begins to stop; the answer tells how it ended.
    pub(crate) fn stop(self) -> JoinHandle<Drained> {
        self.shutdown.cancel();
        self.task
    }
}

/// One unsigned request on a connection of its own.
pub(crate) async fn plain(server: &Running, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Wire {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", server.address);
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n{body}", body.len());
    let mut raw = server.connect().await;
    raw.write(head.as_bytes()).await;
    raw.answer().await
}

/// Headers that sign a request, as the AWS SDK for Rust makes them.
pub(crate) fn sign_for(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    declare: bool,
) -> Vec<(String, String)> {
    let identity = Credentials::new(KEY_ID, SECRET, None, None, "test").into();
    let mut settings = SigningSettings::default();
    if declare {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let params = SigningParams::builder()
        .identity(&identity)
        .region("us-west-2")
        .name("bedrock-agentcore")
        .time(SystemTime::from(Clock::system().now()))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let uri = format!("http://{host}{path}");
    // What a client's HTTP library adds on its own is never signed.
    let headers = headers
        .iter()
        .copied()
        .filter(|(name, _)| !matches!(*name, "transfer-encoding" | "expect" | "connection"));
    let request = SignableRequest::new(method, &uri, headers, SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    instructions
        .headers()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A connection on which bytes are written as they are.
pub(crate) struct Raw<S> {
    pub(crate) stream: S,
    /// Received and not yet taken.
    buffer: Vec<u8>,
}

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        tokio::time::timeout(LONG, self.stream.write_all(bytes))
            .await
            .expect("the server reads")
            .unwrap();
    }

    /// Reads up to and including `mark`; `None` when the connection ended before.
    pub(crate) async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return Some(self.buffer.drain(..at + mark.len()).collect());
            }
            if self.more().await == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn head(&mut self) -> Wire {
        let head = self.until(b"\r\n\r\n").await.expect("a response");
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Wire {
            status,
            headers,
            body: Vec::new(),
        }
    }

    /// A whole response.
    pub(crate) async fn answer(&mut self) -> Wire {
        let mut wire = self.head().await;
        if let Some(length) = wire.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length {
                assert_ne!(self.more().await, 0, "the body ended early");
            }
            wire.body = self.buffer.drain(..length).collect();
        } else if wire.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await.expect("a whole body") {
                wire.body.extend(chunk);
            }
        }
        wire
    }

    /// The next chunk; `Ok(None)` is the end, `Err` a broken body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, ()> {
        let size = self.until(b"\r\n").await.ok_or(())?;
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
        while self.buffer.len() < size + 2 {
            if self.more().await == 0 {
                return Err(());
            }
        }
        let mut chunk: Vec<u8> = self.buffer.drain(..size + 2).collect();
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    /// Whether the server has closed and everything was read.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.more().await == 0
    }

    async fn more(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.buffer);
        // A reset is an end as well.
        tokio::time::timeout(LONG, read)
            .await
            .expect("the server answers or closes")
            .unwrap_or(0)
    }
}

impl Wire {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks what every error has, and returns its document.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, name: &str) -> serde_json::Value {
        assert_eq!(
            (self.status, self.header("x-amzn-errortype")),
            (status, Some(name)),
            "{self:?}"
        );
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("x-amzn-requestid").map(str::len), Some(36));
        assert_eq!(self.header("www-authenticate"), None);
        let document = self.json();
        assert!(
            document["message"].as_str().is_some_and(|message| !message.is_empty()),
            "{self:?}"
        );
        document
    }
}
