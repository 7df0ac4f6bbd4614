//! Opens a connection: TCP, or TLS when the URL says so.

use super::Error;
use bytes::Bytes;
use http::Uri;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Until a connection stands, TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Sends requests over an open connection, which ends with it.
pub(crate) type Sender = SendRequest<UnsyncBoxBody<Bytes, std::io::Error>>;

/// Connects to the host of a URL. `trust` says whose certificates will do, where certificates are needed.
pub(crate) async fn open<T>(base: &Uri, trust: T) -> Result<Sender, Error>
where
    T: FnOnce() -> Result<Arc<ClientConfig>, Error>,
{
    let endpoint = |why: String| Error::Endpoint(base.to_string(), why);
    let host = base.host().ok_or_else(|| endpoint("has no host".to_owned()))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tls = match base.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(endpoint("does not begin with http:// or https://".to_owned())),
    };
    let port = base.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let connecting = async {
        let unreachable = |e: std::io::Error| Error::Unreachable(base.to_string(), e);
        let stream = TcpStream::connect((bare, port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        if !tls {
            return handshake(base, stream).await;
        }
        let name =
            ServerName::try_from(bare.to_owned()).map_err(|e| endpoint(format!("has no valid host name: {e}")))?;
        let stream = TlsConnector::from(trust()?)
            .connect(name, stream)
            .await
            .map_err(unreachable)?;
        handshake(base, stream).await
    };
    let late = |_| Error::Unreachable(base.to_string(), std::io::Error::from(std::io::ErrorKind::TimedOut));
    timeout(CONNECT_DEADLINE, connecting).await.map_err(late)?
}

async fn handshake<S>(base: &Uri, stream: S) -> Result<Sender, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| Error::from_hyper(base, &e))?;
    // Ends with the sender and the answer's body; what goes wrong on it, they report.
    tokio::spawn(connection);
    Ok(sender)
}

/// The public certificate authorities, or those of the file that AWS's own tools take for the purpose.
pub(super) fn trust_as_aws() -> Result<Arc<ClientConfig>, Error> {
    let file = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty());
    trust(file.as_deref().map(Path::new), "AWS_CA_BUNDLE")
}

/// The public certificate authorities, or those of a PEM file; `named` is what sets the file.
pub(crate) fn trust(file: Option<&Path>, named: &str) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    match file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let wrong = |e: &dyn std::fmt::Display| Error::Certificates(named.to_owned(), e.to_string());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))? {
                roots.add(certificate.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"there is no certificate in it"));
            }
        }
    }
    Ok(Arc::new(
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    ))
}
