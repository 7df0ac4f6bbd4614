//! What an operator can set about AgentCore Runtime.

use crate::{artifacts, control, credentials, session};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The `[runtime]` part of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sessions and what their sandboxes may use.
    pub session: session::Config,
    /// How many resources may exist.
    pub quotas: control::Quotas,
    /// The built-in artifact store.
    pub artifacts: artifacts::Config,
    /// S3-compatible services that artifacts are fetched from, by a name of your choice: `[runtime.s3.NAME]`.
    /// Default: none.
    pub s3: BTreeMap<String, artifacts::S3>,
    /// Roles whose agents get credentials of AWS instead of this server's, by a name of your choice: `[runtime.roles.NAME]`.
    /// Default: none.
    pub roles: BTreeMap<String, credentials::outside::Role>,
}
