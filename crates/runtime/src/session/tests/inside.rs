//! What a sandbox gets from this server: credentials in every turn of its life.

use super::*;
use crate::artifacts::Secret;
use crate::credentials::{self, Roles, Temporary, Wanted};
use crate::journal::{self, Journal};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::session::testing::{FakeDriver, FakeSandbox, UNIX_START, config};
use async_trait::async_trait;
use domain::Clock;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const METADATA: &str = "169.254.169.254:80";
const API: &str = "169.254.171.1:80";
const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/execution_role";

/// Roles that remember.
#[derive(Debug, Default)]
struct Fake {
    issued: Mutex<Vec<String>>,
    revoked: Mutex<Vec<String>>,
}

#[async_trait]
impl Roles for Fake {
    async fn issue(&self, wanted: &Wanted<'_>) -> Result<Temporary, credentials::Error> {
        let mut issued = self.issued.lock().unwrap();
        issued.push(format!("{} {}", wanted.role_arn, wanted.session_name));
        Ok(Temporary {
            access_key_id: format!("key-{}", issued.len()),
            secret_access_key: Secret::new("secret"),
            session_token: Secret::new("token"),
            expires_at: Timestamp::from_second(UNIX_START).unwrap() + SignedDuration::from_hours(1),
        })
    }

    async fn revoke(&self, access_key_id: &str, _: Timestamp) -> Result<(), credentials::Error> {
        self.revoked.lock().unwrap().push(access_key_id.to_owned());
        Ok(())
    }
}

impl Fake {
    fn revoked(&self) -> Vec<String> {
        let mut revoked = self.revoked.lock().unwrap().clone();
        revoked.sort();
        revoked
    }

    /// For which sessions of the role.
    fn names(&self) -> Vec<String> {
        let issued = self.issued.lock().unwrap();
        let name = |line: &String| {
            line.strip_prefix("arn:aws:iam::123456789012:role/agent ")
                .unwrap()
                .to_owned()
        };
        issued.iter().map(name).collect()
    }
}

/// A request from inside; status and body.
async fn request(sandbox: &FakeSandbox, method: &str, path: &str, header: &str) -> (u16, String) {
    let mut stream = sandbox.calls(METADATA).await;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn token(sandbox: &FakeSandbox) -> String {
    let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 60";
    let (status, token) = request(sandbox, "PUT", "/latest/api/token", ttl).await;
    assert_eq!(status, 200, "{token}");
    format!("x-aws-ec2-metadata-token: {token}")
}

/// The access key id that an agent gets.
async fn fetch(sandbox: &FakeSandbox) -> String {
    let token = token(sandbox).await;
    let (status, body) = request(sandbox, "GET", CREDENTIALS, &token).await;
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    body["AccessKeyId"].as_str().unwrap().to_owned()
}

fn rig(config: Config) -> (Rig, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let roles = Arc::clone(&fake) as Arc<dyn Roles>;
    let rig = Rig::with_roles(FakeDriver::new(counting()), config, roles, Journal::none());
    (rig, fake)
}

#[tokio::test]
async fn a_session_has_credentials_of_its_role_until_its_end() {
    let (rig, fake) = rig(config());
    rig.ask("a", "").await.unwrap();
    let sandbox = rig.driver.sandbox(0);
    assert!(fake.names().is_empty(), "nobody has asked");
    assert_eq!(fetch(&sandbox).await, "key-1");
    assert_eq!(fetch(&sandbox).await, "key-1");
    assert_eq!(fake.names(), [key("a").session.as_str()]);
    let report = &rig.router.reports(|_| true)[0];
    assert_eq!(report.credentials[0].access_key_id, "key-1");
    let shown = serde_json::to_string(report).unwrap();
    assert!(!shown.contains("secret") && !shown.contains("\"token\""), "{shown}");
    assert!(fake.revoked().is_empty());
    rig.stop("a").await.unwrap();
    assert_eq!(fake.revoked(), ["key-1"]);
}

#[tokio::test]
async fn nothing_secret_is_in_an_environment() {
    let (rig, _) = rig(config());
    rig.ask("a", "").await.unwrap();
    let sandbox = rig.driver.sandbox(0);
    fetch(&sandbox).await;
    for (name, value) in &sandbox.spec.env {
        assert!(!value.contains("key-") && !value.contains("secret"), "{name}={value}");
        assert!(!name.contains("DISABLED") && !name.contains("CREDENTIALS"), "{name}");
    }
    let variables: Vec<_> = sandbox
        .spec
        .listen
        .iter()
        .flat_map(|listen| &listen.variables)
        .collect();
    assert_eq!(
        variables,
        [
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE",
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL",
            "AWS_ENDPOINT_URL_STS",
        ]
    );
}

#[tokio::test]
async fn two_sandboxes_have_their_own_and_a_token_is_good_for_one() {
    let (rig, fake) = rig(config());
    rig.ask("a", "").await.unwrap();
    rig.ask("b", "").await.unwrap();
    let [a, b] = [rig.driver.sandbox(0), rig.driver.sandbox(1)];
    assert_eq!(
        (fetch(&a).await, fetch(&b).await),
        ("key-1".to_owned(), "key-2".to_owned())
    );
    let of_a = token(&a).await;
    assert_eq!(request(&a, "GET", CREDENTIALS, &of_a).await.0, 200);
    assert_eq!(request(&b, "GET", CREDENTIALS, &of_a).await.0, 401);
    rig.stop("a").await.unwrap();
    assert_eq!(fake.revoked(), ["key-1"]);
    assert_eq!(fetch(&b).await, "key-2");
}

#[tokio::test]
async fn what_a_warm_sandbox_has_fetched_is_its_sessions_alone() {
    let mut with_pool = config();
    (with_pool.warm.max, with_pool.warm.min) = (1, 1);
    let (rig, fake) = rig(with_pool);
    rig.router
        .serving(&rig.target.deployment.arn.id, std::slice::from_ref(&rig.target));
    while rig.driver.started() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let sandbox = rig.driver.sandbox(0);
    assert!(fake.names().is_empty(), "the pool itself fetches none");
    // As a client does that is made while the agent's program is loaded.
    assert_eq!(fetch(&sandbox).await, "key-1");
    while !rig.router.reports(|_| true).iter().any(|report| report.start.warm) {
        rig.ask("a", "").await.unwrap();
    }
    assert_eq!(fetch(&sandbox).await, "key-2", "the next ones bear the session's name");
    let unassigned = format!("sandbox-{}", sandbox.spec.id);
    assert_eq!(fake.names(), [unassigned, key("a").session.as_str().to_owned()]);
    let report = &rig.router.reports(|_| true)[0];
    assert_eq!(report.credentials.len(), 2);
    rig.stop("a").await.unwrap();
    assert_eq!(fake.revoked(), ["key-1", "key-2"]);
    // One that no session ever got.
    while rig.driver.started() < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fetch(&rig.driver.sandbox(1)).await, "key-3");
    assert_eq!(rig.router.shutdown(5 * SECOND).await, 0);
    assert_eq!(fake.revoked(), ["key-1", "key-2", "key-3"]);
}

#[tokio::test]
async fn a_role_without_credentials_is_said_once_in_the_log() {
    let rig = Rig::new(counting());
    rig.ask("a", "").await.unwrap();
    let sandbox = rig.driver.sandbox(0);
    let token = token(&sandbox).await;
    for _ in 0..3 {
        let (status, body) = request(&sandbox, "GET", CREDENTIALS, &token).await;
        assert_eq!(status, 404);
        assert!(
            body.contains("no role 'arn:aws:iam::123456789012:role/agent'"),
            "{body}"
        );
    }
    while sandbox.notes.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let notes = sandbox.notes.lock().unwrap().clone();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("no credentials: "), "{notes:?}");
}

async fn remembering(records: &Arc<Memory>) -> Journal {
    let journal = journal::Parts {
        records: Arc::clone(records) as _,
        clock: Clock::from_fn(|| Timestamp::from_second(UNIX_START).unwrap()),
        metrics: Arc::new(Metrics::register(&mut Registry::default())),
        history: 10,
    };
    Journal::open(journal).await.unwrap()
}

#[tokio::test]
async fn credentials_outlive_a_server_and_are_taken_back_by_the_next() {
    let records = Arc::new(Memory::default());
    let fake = Arc::new(Fake::default());
    let driver = FakeDriver::new(counting());
    let roles = || Arc::clone(&fake) as Arc<dyn Roles>;
    let journal = remembering(&records).await;
    let rig = Rig::with_roles(Arc::clone(&driver), config(), roles(), journal.clone());
    for name in ["a", "b"] {
        rig.ask(name, "").await.unwrap();
    }
    let [a, b] = [driver.sandbox(0), driver.sandbox(1)];
    assert_eq!(
        (fetch(&a).await, fetch(&b).await),
        ("key-1".to_owned(), "key-2".to_owned())
    );
    let stale = token(&a).await;
    assert_eq!(rig.router.leave(5 * SECOND).await, 0);
    journal.flush().await;
    assert!(fake.revoked().is_empty(), "the sessions go on");
    // Nobody answers, and who asks waits.
    let early = {
        let a = Arc::clone(&a);
        tokio::spawn(async move { request(&a, "GET", CREDENTIALS, &stale).await.0 })
    };
    // One of them ends while no server is there.
    b.dies(CRASH);
    let journal = remembering(&records).await;
    let rig = Rig::with_roles(Arc::clone(&driver), config(), roles(), journal.clone());
    let recovered = rig.router.recover().await.unwrap();
    assert_eq!(recovered.adopted, 1);
    assert_eq!(fake.revoked(), ["key-2"], "those of the session that is gone");
    assert_eq!(early.await.unwrap(), 401, "tokens are of one server process");
    assert_eq!(rig.router.reports(|_| true)[0].credentials[0].access_key_id, "key-1");
    assert_eq!(fetch(&a).await, "key-3");
    rig.stop("a").await.unwrap();
    assert_eq!(fake.revoked(), ["key-1", "key-2", "key-3"]);
    journal.flush().await;
}

#[tokio::test]
async fn an_agent_that_calls_before_the_server_serves_waits() {
    let (rig, _) = rig(config());
    rig.ask("a", "").await.unwrap();
    let mut stream = rig.driver.sandbox(0).calls(API).await;
    stream.write_all(b"GET /_eyot/healthz HTTP/1.1\r\n\r\n").await.unwrap();
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut byte)).await;
    assert!(read.is_err(), "nobody answers, and nobody hangs up: {read:?}");
}
