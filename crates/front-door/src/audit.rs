//! The audit log: who asked for what, from where, and what was decided; JSON, one line each.
//!
//! A thread of its own writes; requests hand it finished lines through a bounded queue, and wait when that is full, so
//! that nothing that was decided goes unwritten. Lines are written out as soon as the queue is empty. A file that has
//! grown to its limit is renamed (`audit.jsonl.1`, then `.2`) and a new one begun; the oldest goes.
//!
//! Invariant: no line holds a secret, a token, a signature or a payload. Invariant: a disk that fails makes no call fail;
//! it is logged and counted, and writing is tried again with the next line.

use domain::{Bearer, Principal, PrincipalKind};
use iam::policy::Decision;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize, Serializer};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Lines that wait for the disk.
const QUEUE: usize = 4096;
/// Bytes collected before they are written while more lines wait.
const BUFFER: usize = 64 * 1024;

/// What is written down, and where.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which decisions.
    pub level: Level,
    /// The file; `audit/audit.jsonl` in the data directory when it is not set.
    pub file: Option<PathBuf>,
    /// A file of this size is put aside and a new one begun.
    pub max_bytes: u64,
    /// How many files that were put aside are kept.
    pub keep: u32,
}

/// Which decisions are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// None.
    Off,
    /// Every refusal, and every call that is allowed but for those of the data plane.
    Management,
    /// Every call.
    All,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            level: Level::Management,
            file: None,
            max_bytes: 64 << 20,
            keep: 8,
        }
    }
}

/// One decision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry<'a> {
    pub(crate) time: Timestamp,
    #[serde(serialize_with = "as_text")]
    pub(crate) request_id: Uuid,
    pub(crate) source_ip: IpAddr,
    /// Nobody where no credentials were believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) principal: Option<Who<'a>>,
    /// What the call is named in the API.
    pub(crate) operation: &'a str,
    /// What it was taken as by policies; nothing for a caller who was not believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) action: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<&'a str>,
    pub(crate) decision: Decided,
    /// What decided: `root`, `token`, a policy, or why the caller was not believed.
    pub(crate) reason: &'a str,
    /// The policy whose statement decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<&'a str>,
    /// The statement's `Sid`, or its place in the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) statement: Option<&'a str>,
    /// The key id of temporary credentials that were issued, by which later lines are traced back to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issued: Option<&'a str>,
}

/// How a decision went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decided {
    Allow,
    Deny,
}

impl Decided {
    /// The same in a word.
    pub(crate) fn of(decision: &Decision) -> Self {
        if decision.is_allowed() { Self::Allow } else { Self::Deny }
    }
}

/// Who a caller is, as far as an auditor needs it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Who<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// A bearer token's holder has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
}

impl<'a> From<&'a Principal> for Who<'a> {
    fn from(principal: &'a Principal) -> Self {
        let (kind, bearer) = match &principal.kind {
            PrincipalKind::Root => ("Root", None),
            PrincipalKind::User { .. } => ("User", None),
            PrincipalKind::AssumedRole { .. } => ("AssumedRole", None),
            PrincipalKind::Bearer(bearer) => ("Bearer", Some(bearer)),
        };
        let signed = bearer.is_none();
        Self {
            kind,
            arn: signed.then_some(principal.arn.as_str()),
            access_key_id: signed.then_some(principal.access_key_id.as_str()),
            issuer: bearer.map(|bearer| bearer.issuer.as_str()),
            subject: bearer.and_then(|bearer| bearer.subject.as_deref()),
        }
    }
}

/// For whom an identity provider vouched to STS.
impl<'a> From<&'a Bearer> for Who<'a> {
    fn from(bearer: &'a Bearer) -> Self {
        Self {
            kind: "WebIdentity",
            arn: None,
            access_key_id: None,
            issuer: Some(&bearer.issuer),
            subject: bearer.subject.as_deref(),
        }
    }
}

/// Where decisions are written. Cheap to clone; the writer ends when the last clone is gone and all lines are written.
#[derive(Debug, Clone)]
pub struct Log {
    level: Level,
    /// Stands before the writer, so that it is dropped first: the writer ends when the last sender is gone.
    lines: Option<mpsc::Sender<Vec<u8>>>,
    /// The writer's thread, to wait for.
    _writer: Option<Arc<Writer>>,
}

/// Waits for the writer when the last [`Log`] is gone.
#[derive(Debug)]
struct Writer(Option<std::thread::JoinHandle<()>>);

impl Log {
    /// A log that writes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self {
            level: Level::Off,
            lines: None,
            _writer: None,
        }
    }

    /// Opens the file, for its owner's eyes only, and starts the writer. `default` is the file if none is configured.
    pub fn open(config: &Config, default: &Path, registry: &mut Registry) -> io::Result<Self> {
        if config.level == Level::Off {
            return Ok(Self::off());
        }
        let path = config.file.as_deref().unwrap_or(default).to_owned();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let failures = Counter::default();
        registry.register(
            "eyot_audit_failures",
            "Lines of the audit log that could not be written",
            failures.clone(),
        );
        let file = Rotating::open(path, config.max_bytes, config.keep)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let handle = thread.spawn(move || write_all(receiver, file, &failures))?;
        Ok(Self {
            level: config.level,
            lines: Some(sender),
            _writer: Some(Arc::new(Writer(Some(handle)))),
        })
    }

    /// Whether such a decision is to be written.
    pub(crate) fn wants(&self, decided: Decided, is_data: bool) -> bool {
        match self.level {
            Level::Off => false,
            Level::Management => decided == Decided::Deny || !is_data,
            Level::All => true,
        }
    }

    /// Writes a decision down; waits while the queue is full.
    pub(crate) async fn write(&self, entry: &Entry<'_>) {
        let Some(lines) = &self.lines else { return };
        let mut line = match serde_json::to_vec(entry) {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(%error, "an audit line cannot be made");
                return;
            }
        };
        line.push(b'\n');
        if lines.send(line).await.is_err() {
            tracing::error!("the audit log's writer is gone");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take()
            && handle.join().is_err()
        {
            tracing::error!("the audit log's writer panicked");
        }
    }
}

fn write_all(mut lines: mpsc::Receiver<Vec<u8>>, mut file: Rotating, failures: &Counter) {
    let mut is_failing = false;
    while let Some(line) = lines.blocking_recv() {
        let mut written = file.write(&line);
        let mut count = 1;
        while let Ok(line) = lines.try_recv() {
            written = written.and(file.write(&line));
            count += 1;
        }
        match written.and_then(|()| file.flush()) {
            Ok(()) => is_failing = false,
            Err(error) => {
                failures.inc_by(count);
                // Once, until it works again: a full disk is not helped by a fuller log.
                if !is_failing {
                    tracing::error!(path = %file.path.display(), %error, "the audit log cannot be written");
                }
                is_failing = true;
            }
        }
    }
}

/// A file that is put aside when it has grown.
#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    size: u64,
    file: BufWriter<File>,
}

impl Rotating {
    fn open(path: PathBuf, max_bytes: u64, keep: u32) -> io::Result<Self> {
        let file = append(&path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path,
            max_bytes,
            keep,
            size,
            file: BufWriter::with_capacity(BUFFER, file),
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let more = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(more) > self.max_bytes {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += more;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let aside = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.keep).rev() {
            match std::fs::rename(aside(number), aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.keep == 0 {
            std::fs::remove_file(&self.path)?;
        } else {
            std::fs::rename(&self.path, aside(1))?;
        }
        self.file = BufWriter::with_capacity(BUFFER, append(&self.path)?);
        self.size = 0;
        Ok(())
    }
}

fn as_text<S: Serializer>(value: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::AccountId;
    use std::os::unix::fs::PermissionsExt as _;

    fn entry(principal: &Principal) -> Entry<'_> {
        Entry {
            time: Timestamp::UNIX_EPOCH,
            request_id: Uuid::nil(),
            source_ip: IpAddr::from([192, 0, 2, 1]),
            principal: Some(principal.into()),
            operation: "GetAgentRuntime",
            action: Some("bedrock-agentcore:GetAgentRuntime"),
            resource: Some("arn:x"),
            decision: Decided::Deny,
            reason: "no identity-based policy allows it",
            policy: None,
            statement: None,
            issued: None,
        }
    }

    fn user() -> Principal {
        let account = AccountId::parse("123456789012").unwrap();
        Principal::user(account, "alice".to_owned(), "AIDA".to_owned(), "AKIA".to_owned())
    }

    #[tokio::test]
    async fn a_line_says_who_what_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/audit.jsonl");
        let log = Log::open(&Config::default(), &path, &mut Registry::default()).unwrap();
        log.write(&entry(&user())).await;
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:00Z", "requestId": "00000000-0000-0000-0000-000000000000", "sourceIp": "192.0.2.1",
            "principal": {"type": "User", "arn": "arn:aws:iam::123456789012:user/alice", "accessKeyId": "AKIA"},
            "operation": "GetAgentRuntime", "action": "bedrock-agentcore:GetAgentRuntime", "resource": "arn:x",
            "decision": "deny", "reason": "no identity-based policy allows it",
        });
        assert_eq!(line, expected);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn files_are_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let config = Config {
            level: Level::All,
            max_bytes: 800,
            keep: 2,
            ..Config::default()
        };
        for round in 0..2 {
            let log = Log::open(&config, &path, &mut Registry::default()).unwrap();
            for _ in 0..10 {
                log.write(&entry(&user())).await;
            }
            drop(log);
            let mut lines = 0;
            for name in ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"] {
                let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
                assert!(
                    text.len() <= 800 && text.ends_with('\n'),
                    "{round} {name} {}",
                    text.len()
                );
                lines += text.lines().count();
            }
            assert!(lines >= 5, "{lines}");
            assert!(!folder.path().join("audit.jsonl.3").exists());
        }
    }

    #[test]
    fn a_level_chooses_what_is_written() {
        let check = |level, expected: [bool; 3]| {
            let log = Log { level, ..Log::off() };
            let wants = [
                log.wants(Decided::Deny, true),
                log.wants(Decided::Allow, false),
                log.wants(Decided::Allow, true),
            ];
            assert_eq!(wants, expected, "{level:?}");
        };
        check(Level::Off, [false, false, false]);
        check(Level::Management, [true, true, false]);
        check(Level::All, [true, true, true]);
    }
}
