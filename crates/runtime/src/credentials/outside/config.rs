//! What the operator says of a role that stands for AWS credentials.

use super::Keys;
use crate::artifacts::Secret;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One role, `[runtime.roles.NAME]` in the configuration: where its keys come from, and which role to assume with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The `roleArn` of runtimes whose agents get these credentials.
    pub arn: String,
    /// A profile of `credentials_file` whose keys are used. Read anew each time.
    #[serde(default)]
    pub profile: Option<String>,
    /// A file as AWS's command line has it. Default: `~/.aws/credentials` of the server's user.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// Access key, instead of a profile.
    #[serde(default)]
    pub access_key_id: Option<String>,
    /// Its secret.
    #[serde(default)]
    pub secret_access_key: Option<Secret>,
    /// Its session token, if it has one.
    #[serde(default)]
    pub session_token: Option<Secret>,
    /// ARN of a role at AWS that is assumed with the keys, so that agents get that role's temporary credentials and not the
    /// keys. Default: none, agents get the keys.
    #[serde(default)]
    pub assume_role: Option<String>,
    /// `ExternalId` that the role at AWS asks for.
    #[serde(default)]
    pub external_id: Option<String>,
    /// How long assumed credentials are good for, in seconds; 900 to 43200, and not more than the role at AWS allows.
    #[serde(default = "an_hour")]
    pub duration_seconds: u32,
    /// Region of AWS's STS.
    #[serde(default = "default_region")]
    pub region: String,
    /// URL of STS. Default: that of the region.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// A PEM file with the certificates to trust instead of the public ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Static(Keys),
    Profile { file: PathBuf, name: String },
}

impl Role {
    /// Where its keys come from; the error says which setting is wrong.
    pub(super) fn source(&self) -> Result<Source, String> {
        if !self.arn.starts_with("arn:") {
            return Err("`arn` must be the ARN of a role, such as arn:aws:iam::123456789012:role/agent".to_owned());
        }
        match (&self.profile, &self.access_key_id, &self.secret_access_key) {
            (Some(name), None, None) if self.session_token.is_none() => Ok(Source::Profile {
                file: self.file()?,
                name: name.clone(),
            }),
            (None, Some(id), Some(secret)) if self.credentials_file.is_none() => Ok(Source::Static(Keys {
                access_key_id: id.clone(),
                secret_access_key: secret.clone(),
                session_token: self.session_token.clone(),
            })),
            _ => Err(
                "set either `profile` (and `credentials_file`) or `access_key_id` and `secret_access_key` (and \
                      `session_token`)"
                    .to_owned(),
            ),
        }
    }

    fn file(&self) -> Result<PathBuf, String> {
        if let Some(file) = &self.credentials_file {
            return Ok(file.clone());
        }
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let home = home.ok_or("the server's user has no home: set `credentials_file`")?;
        Ok(PathBuf::from(home).join(".aws/credentials"))
    }
}

fn an_hour() -> u32 {
    3600
}

fn default_region() -> String {
    "us-east-1".to_owned()
}
