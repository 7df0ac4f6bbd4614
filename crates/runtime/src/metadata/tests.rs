//! The service as bytes on a connection.

use super::*;
use crate::artifacts::Secret;
use crate::credentials::wallet::Of;
use crate::credentials::{Roles, Temporary, Wanted};
use async_trait::async_trait;
use jiff::SignedDuration;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

#[derive(Debug, Default)]
struct Fake {
    fails: Mutex<Option<credentials::Error>>,
    issues: AtomicUsize,
}

#[async_trait]
impl Roles for Fake {
    async fn issue(&self, _: &Wanted<'_>) -> Result<Temporary, credentials::Error> {
        if let Some(error) = self.fails.lock().unwrap().clone() {
            return Err(error);
        }
        self.issues.fetch_add(1, Ordering::SeqCst);
        Ok(Temporary {
            access_key_id: "ASIAEXAMPLE".to_owned(),
            secret_access_key: Secret::new("sec/ret+"),
            session_token: Secret::new("tok\"en"),
            expires_at: start() + SignedDuration::from_millis(3_600_500),
        })
    }

    async fn revoke(&self, _: &str, _: Timestamp) -> Result<(), credentials::Error> {
        Ok(())
    }
}

fn start() -> Timestamp {
    "2026-11-25T12:00:00.25Z".parse().unwrap()
}

struct Bed {
    metadata: Arc<Metadata>,
    fake: Arc<Fake>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Bed {
    fn new() -> Self {
        let fake = Arc::new(Fake::default());
        let clock = Clock::from_fn(start);
        let roles = Arc::clone(&fake) as Arc<dyn Roles>;
        let wallet = Wallet::new(Of {
            role: "role".to_owned(),
            name: "name".to_owned(),
            source: crate::session::testing::deployment().arn,
            roles,
            clock: clock.clone(),
            issued: Arc::default(),
        });
        let region = Region::parse("us-west-2").unwrap();
        Self {
            metadata: Metadata::new(wallet, region, clock).unwrap(),
            fake,
            said: Arc::default(),
        }
    }

    fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (metadata, said) = (Arc::clone(&self.metadata), Arc::clone(&self.said));
        tokio::spawn(metadata.serve(server, move |text: &str| said.lock().unwrap().push(text.to_owned())));
        client
    }

    /// Sends bytes on a connection of their own and gives all that comes back.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut client = self.connect();
        client.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Status and body.
    async fn ask(&self, method: &str, path: &str, headers: &[&str]) -> (u16, String) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 169.254.169.254\r\nconnection: close\r\n");
        for header in headers {
            head += header;
            head += "\r\n";
        }
        let answer = self.raw(format!("{head}\r\n").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    async fn token(&self) -> String {
        let (status, token) = self
            .ask("PUT", TOKEN_PATH, &["x-aws-ec2-metadata-token-ttl-seconds: 21600"])
            .await;
        assert_eq!(status, 200);
        format!("X-aws-ec2-metadata-token: {token}")
    }
}

const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/execution_role";

#[tokio::test]
async fn credentials_are_as_aws_writes_them() {
    let bed = Bed::new();
    let token = bed.token().await;
    for path in [ROLES_PATH, "/latest/meta-data/iam/security-credentials/"] {
        assert_eq!(
            bed.ask("GET", path, &[&token]).await,
            (200, "execution_role".to_owned())
        );
    }
    assert_eq!(
        bed.ask("GET", REGION_PATH, &[&token]).await,
        (200, "us-west-2".to_owned())
    );
    let (status, body) = bed.ask("GET", CREDENTIALS, &[&token]).await;
    assert_eq!(status, 200);
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "Code": "Success", "LastUpdated": "2026-11-25T12:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "sec/ret+", "Token": "tok\"en", "Expiration": "2026-11-25T13:00:00Z",
    });
    assert_eq!(document, expected);
    assert!(bed.said.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_is_answered_who_does_not_ask_as_an_agent_does() {
    let bed = Bed::new();
    let token = bed.token().await;
    let another = Bed::new().token().await;
    let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 60";
    for (method, path, headers, expected) in [
        ("GET", CREDENTIALS, &[][..], 401),
        ("GET", CREDENTIALS, &["x-aws-ec2-metadata-token: guessed"], 401),
        ("GET", CREDENTIALS, &[&*another], 401),
        ("GET", ROLES_PATH, &[], 401),
        ("GET", REGION_PATH, &[], 401),
        ("GET", CREDENTIALS, &[&*token, "x-forwarded-for: 10.0.0.1"], 403),
        ("PUT", TOKEN_PATH, &[ttl, "X-Forwarded-For: 10.0.0.1"], 403),
        ("PUT", TOKEN_PATH, &[], 400),
        ("PUT", TOKEN_PATH, &["x-aws-ec2-metadata-token-ttl-seconds: 0"], 400),
        ("PUT", TOKEN_PATH, &["x-aws-ec2-metadata-token-ttl-seconds: 21601"], 400),
        ("PUT", TOKEN_PATH, &["x-aws-ec2-metadata-token-ttl-seconds: -1"], 400),
        ("PUT", TOKEN_PATH, &["x-aws-ec2-metadata-token-ttl-seconds: 1h"], 400),
        ("GET", TOKEN_PATH, &[ttl], 405),
        ("POST", TOKEN_PATH, &[ttl], 405),
        ("HEAD", CREDENTIALS, &[&*token], 405),
        ("OPTIONS", CREDENTIALS, &[&*token], 405),
        ("DELETE", CREDENTIALS, &[&*token], 405),
        ("GET", "/", &[&*token], 404),
        (
            "GET",
            "/latest/meta-data/iam/security-credentials/other",
            &[&*token],
            404,
        ),
        (
            "GET",
            "/latest/meta-data/iam/security-credentials//execution_role",
            &[&*token],
            404,
        ),
        (
            "GET",
            "/latest/meta-data/iam/security-credentials/execution_role/",
            &[&*token],
            404,
        ),
        (
            "GET",
            "/latest/meta-data/iam/security-credentials-extended/",
            &[&*token],
            404,
        ),
        ("GET", "/latest/../latest/meta-data/placement/region", &[&*token], 404),
        ("GET", "/latest/user-data", &[&*token], 404),
        ("GET", "/latest/meta-data/placement/region?x=1", &[&*token], 200),
    ] {
        let (status, body) = bed.ask(method, path, headers).await;
        assert_eq!(status, expected, "{method} {path} {headers:?}: {body}");
        assert!(!body.contains("sec/ret+"));
    }
    assert_eq!(bed.fake.issues.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_role_without_credentials_is_said_so() {
    let bed = Bed::new();
    let token = bed.token().await;
    *bed.fake.fails.lock().unwrap() = Some(credentials::Error::Refused("no such role".to_owned()));
    assert_eq!(
        bed.ask("GET", CREDENTIALS, &[&token]).await,
        (404, "no such role.".to_owned())
    );
    assert_eq!(*bed.said.lock().unwrap(), ["no such role"]);
    let bed = Bed::new();
    let token = bed.token().await;
    *bed.fake.fails.lock().unwrap() = Some(credentials::Error::Unavailable("down".to_owned()));
    assert_eq!(bed.ask("GET", CREDENTIALS, &[&token]).await.0, 503);
}

#[tokio::test(start_paused = true)]
async fn hostile_bytes_end_their_connection_soon() {
    let bed = Bed::new();
    let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(HEAD_BYTES));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(HEADERS + 1));
    for (bytes, expected) in [
        ("GET / HTTP/9.9\r\n\r\n", "HTTP/1.1 400"),
        ("\0\u{1}\u{2}\r\n\r\n", "HTTP/1.1 400"),
        (large.as_str(), "HTTP/1.1 431"),
        (many.as_str(), "HTTP/1.1 431"),
    ] {
        let answer = bed.raw(bytes.as_bytes()).await;
        assert!(answer.starts_with(expected), "{bytes:.40}: {answer}");
    }
    // A head that does not end, a silent connection, and one that drips requests.
    for start in ["GET / HT", ""] {
        let began = Instant::now();
        let mut client = bed.connect();
        client.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(
            began.elapsed() <= HEAD + Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
    }
    let began = Instant::now();
    let mut client = bed.connect();
    let mut buffer = [0; 1024];
    while client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {
        if client.read(&mut buffer).await.unwrap_or(0) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < CONNECTION * 2);
    }
}
