//! What keeps token checking from being set up.

use std::path::PathBuf;

/// A setting that cannot be used. Written for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file with certificates.
    #[error("`ca_file` {}: {why}", path.display())]
    CaFile {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS itself.
    #[error("TLS with identity providers cannot be set up: {0}")]
    Tls(String),
    /// A number or a time out of range.
    #[error("`{name}` {rule}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}
