//! What the control plane keeps: runtimes, versions, endpoints, names, client tokens and one counter.
//!
//! Every document is JSON `{"schema": N, "data": {…}}`. A field that is added later gets a default; a change that old
//! readers would misread raises `SCHEMA`, and a document with a newer schema than this program knows is refused
//! instead of guessed at.
//!
//! The [`Runtime`] document is the root of all that belongs to a runtime: whatever makes, moves or deletes a version or
//! an endpoint also writes it, so that its revision puts those changes in one order. Only the outcome of a version's
//! preparation is written by itself; it counts when the runtime is settled.
//!
//! Invariant: a version's [`Settings`] never change after the version was made; only its [`VersionState`] does.

use api::control::AgentManagedRuntimeType;
use domain::id::{EndpointName, RuntimeId, RuntimeName, Version};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A kind of document with its place in storage.
pub(crate) trait Document: Serialize + DeserializeOwned + Send + Sync {
    /// Kind in storage.
    const KIND: &'static str;
    /// Schema of what this program writes.
    const SCHEMA: u32 = 1;
    /// Key in storage.
    fn key(&self) -> String;
}

/// A runtime. Key: its id, so that a list is in order of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Runtime {
    pub(crate) id: RuntimeId,
    pub(crate) name: RuntimeName,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) state: State,
    /// The version that the runtime shows: the latest that exists, be it fit to serve or not.
    pub(crate) latest: Version,
    /// That version's description, so that a list need not read every version.
    pub(crate) description: Option<String>,
    /// The number that the next version gets. Numbers are never used twice.
    pub(crate) next: Version,
    /// A version that is being made ready.
    pub(crate) pending: Option<Version>,
    /// How many versions there are.
    pub(crate) versions: u32,
    /// How many endpoints there are, `DEFAULT` included.
    pub(crate) endpoints: u32,
    pub(crate) tags: BTreeMap<String, String>,
    /// Key of the client token that made the runtime, to be removed with it.
    pub(crate) created_by: Option<String>,
    /// The text of its resource policy.
    #[serde(default)]
    pub(crate) policy: Option<String>,
}

/// Where a runtime or an endpoint stands; the statuses of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum State {
    Creating,
    CreateFailed { reason: String },
    Updating,
    UpdateFailed { reason: String },
    Ready,
    Deleting,
}

/// One version of a runtime. Key: `runtime/00001`, so that versions list in order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub(crate) runtime: RuntimeId,
    pub(crate) version: Version,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) settings: Settings,
    pub(crate) state: VersionState,
}

/// Where a version stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum VersionState {
    /// Its artifact is being fetched, unpacked and, if it has a warm-up hook, tried.
    Preparing,
    /// It can serve, with exactly this content.
    Ready { pinned: Pinned },
    /// It can never serve.
    Failed { reason: String },
}

/// The content that a version was made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pinned {
    /// SHA-256 of the artifact as it was fetched, lower-case hex; the package store's name for it.
    pub(crate) package: String,
    /// Its size in bytes.
    pub(crate) size: u64,
}

/// An endpoint. Key: `runtime/name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) runtime: RuntimeId,
    pub(crate) name: EndpointName,
    /// The API's `id`: the name, `-`, ten letters or digits.
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) description: Option<String>,
    pub(crate) state: State,
    /// The version that serves.
    pub(crate) live: Option<Version>,
    /// The version that shall serve, while it is not the live one.
    pub(crate) target: Option<Version>,
    pub(crate) tags: BTreeMap<String, String>,
    /// The text of its resource policy.
    #[serde(default)]
    pub(crate) policy: Option<String>,
}

/// Reserves a runtime's name. Key: the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Name {
    pub(crate) name: RuntimeName,
    pub(crate) runtime: RuntimeId,
}

/// How many runtimes there are, for the quota. One document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) runtimes: u32,
}

/// The answer to a call with a `clientToken`, for when the call is made again. Key: see [`super::idempotency`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientToken {
    pub(crate) key: String,
    /// SHA-256 of the call's other parameters, lower-case hex.
    pub(crate) parameters: String,
    /// What was answered.
    pub(crate) answer: serde_json::Map<String, serde_json::Value>,
    pub(crate) expires_at: Timestamp,
}

/// What a version is made of: a create or update request after its checks, with every default filled in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) description: Option<String>,
    /// Whose credentials the agent gets; see [`crate::credentials`].
    pub(crate) role_arn: String,
    pub(crate) code: Code,
    pub(crate) environment: BTreeMap<String, String>,
    /// What the request said about the protocol, to be shown as it was said.
    pub(crate) protocol: Option<Protocol>,
    pub(crate) idle_timeout_seconds: u32,
    pub(crate) max_lifetime_seconds: u32,
    /// As the request wrote them.
    pub(crate) header_allowlist: Vec<String>,
    /// `hooksConfiguration.build.warmup`.
    #[serde(default)]
    pub(crate) warmup: Option<Hook>,
    /// `mountPath` of `filesystemConfigurations.sessionStorage`, as the request wrote it.
    #[serde(default)]
    pub(crate) storage: Option<String>,
    /// `authorizerConfiguration.customJWTAuthorizer`; without one, requests are signed.
    #[serde(default)]
    pub(crate) authorizer: Option<Arc<oauth::Config>>,
}

/// A `POST` to an agent in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    pub(crate) path: String,
    pub(crate) port: Option<u16>,
}

/// A code package and how to run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Code {
    pub(crate) bucket: String,
    /// The API calls it `prefix`; it is the whole key of one object.
    pub(crate) key: String,
    pub(crate) version_id: Option<String>,
    /// The managed runtime.
    pub(crate) runtime: AgentManagedRuntimeType,
    pub(crate) entry_point: Vec<String>,
}

/// How the agent is spoken to. The protocol itself is always HTTP so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Protocol {
    pub(crate) port: Option<u16>,
    pub(crate) path: Option<String>,
}

impl State {
    /// Whether no work is under way, so that an update or a deletion may begin.
    pub(crate) fn is_settled(&self) -> bool {
        !matches!(self, Self::Creating | Self::Updating | Self::Deleting)
    }

    /// The API's word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::CreateFailed { .. } => "CREATE_FAILED",
            Self::Updating => "UPDATING",
            Self::UpdateFailed { .. } => "UPDATE_FAILED",
            Self::Ready => "READY",
            Self::Deleting => "DELETING",
        }
    }

    /// The reason of a failure.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::CreateFailed { reason } | Self::UpdateFailed { reason } => Some(reason),
            _ => None,
        }
    }

    /// The failure that this state ends in when the work under way fails.
    pub(crate) fn failed(&self, reason: String) -> Self {
        match self {
            Self::Creating | Self::CreateFailed { .. } => Self::CreateFailed { reason },
            _ => Self::UpdateFailed { reason },
        }
    }
}

impl Document for Runtime {
    const KIND: &'static str = "runtime";
    fn key(&self) -> String {
        self.id.as_str().to_owned()
    }
}

impl Document for VersionRecord {
    const KIND: &'static str = "runtime-version";
    fn key(&self) -> String {
        version_key(&self.runtime, self.version)
    }
}

impl Document for Endpoint {
    const KIND: &'static str = "runtime-endpoint";
    fn key(&self) -> String {
        endpoint_key(&self.runtime, &self.name)
    }
}

impl Document for Name {
    const KIND: &'static str = "runtime-name";
    fn key(&self) -> String {
        self.name.as_str().to_owned()
    }
}

impl Document for Usage {
    const KIND: &'static str = "runtime-usage";
    fn key(&self) -> String {
        USAGE_KEY.to_owned()
    }
}

impl Document for ClientToken {
    const KIND: &'static str = "runtime-client-token";
    fn key(&self) -> String {
        self.key.clone()
    }
}

impl fmt::Debug for Settings {
    /// Leaves out the values of environment variables: people put secrets there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("code", &self.code)
            .field("environment", &self.environment.keys())
            .finish_non_exhaustive()
    }
}

/// Key of the one [`Usage`] document.
pub(crate) const USAGE_KEY: &str = "all";

/// Prefix of the keys of all that belongs to a runtime, in the kinds whose keys start with it.
pub(crate) fn children_of(runtime: &RuntimeId) -> String {
    format!("{runtime}/")
}

/// Key of a version.
pub(crate) fn version_key(runtime: &RuntimeId, version: Version) -> String {
    format!("{runtime}/{:05}", version.0)
}

/// Key of an endpoint.
pub(crate) fn endpoint_key(runtime: &RuntimeId, name: &EndpointName) -> String {
    format!("{runtime}/{name}")
}
