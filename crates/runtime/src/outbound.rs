//! Opens a connection to a service outside, one for each request: TCP, and TLS when its URL says `https`.
//!
//! The URL and the certificates are the operator's; nothing that a caller says chooses where a connection goes.

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(10);
/// What to do about a service that cannot be talked to.
pub(crate) const CHECK: &str = "check that the service runs and that `endpoint` is right";

/// Where a service is.
pub(crate) struct Address {
    host: String,
    port: u16,
    /// The port as the URL has it, for the `Host` header.
    explicit_port: Option<u16>,
    tls: Option<TlsConnector>,
}

/// An open connection for one request. Dropping it closes it.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl Address {
    /// Reads a service's URL, and the certificates to trust instead of the public ones.
    pub(crate) fn new(endpoint: &str, ca_file: Option<&Path>) -> Result<Self, String> {
        let shape = "`endpoint` must be a URL such as https://s3.example.com or http://127.0.0.1:9000";
        let uri: Uri = endpoint.parse().map_err(|_| shape.to_owned())?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority().filter(|a| bare && !a.as_str().contains('@'));
        let authority = authority.ok_or_else(|| shape.to_owned())?;
        let (port, tls) = match uri.scheme_str() {
            Some("http") => (80, None),
            Some("https") => (443, Some(connector(ca_file)?)),
            _ => return Err(shape.to_owned()),
        };
        let explicit_port = authority.port_u16();
        Ok(Self {
            host: authority.host().to_owned(),
            port: explicit_port.unwrap_or(port),
            explicit_port,
            tls,
        })
    }

    /// The host of the URL.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The `Host` header for a host of this service.
    pub(crate) fn header(&self, host: &str) -> String {
        match self.explicit_port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Opens a connection to a host of this service; the error says what could not be done.
    pub(crate) async fn open(&self, host: &str) -> Result<Connection, String> {
        let opened = timeout(CONNECT, self.handshake(host)).await;
        opened.map_err(|_| {
            let seconds = CONNECT.as_secs();
            format!("no connection to {host}:{} in {seconds} seconds: {CHECK}", self.port)
        })?
    }

    async fn handshake(&self, host: &str) -> Result<Connection, String> {
        // An IPv6 address stands in brackets in a URL, and nowhere else.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((bare, self.port)).await;
        let tcp = tcp.map_err(|e| format!("no connection to {host}:{}: {e}; {CHECK}", self.port))?;
        let _ = tcp.set_nodelay(true);
        let Some(tls) = &self.tls else { return http(tcp).await };
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|e| format!("'{bare}' is no host name: {e}; correct `endpoint`"))?;
        let stream = tls.connect(name, tcp).await.map_err(|e| {
            let port = self.port;
            format!("no TLS with {host}:{port}: {e}; check `endpoint`, and `ca_file` if its certificate is not public")
        })?;
        http(stream).await
    }
}

impl Connection {
    /// Sends the request and waits for the answer's head.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Connection, String> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| format!("no HTTP: {e}; {CHECK}"))?;
    let driver = tokio::spawn(async move {
        // What breaks the connection also breaks the request, which reports it.
        let _ = connection.await;
    });
    Ok(Connection {
        sender,
        _driver: AbortOnDropHandle::new(driver),
    })
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let unusable = |why: String| format!("`ca_file` {}: {why}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unusable(e.to_string()))? {
                let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
                roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("there is no certificate in it".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
