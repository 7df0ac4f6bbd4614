//! What an operator can set about sessions and sandboxes. Durations are written as `15m` or `1h 30m`, sizes as `2GiB`.

use sandbox::Limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// The `[session]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a sandbox may take from its start until the agent listens and answers `/ping` with 200. Default 120s.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub start_deadline: Duration,
    /// How long an agent may take until the head of its answer to a call is there. Default 15m.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub first_answer_deadline: Duration,
    /// How long an answer may stream, counted from its head. Default 60m.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub stream_deadline: Duration,
    /// How often a session that has had no call lately is asked `/ping`. Default 2s, varied by a tenth.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub ping_interval: Duration,
    /// How often at least a session is asked `/ping` that has been quiet for long: the interval grows up to this while
    /// the answers say nothing new, and falls back after a call. Default 30s.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub ping_interval_quiet: Duration,
    /// How long an answer to `/ping` may take. Default 5s.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub ping_timeout: Duration,
    /// How many bad or missing answers to `/ping` in a row end the session. Default 5.
    pub unhealthy_threshold: u32,
    /// Whether `HealthyBusy` keeps a session alive only while its `time_of_last_update` advances, which is what has been
    /// measured on AWS, instead of by itself, which is what AWS documents. Default false.
    pub busy_needs_update_time: bool,
    /// How long an agent may take to exit after SIGTERM before it is killed. Default 15s.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub stop_grace: Duration,
    /// How long an idle connection to an agent is kept for the next call. Keep it below the keep-alive time of the
    /// agent's own server, which is 5s for uvicorn and Node.js. Default 4s.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub keep_alive: Duration,
    /// When an idle session is paused: its processes stop running and its memory can be taken back, until its next call.
    /// `0s` is never; an agent that has reported `HealthyBusy` is paused only if its runtime's tag `eyot:pause-after` says
    /// so. Default 0s.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub pause_after: Duration,
    /// Whether sessions go on when the server is told to stop (SIGTERM), for the next server process of the same data
    /// directory to take over. SIGINT (Ctrl-C) always ends them. Default true.
    pub survive_shutdown: bool,
    /// How long a sandbox goes on without a server before it ends by itself. Default 1h.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub orphan_after: Duration,
    /// Whether callers are told what an agent itself said or wrote when it failed, in the header `x-eyot-agent-error`.
    /// The runtime's tag `eyot:agent-errors` (`on`, `off`) overrides it. Default false.
    pub agent_errors: bool,
    /// Memory that a new session must find free on the host, until it is known what the runtime's sessions really use.
    /// Default 256MiB.
    #[serde(with = "size")]
    pub memory_request: u64,
    /// Memory of the host that sessions leave alone. Default 256MiB.
    #[serde(with = "size")]
    pub memory_reserve: u64,
    /// How many ended sessions are remembered for `eyot sessions`. Default 1000.
    pub history: usize,
    /// How long session storage is kept after its last use. Default 336h (14 days).
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub storage_kept: Duration,
    /// How much one session can store in its session storage. Default 1GiB.
    #[serde(with = "size")]
    pub storage_size: u64,
    /// How many sessions may be alive at once on this server. Default 5000.
    pub max_sessions: usize,
    /// How many calls may be in flight at once in one session. Default 1000.
    pub max_calls_per_session: u32,
    /// What one sandbox may use.
    pub limits: SandboxLimits,
    /// Sandboxes that are ready before a session asks.
    pub warm: Warm,
}

/// The `[session.warm]` part: sandboxes of each endpoint that are started and healthy before a session asks for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Warm {
    /// The least number for each endpoint; a runtime's tag `eyot:warm` overrides it. Default 0.
    pub min: usize,
    /// The most for each endpoint: after a new session as many as were started within ten seconds are kept ready, up to
    /// this. 0 switches warm sandboxes off. Default 4.
    pub max: usize,
    /// After how long without a new session an endpoint goes back to its least number. Default 5m.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub idle: Duration,
    /// How old a warm sandbox may become before it is replaced. Default 1h.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_age: Duration,
    /// Memory that all warm sandboxes may use together. Default 1GiB.
    #[serde(with = "size")]
    pub memory: u64,
    /// How many are started at the same time. Default 2.
    pub at_once: usize,
}

impl Default for Warm {
    fn default() -> Self {
        Self {
            min: 0,
            max: 4,
            idle: Duration::from_secs(300),
            max_age: Duration::from_secs(3600),
            memory: GIB,
            at_once: 2,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            start_deadline: Duration::from_secs(120),
            first_answer_deadline: Duration::from_secs(15 * 60),
            stream_deadline: Duration::from_secs(60 * 60),
            ping_interval: Duration::from_secs(2),
            ping_interval_quiet: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(5),
            unhealthy_threshold: 5,
            busy_needs_update_time: false,
            stop_grace: Duration::from_secs(15),
            keep_alive: Duration::from_secs(4),
            pause_after: Duration::ZERO,
            survive_shutdown: true,
            orphan_after: Duration::from_secs(3600),
            agent_errors: false,
            memory_request: 256 * MIB,
            memory_reserve: 256 * MIB,
            history: 1000,
            storage_kept: Duration::from_secs(14 * 24 * 3600),
            storage_size: GIB,
            max_sessions: 5000,
            max_calls_per_session: 1000,
            limits: SandboxLimits::default(),
            warm: Warm::default(),
        }
    }
}

/// The `[session.limits]` part: limits of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxLimits {
    /// Memory, swap included. Default 2GiB (AWS gives 8GiB; a laptop has not got that for each session).
    #[serde(with = "size")]
    pub memory: u64,
    /// Processes and threads. Default 1024.
    pub pids: u32,
    /// CPU in thousandths of a core. Default 2000, which is AWS's two vCPUs.
    pub cpu_millis: u32,
    /// The private writable layer. Default 1GiB.
    #[serde(with = "size")]
    pub scratch: u64,
    /// Log kept for each sandbox. Default 1MiB.
    #[serde(with = "size")]
    pub log: u64,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            memory: 2 * GIB,
            pids: 1024,
            cpu_millis: 2000,
            scratch: GIB,
            log: MIB,
        }
    }
}

impl From<&SandboxLimits> for Limits {
    fn from(limits: &SandboxLimits) -> Self {
        let SandboxLimits {
            memory,
            pids,
            cpu_millis,
            scratch,
            log,
        } = *limits;
        Self {
            memory,
            pids,
            cpu_millis,
            scratch,
            log,
        }
    }
}

/// A number of bytes as a person writes it.
mod size {
    use super::{Deserialize, Deserializer, GIB, KIB, MIB, Serializer};
    use serde::de::Error;

    const UNITS: [(&str, u64); 3] = [("GiB", GIB), ("MiB", MIB), ("KiB", KIB)];

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Bytes(u64),
        Text(String),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        match Written::deserialize(from)? {
            Written::Bytes(bytes) => Ok(bytes),
            Written::Text(text) => parse(&text).ok_or_else(|| {
                D::Error::custom(format!("'{text}' is not a size: write bytes, or 512KiB, 64MiB, 2GiB"))
            }),
        }
    }

    pub(super) fn serialize<S: Serializer>(bytes: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&write(*bytes))
    }

    pub(super) fn parse(text: &str) -> Option<u64> {
        for (unit, factor) in UNITS {
            if let Some(number) = text.strip_suffix(unit) {
                return number.trim_end().parse::<u64>().ok()?.checked_mul(factor);
            }
        }
        text.parse().ok()
    }

    pub(crate) fn write(bytes: u64) -> String {
        match UNITS
            .iter()
            .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        {
            Some((unit, factor)) => format!("{}{unit}", bytes / factor),
            None => bytes.to_string(),
        }
    }
}

pub(crate) use size::write as write_size;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let config = Config {
            ping_interval: Duration::from_millis(1500),
            ..Config::default()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""first_answer_deadline":"15m""#), "{text}");
        assert!(text.contains(r#""memory":"2GiB""#), "{text}");
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (text, said) in [
            (r#"{"idle": 1}"#, "unknown field `idle`"),
            (r#"{"limits": {"memory": "2GB"}}"#, "'2GB' is not a size"),
            (r#"{"limits": {"memory": "99999999999999999GiB"}}"#, "is not a size"),
            (r#"{"stop_grace": "-3s"}"#, "negative"),
        ] {
            let error = serde_json::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("17", Some(17)),
            ("2 MiB", Some(2 * MIB)),
            ("1KiB", Some(KIB)),
            ("", None),
            ("GiB", None),
        ] {
            assert_eq!(size::parse(text), bytes, "{text}");
        }
    }
}
