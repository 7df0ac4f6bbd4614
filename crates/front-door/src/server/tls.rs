//! Certificate and key, read once at the start, with an error that says which file is wrong and why.

use rustls::ServerConfig;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What HTTP versions are offered, best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of two settings is missing.
    #[error("TLS needs both a certificate and a key: set tls_cert and tls_key, or neither")]
    OnlyOne,
    /// A file cannot be read, or is not PEM.
    #[error("cannot read the {what} {}: {cause}", path.display())]
    File {
        /// Certificate or private key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{} holds no certificate; it must be a PEM file with a BEGIN CERTIFICATE section", .0.display())]
    NoCertificate(PathBuf),
    /// Both files are readable but do not serve together.
    #[error("the certificate {} and the key {} cannot be used together: {cause}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        cause: rustls::Error,
    },
}

/// Reads certificate and key; `None` when neither is set.
pub(crate) fn load(cert: Option<&Path>, key: Option<&Path>) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    let (cert, key) = match (cert, key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        _ => return Err(TlsError::OnlyOne),
    };
    let file = |what, path: &Path| {
        let path = path.to_owned();
        move |cause| TlsError::File { what, path, cause }
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(file("certificate", cert))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(cert.to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(file("private key", key))?;
    let pair = |cause| TlsError::Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
        cause,
    };
    // The provider is named so that no other crate's default can change it.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(pair)?;
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Some(Arc::new(config)))
}
