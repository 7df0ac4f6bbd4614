//! A session as an operator sees it: the JSON of `/_eyot/sessions` and of the record that is kept of an ended one.
//!
//! Reading one never wakes or prolongs the session. Fields are only added; see COMPATIBILITY.md.

use super::machine::{Phase, Reason};
pub use crate::credentials::wallet::Outstanding;
use domain::RuntimeArn;
use domain::id::{EndpointName, SandboxId, SessionId, Version};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One session, alive or ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The client's session id.
    pub session_id: SessionId,
    /// Whose it is.
    pub agent_runtime_arn: RuntimeArnText,
    /// The endpoint; the same session id on another endpoint is another session.
    pub endpoint: EndpointName,
    /// The version that it runs.
    pub version: Version,
    /// Where it stands.
    pub state: State,
    /// Why it stands there: of an ended session why it ended, of a living one why it came into its state.
    pub reason: String,
    /// When its first call came.
    pub created_at: Timestamp,
    /// When its last call left, or its agent last said that it works.
    pub last_active_at: Timestamp,
    /// When it ends if nothing happens; absent while a call is in flight, while it starts, and after its end.
    pub idle_deadline: Option<Timestamp>,
    /// When it ends whatever happens; absent until its sandbox is there.
    pub max_lifetime_deadline: Option<Timestamp>,
    /// When nothing was left of it.
    pub ended_at: Option<Timestamp>,
    /// Its sandbox, once there is one.
    pub sandbox: Option<SandboxId>,
    /// Which server process owns it.
    pub lease: Lease,
    /// How it was started.
    pub start: Start,
    /// Credentials that its agent has got and that are good still; of an ended session those that could not be taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Outstanding>,
    /// What it has used.
    pub usage: Usage,
    /// Calls in flight.
    pub calls_in_flight: u32,
    /// The last call that failed, if one did.
    pub last_failure: Option<Failure>,
    /// How its agent ended, if it did by itself.
    pub exit: Option<Exit>,
    /// The last lines of its log: of a session that ended badly.
    pub log_tail: Option<String>,
    /// The last changes of its state, oldest first.
    pub transitions: Vec<Transition>,
}

/// An ARN as its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuntimeArnText(pub String);

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Its sandbox is being started.
    Provisioning,
    /// It works.
    Active,
    /// It waits for the next call.
    Idle,
    /// It waits for the next call and its processes do not run.
    Paused,
    /// Its sandbox is being ended.
    Terminating,
    /// Nothing of its sandbox is left.
    Terminated,
}

/// Who owns a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The node.
    pub owner: String,
    /// Rises with every server process of the node; a lower one may not touch the session.
    pub epoch: u64,
}

/// How a session was started. Milliseconds; absent what has not happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// Whether it got a warm sandbox.
    pub warm: bool,
    /// From the first call until the start began.
    pub queue_ms: Option<f64>,
    /// Until everything was there that the driver needs.
    pub prepare_ms: Option<f64>,
    /// Until the sandbox stood and the agent's process ran.
    pub sandbox_ms: Option<f64>,
    /// From there until its port accepted connections.
    pub process_ms: Option<f64>,
    /// From there until `/ping` answered 200.
    pub healthy_ms: Option<f64>,
    /// From the first call until the first byte of its answer.
    pub first_byte_ms: Option<f64>,
}

/// What a session has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU time of all its processes.
    pub cpu_seconds: f64,
    /// Memory over time, in gigabytes (10^9 bytes) times seconds.
    pub memory_gb_seconds: f64,
    /// The most memory at once.
    pub memory_peak_bytes: u64,
    /// Payload that its agent received.
    pub bytes_in: u64,
    /// Payload that its agent sent.
    pub bytes_out: u64,
    /// Calls.
    pub requests: u64,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// Its request id.
    pub request_id: String,
    /// What the caller was told.
    pub message: String,
    /// What the agent said or wrote.
    pub detail: Option<String>,
}

/// How an agent ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Exit code, when it exited.
    pub code: Option<i32>,
    /// Signal, when it was killed.
    pub signal: Option<i32>,
    /// It was killed for its memory limit.
    pub out_of_memory: bool,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// To which state.
    pub to: State,
    /// Why.
    pub reason: String,
}

impl From<&sandbox::Exit> for Exit {
    fn from(exit: &sandbox::Exit) -> Self {
        Self {
            code: exit.code,
            signal: exit.signal,
            out_of_memory: exit.out_of_memory,
        }
    }
}

impl From<&RuntimeArn> for RuntimeArnText {
    fn from(arn: &RuntimeArn) -> Self {
        Self(arn.to_string())
    }
}

/// A duration as the milliseconds of a [`Start`], to the microsecond.
pub(super) fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

impl RuntimeArnText {
    /// The runtime's id.
    #[must_use]
    pub fn runtime_id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl Report {
    /// The runtime's id, from its ARN.
    #[must_use]
    pub fn runtime_id(&self) -> &str {
        self.agent_runtime_arn.runtime_id()
    }
}

impl From<Phase> for State {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Provisioning => Self::Provisioning,
            Phase::Active => Self::Active,
            Phase::Idle => Self::Idle,
            Phase::Paused => Self::Paused,
            Phase::Terminating(_) => Self::Terminating,
            Phase::Terminated(_) => Self::Terminated,
        }
    }
}

impl State {
    /// Whether a session in it can still be called.
    #[must_use]
    pub fn is_alive(self) -> bool {
        !matches!(self, Self::Terminated)
    }
}

impl Reason {
    /// Whether a person should look at the session's last lines.
    #[must_use]
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Unhealthy | Self::AgentExited | Self::StartFailed)
    }
}

#[cfg(test)]
impl Report {
    /// A session that idles on `runtime`'s endpoint `DEFAULT`; `name` is made into its id.
    pub(crate) fn sample(name: &str, runtime: &str) -> Self {
        let at: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        Self {
            session_id: SessionId::parse(&format!("{name:-<33}")).unwrap(),
            agent_runtime_arn: RuntimeArnText(format!(
                "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/{runtime}"
            )),
            endpoint: EndpointName::default_endpoint(),
            version: Version::FIRST,
            state: State::Idle,
            reason: "healthy".to_owned(),
            created_at: at,
            last_active_at: at,
            idle_deadline: Some(at),
            max_lifetime_deadline: Some(at),
            ended_at: None,
            sandbox: None,
            lease: Lease {
                owner: "node-1".to_owned(),
                epoch: 1,
            },
            start: Start::default(),
            credentials: Vec::new(),
            usage: Usage::default(),
            calls_in_flight: 0,
            last_failure: None,
            exit: None,
            log_tail: None,
            transitions: Vec::new(),
        }
    }

    /// The same with a sandbox, whose id is made from `name`.
    pub(crate) fn in_sandbox(mut self, name: &str) -> Self {
        self.sandbox = Some(SandboxId::parse(&format!("{name:z<8}")).unwrap());
        self
    }

    /// The same after so many calls.
    pub(crate) fn after_calls(mut self, requests: u64) -> Self {
        self.usage.requests = requests;
        self
    }
}
