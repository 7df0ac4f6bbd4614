//! One version of a runtime, ready to be run: what the control side hands to the invoke path.
//!
//! Invariant: a deployment is immutable; a change of configuration is a new version and so a new deployment.

use crate::switches::Switches;
use domain::id::{EndpointName, RuntimeName, Version};
use domain::{Error, Principal, PrincipalKind, RuntimeArn};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// AWS's own words.
pub(crate) const MISMATCH: &str = "Authorization method mismatch. The agent is configured for a different authorization method than what was used in your request. Check the agent's authorization configuration and ensure your request uses the matching method (OAuth or SigV4)";

/// For who could be let in by the rules of another version.
const OTHER_RULES: &str =
    "The token was checked by other rules than this endpoint's version has now. Send the request again.";

/// What an endpoint serves at the moment it is asked.
#[derive(Debug, Clone)]
pub struct Target {
    /// The endpoint that was asked for.
    pub endpoint: EndpointName,
    /// What it serves.
    pub deployment: Arc<Deployment>,
    /// What the runtime's owner has switched.
    pub switches: Arc<Switches>,
}

/// One immutable version of a runtime.
///
/// Its serialised form is kept with each sandbox, for a later server process that adopts it; what only a start needs,
/// the environment above all, is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The runtime.
    pub arn: RuntimeArn,
    /// The runtime's name.
    pub name: RuntimeName,
    /// The version.
    pub version: Version,
    /// Unpacked code package.
    pub package: PathBuf,
    /// Host directories that the interpreter needs, shown read-only.
    #[serde(skip)]
    pub read_only: Vec<PathBuf>,
    /// Program and arguments.
    #[serde(skip)]
    pub command: Vec<String>,
    /// `environmentVariables` of the version.
    #[serde(skip)]
    pub environment: Vec<(String, String)>,
    /// Port of the agent inside its sandbox; 8080 unless `protocolConfiguration` says otherwise.
    pub port: u16,
    /// Path that invocations are sent to; `/invocations` unless `protocolConfiguration` says otherwise.
    pub path: String,
    /// `idleRuntimeSessionTimeout`.
    pub idle_timeout: Duration,
    /// `maxLifetime`.
    pub max_lifetime: Duration,
    /// Lower-case names of request headers that reach the agent beside the standard ones.
    pub header_allowlist: Vec<String>,
    /// `filesystemConfigurations.sessionStorage`.
    pub storage: Option<SessionStorage>,
    /// `authorizerConfiguration.customJWTAuthorizer`: bearer tokens are asked for. Without one, signatures are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorizer: Option<Arc<oauth::Config>>,
    /// `roleArn`: whose credentials the agent gets. Empty for a sandbox of a server that gave none.
    #[serde(default)]
    pub role: String,
}

impl Deployment {
    /// Refuses a caller who has proven who they are in another way than this version asks for, or by other rules. The
    /// front door chooses both before it reads a body; this holds whatever it did, and if the endpoint has got another
    /// version meanwhile.
    pub fn admits(&self, caller: &Principal) -> Result<(), Error> {
        match (&caller.kind, &self.authorizer) {
            (PrincipalKind::Bearer(bearer), Some(rules)) if bearer.rules == *rules.identity() => Ok(()),
            (PrincipalKind::Bearer(_), Some(_)) => Err(Error::denied(OTHER_RULES)),
            (PrincipalKind::Bearer(_), None) | (_, Some(_)) => Err(Error::denied(MISMATCH)),
            (_, None) => Ok(()),
        }
    }
}

/// A call that an agent must answer well before its version serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warmup {
    /// Path of the `POST`.
    pub path: String,
    /// The port inside, if not the agent's own.
    pub port: Option<u16>,
}

/// A directory of each session that survives its sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStorage {
    /// Where the agent sees it.
    pub mount_path: String,
}
