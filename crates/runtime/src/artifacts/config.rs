//! Where artifacts come from, as the operator says it.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;

/// The built-in artifact store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The bucket name by which `code.s3` names the built-in store. Default `eyot-artifacts`.
    pub bucket: String,
    /// The largest object that may be uploaded or fetched, in bytes. Default 262144000 (250 MiB).
    pub max_object_bytes: u64,
    /// The most bytes that a package may have once it is unpacked. Default 786432000 (750 MiB).
    pub max_unpacked_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bucket: "eyot-artifacts".to_owned(),
            max_object_bytes: 250 << 20,
            max_unpacked_bytes: 750 << 20,
        }
    }
}

/// One S3-compatible service, `[runtime.s3.NAME]` in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// Its URL, `https://s3.eu-west-1.amazonaws.com` or `http://127.0.0.1:9000`, without a path.
    pub endpoint: String,
    /// The region that requests are signed for. Default `us-east-1`.
    #[serde(default = "default_region")]
    pub region: String,
    /// Access key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret,
    /// Session token of temporary credentials. Default: none.
    #[serde(default)]
    pub session_token: Option<Secret>,
    /// The buckets that are fetched from here. Default: every bucket that no other entry names.
    #[serde(default)]
    pub buckets: Vec<String>,
    /// Whether the bucket is part of the path (`true`, the default) or of the host name.
    #[serde(default = "yes")]
    pub force_path_style: bool,
    /// A PEM file with the certificates to trust instead of the public ones. Default: none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// A secret of the configuration. Prints as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed_and_unknown_fields_are_refused() {
        let text = r#"{"endpoint":"http://s3","access_key_id":"AK","secret_access_key":"hush"}"#;
        let s3: S3 = serde_json::from_str(text).unwrap();
        assert!(s3.force_path_style && s3.buckets.is_empty());
        let shown = format!("{s3:?}");
        assert!(!shown.contains("hush") && shown.contains("***"), "{shown}");
        let typo = text.replace("\"AK\"", "\"AK\",\"bukets\":[]");
        assert!(serde_json::from_str::<S3>(&typo).is_err());
    }
}
