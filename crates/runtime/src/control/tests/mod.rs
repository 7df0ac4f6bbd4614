//! The control plane through [`Service::call`], over a real package store, with sessions in fake sandboxes.
//!
//! [`Ground`] is what outlives the server: the disk. [`Bed`] is one server process on it.

mod authorizers;
mod crash;
mod endpoints;
mod lists;
mod packages;
mod races;
mod runtimes;
mod serving;
mod tokens_and_tags;
mod trials;

use super::{Control, Parts, Quotas};
use crate::artifacts::{self, Artifacts, S3};
use crate::catalog::Catalog;
use crate::journal::Journal;
use crate::observe::{self, Observer};
use crate::service::{self, RuntimeService};
use crate::session::testing::{Agent, Rig};
use crate::throttle::Rates;
use async_trait::async_trait;
use domain::error::Error;
use domain::id::{AccountId, EndpointName, Region, RuntimeId};
use domain::{Clock, Kind, Principal};
use front_door::body;
use front_door::service::{Call, OwnCall, OwnReply, Reply, Service};
use http::{HeaderMap, Method};
use jiff::{SignedDuration, Timestamp};
use sandbox::managed::Runtimes;
use sandbox::package;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use storage::{Blob, Blobs, Records, Upload};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zip::write::SimpleFileOptions;

pub(super) const BUCKET: &str = "eyot-artifacts";
pub(super) const ACCOUNT: &str = "123456789012";

/// What outlives the server.
pub(super) struct Ground {
    dir: Arc<TempDir>,
    pub(super) records: Arc<dyn Records>,
    pub(super) blobs: Arc<HeldBlobs>,
    /// Seconds that the wall clock has been put forward.
    pub(super) ahead: Arc<AtomicI64>,
    pub(super) quotas: Quotas,
    pub(super) s3: BTreeMap<String, S3>,
    /// Who judges what is warm, if not the router.
    pub(super) warm: Option<Arc<serving::Script>>,
}

/// One server process.
pub(super) struct Bed {
    pub(super) service: RuntimeService,
    pub(super) control: Control,
    pub(super) catalog: Catalog,
    pub(super) rig: Rig,
}

impl Ground {
    /// Records in SQLite.
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let records = Arc::new(storage::sqlite::Store::open(dir.path().join("eyot.db")).unwrap());
        Self::with(dir, records)
    }

    /// Records in memory, where a test makes thousands of commits.
    pub(super) fn in_memory() -> Self {
        Self::with(TempDir::new().unwrap(), Arc::new(crate::memory::Memory::default()))
    }

    pub(super) fn with(dir: TempDir, records: Arc<dyn Records>) -> Self {
        let blobs = storage::files::FileBlobs::open(dir.path().join("blobs")).unwrap();
        let blobs = Arc::new(HeldBlobs {
            blobs,
            held: watch::Sender::new(false),
        });
        let quotas = Quotas {
            rates: Rates::unlimited(),
            ..Quotas::default()
        };
        Self {
            dir: Arc::new(dir),
            records,
            blobs,
            ahead: Arc::default(),
            quotas,
            s3: BTreeMap::new(),
            warm: None,
        }
    }

    /// The same disk with other records.
    pub(super) fn with_records(&self, records: Arc<dyn Records>) -> Self {
        let Self {
            dir,
            blobs,
            ahead,
            quotas,
            s3,
            ..
        } = self;
        let (dir, blobs, ahead) = (Arc::clone(dir), Arc::clone(blobs), Arc::clone(ahead));
        Self {
            dir,
            records,
            blobs,
            ahead,
            quotas: quotas.clone(),
            s3: s3.clone(),
            warm: None,
        }
    }

    /// Starts a server, with the artifact `agent.zip` uploaded.
    pub(super) async fn start(&self) -> Bed {
        let bed = self.start_on(Arc::clone(&self.records)).await.unwrap();
        if self
            .blobs
            .blobs
            .open(&format!("{BUCKET}/agent.zip"))
            .await
            .unwrap()
            .is_none()
        {
            bed.upload("agent.zip", package(&[("agent", program())])).await;
        }
        bed
    }

    /// Starts a server on other records.
    pub(super) async fn start_on(&self, records: Arc<dyn Records>) -> Result<Bed, Error> {
        static INTERPRETERS: OnceLock<Arc<Runtimes>> = OnceLock::new();
        let managed = Arc::clone(INTERPRETERS.get_or_init(|| Arc::new(Runtimes::discover(BTreeMap::new()))));
        let ahead = Arc::clone(&self.ahead);
        let clock = Clock::from_fn(move || Timestamp::now() + SignedDuration::from_secs(ahead.load(Ordering::Relaxed)));
        let artifacts = Artifacts::new(
            artifacts::Config::default(),
            &self.s3,
            Arc::clone(&self.blobs) as Arc<dyn Blobs>,
            Arc::new(package::Store::open(&self.packages()).unwrap()),
            managed,
            &self.dir.path().join("scratch"),
            clock.clone(),
        );
        let artifacts = Arc::new(artifacts.unwrap());
        let rig = Rig::new(Agent::echo());
        let catalog = Catalog::default();
        let region = Region::parse("us-west-2").unwrap();
        let account = AccountId::parse(ACCOUNT).unwrap();
        let parts = Parts {
            region: region.clone(),
            account: account.clone(),
            quotas: self.quotas.clone(),
            reach: oauth::Reach::default(),
            records,
            artifacts: Arc::clone(&artifacts),
            sessions: rig.router.clone(),
            catalog: catalog.clone(),
            clock: clock.clone(),
        };
        let control = match self.warm.clone() {
            Some(script) => Control::recover_with(parts, Box::new(move |target| script.look(target))).await?,
            None => Control::recover(parts).await?,
        };
        let observer = Observer::new(observe::Parts {
            region: region.clone(),
            account: account.clone(),
            sessions: rig.router.clone(),
            journal: Journal::none(),
            clock,
            closing: CancellationToken::new(),
        });
        let service = RuntimeService::new(service::Parts {
            region,
            account,
            control: control.clone(),
            catalog: catalog.clone(),
            invoker: rig.invoker.clone(),
            artifacts,
            observer,
            tracer: None,
        });
        Ok(Bed {
            service,
            control,
            catalog,
            rig,
        })
    }

    /// Where unpacked packages lie.
    pub(super) fn packages(&self) -> PathBuf {
        self.dir.path().join("packages")
    }

    /// How many packages are unpacked.
    pub(super) fn unpacked(&self) -> usize {
        std::fs::read_dir(self.packages()).unwrap().count()
    }
}

impl Bed {
    /// Calls a modelled operation.
    pub(super) async fn call(&self, operation: &str, input: Value) -> Result<Value, Error> {
        match self.reply(operation, input, "").await? {
            Reply::Document(answer) => Ok(Value::Object(answer)),
            Reply::Stream { .. } => panic!("{operation} answered a stream"),
        }
    }

    pub(super) async fn reply(&self, operation: &str, input: Value, payload: &str) -> Result<Reply, Error> {
        let Value::Object(input) = input else {
            panic!("an object")
        };
        let mut switched_on = self.service.operations().iter().copied();
        let operation = switched_on
            .find(|known| known.name == operation)
            .expect("it is switched on");
        let call = Call {
            operation,
            input,
            body: body::full(payload.to_owned()),
            headers: HeaderMap::new(),
            caller: caller(),
            request_id: uuid::Uuid::nil(),
            received: tokio::time::Instant::now(),
        };
        self.service.call(call).await
    }

    /// A request to the artifact route.
    pub(super) async fn own(&self, method: Method, path: &str, body: body::Incoming) -> Result<OwnReply, Error> {
        let call = OwnCall {
            method,
            path: path.split('/').map(str::to_owned).collect(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body,
            caller: caller(),
            request_id: uuid::Uuid::nil(),
        };
        self.service.call_own(call).await
    }

    pub(super) async fn upload(&self, key: &str, content: Vec<u8>) {
        self.own(Method::PUT, &format!("artifacts/{BUCKET}/{key}"), body::full(content))
            .await
            .unwrap();
    }

    /// Creates a runtime from `agent.zip` and answers its id.
    pub(super) async fn create(&self, name: &str) -> String {
        let answer = self
            .call("CreateAgentRuntime", create(name, "agent.zip"))
            .await
            .unwrap();
        answer["agentRuntimeId"].as_str().unwrap().to_owned()
    }

    /// Creates a runtime and waits until it is ready.
    pub(super) async fn ready(&self, name: &str) -> String {
        let id = self.create(name).await;
        assert_eq!(self.settled(&id).await["status"], "READY");
        id
    }

    pub(super) async fn get(&self, id: &str) -> Result<Value, Error> {
        self.call("GetAgentRuntime", json!({"agentRuntimeId": id})).await
    }

    pub(super) async fn endpoint(&self, id: &str, name: &str) -> Result<Value, Error> {
        self.call(
            "GetAgentRuntimeEndpoint",
            json!({"agentRuntimeId": id, "endpointName": name}),
        )
        .await
    }

    /// Waits, as clients do, until the runtime is in no transition.
    pub(super) async fn settled(&self, id: &str) -> Value {
        poll(|| async { self.get(id).await.ok().filter(is_settled) }).await
    }

    /// Waits until the endpoint is in no transition.
    pub(super) async fn endpoint_settled(&self, id: &str, name: &str) -> Value {
        poll(|| async { self.endpoint(id, name).await.ok().filter(is_settled) }).await
    }

    /// Waits until the runtime is gone.
    pub(super) async fn gone(&self, id: &str) {
        poll(|| async { self.get(id).await.err().filter(|error| error.kind == Kind::NotFound) }).await;
    }

    /// The version that an endpoint serves.
    pub(super) fn serves(&self, id: &str, endpoint: &str) -> Result<u32, Error> {
        let endpoint = EndpointName::parse(endpoint).unwrap();
        let target = self.catalog.resolve(&RuntimeId::parse(id).unwrap(), Some(&endpoint))?;
        assert_eq!(target.endpoint, endpoint);
        Ok(target.deployment.version.0)
    }
}

/// Blobs whose objects cannot be opened while they are held: an artifact that takes its time.
#[derive(Debug)]
pub(super) struct HeldBlobs {
    blobs: storage::files::FileBlobs,
    held: watch::Sender<bool>,
}

impl HeldBlobs {
    pub(super) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }
}

#[async_trait]
impl Blobs for HeldBlobs {
    async fn upload(&self, key: &str) -> Result<Box<dyn Upload>, storage::Error> {
        self.blobs.upload(key).await
    }

    async fn open(&self, key: &str) -> Result<Option<Blob>, storage::Error> {
        self.held.subscribe().wait_for(|held| !held).await.unwrap();
        self.blobs.open(key).await
    }

    async fn delete(&self, key: &str) -> Result<bool, storage::Error> {
        self.blobs.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, storage::Error> {
        self.blobs.list(prefix, after, limit).await
    }
}

/// Asks until there is an answer.
pub(super) async fn poll<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    let answer = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answer)
        .await
        .expect("it settles in time")
}

fn is_settled(shown: &Value) -> bool {
    matches!(
        shown["status"].as_str(),
        Some("READY" | "CREATE_FAILED" | "UPDATE_FAILED")
    )
}

fn caller() -> Arc<Principal> {
    let account = AccountId::parse(ACCOUNT).unwrap();
    Arc::new(Principal::root(account, "AKIAIOSFODNN7EXAMPLE".to_owned()))
}

/// A `CreateAgentRuntime` input.
pub(super) fn create(name: &str, key: &str) -> Value {
    let mut input = configuration(BUCKET, key);
    input["agentRuntimeName"] = name.into();
    input
}

/// An `UpdateAgentRuntime` input.
pub(super) fn update(id: &str, key: &str) -> Value {
    let mut input = configuration(BUCKET, key);
    input["agentRuntimeId"] = id.into();
    input
}

/// What a creation and an update share.
pub(super) fn configuration(bucket: &str, key: &str) -> Value {
    json!({
        "roleArn": format!("arn:aws:iam::{ACCOUNT}:role/agent"),
        "agentRuntimeArtifact": {"codeConfiguration": {
            "code": {"s3": {"bucket": bucket, "prefix": key}},
            "runtime": "PYTHON_3_11",
            "entryPoint": ["agent"],
        }},
    })
}

/// `base` with some members more.
pub(super) fn with(mut base: Value, more: Value) -> Value {
    let (Value::Object(all), Value::Object(more)) = (&mut base, more) else {
        panic!("objects")
    };
    all.extend(more);
    base
}

/// A token as SDKs make them.
pub(super) fn token() -> Value {
    uuid::Uuid::new_v4().to_string().into()
}

/// The head of a native program of this machine, which is all that the control plane looks at.
pub(super) fn program() -> Vec<u8> {
    use std::io::Read;
    let mut head = vec![0; 4096];
    // This file stays readable when cargo replaces the test binary meanwhile.
    let own = std::fs::File::open("/proc/self/exe").or_else(|_| std::fs::File::open(std::env::current_exe()?));
    own.unwrap().read_exact(&mut head).unwrap();
    head
}

/// A code package of executable files.
pub(super) fn package(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755))
            .unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Whether a call was refused with this kind, and with all these words in its message.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, Error>, kind: &Kind, words: &[&str]) {
    let error = result.expect_err("it is refused");
    let same = std::mem::discriminant(&error.kind) == std::mem::discriminant(kind);
    assert!(same, "{error:?} is not {kind:?}");
    for word in words {
        assert!(
            error.message.contains(word),
            "'{}' does not say '{word}'",
            error.message
        );
    }
}

/// [`Kind::Invalid`], whatever its fields.
pub(super) fn invalid() -> Kind {
    Kind::Invalid {
        reason: domain::error::InvalidReason::FieldValidationFailed,
        fields: Vec::new(),
    }
}

/// An empty JSON object.
pub(super) fn nothing() -> Value {
    Value::Object(Map::new())
}
