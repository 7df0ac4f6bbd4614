//! Fetches a small document of a provider: one connection, one request, no redirect.
//!
//! A name is looked up once, each address is checked, and the connection goes to the address that was checked: a name
//! that answers differently the next moment gains nothing. A redirect would be a second URL of somebody else's choice.
//!
//! Not done: proxies from the environment. Invariant: at most `limit` bytes of a body are held.

use crate::error::Error;
use crate::reach::Reach;
use crate::settings::Settings;
use crate::url::Url;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// One address of several may be dead.
const CONNECT: Duration = Duration::from_secs(2);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Of the head of an answer.
const MAX_HEAD: usize = 32 * 1024;

/// Fetches documents.
pub(crate) struct Fetcher {
    reach: Reach,
    tls: TlsConnector,
}

impl Fetcher {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            reach: settings.reach(),
            tls: connector(settings.ca_file.as_deref())?,
        })
    }

    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// The body of a 200 answer of at most `limit` bytes. The caller sets the deadline. The error is for the operator.
    pub(crate) async fn get(&self, url: &Url, limit: usize) -> Result<Bytes, String> {
        let tcp = self.connect(url).await?;
        let _ = tcp.set_nodelay(true);
        if !url.https {
            return read(tcp, url, limit).await;
        }
        let name = ServerName::try_from(url.host.clone()).map_err(|_| format!("'{}' is no host name", url.host))?;
        let stream = self.tls.connect(name, tcp).await.map_err(|e| {
            format!(
                "no TLS with {}: {e}; if its certificate is not public, set `ca_file`",
                url.authority
            )
        })?;
        read(stream, url, limit).await
    }

    async fn connect(&self, url: &Url) -> Result<TcpStream, String> {
        let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
        let found = found.map_err(|e| format!("the address of '{}' cannot be found: {e}", url.host))?;
        let mut failure = format!("'{}' has no address", url.host);
        for address in found.take(MAX_ADDRESSES) {
            if let Err(kind) = self.permits(url, address) {
                failure = format!(
                    "'{}' has the address {}, {kind}, which `allow_private_addresses` and `allow_loopback` do not let \
                     identity providers have",
                    url.host,
                    address.ip()
                );
                continue;
            }
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(e)) => failure = format!("no connection to {address}: {e}"),
                Err(_) => failure = format!("no connection to {address} in {} seconds", CONNECT.as_secs()),
            }
        }
        Err(failure)
    }

    fn permits(&self, url: &Url, address: SocketAddr) -> Result<(), &'static str> {
        self.reach.permits(address.ip())?;
        if !url.https && !address.ip().to_canonical().is_loopback() {
            return Err("another machine, reached without TLS");
        }
        Ok(())
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("reach", &self.reach)
            .finish_non_exhaustive()
    }
}

async fn read(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    url: &Url,
    limit: usize,
) -> Result<Bytes, String> {
    let broken = |e: hyper::Error| format!("no HTTP with {}: {e}", url.authority);
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = http
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // What breaks the connection also breaks the request, which reports it.
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let request = Request::get(url.target.as_str())
        .header(HOST, &url.authority)
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(USER_AGENT, "eyot")
        .body(Empty::new())
        .map_err(|e| format!("{url:?} cannot be asked for: {e}"))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    if status.is_redirection() {
        return Err(format!(
            "{url:?} answers {status}, and redirects are not followed: use the last URL"
        ));
    }
    if status != StatusCode::OK {
        return Err(format!("{url:?} answers {status}"));
    }
    let mut body = answer.into_body();
    let too_large = || format!("{url:?} is larger than {limit} bytes");
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// Public certificates, and those of the file in addition: a server may have public providers and one of its own.
fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, Error> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(file) = ca_file {
        let unusable = |why: String| Error::CaFile {
            path: file.to_owned(),
            why,
        };
        let mut found = 0;
        for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unusable(e.to_string()))? {
            let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
            roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
            found += 1;
        }
        if found == 0 {
            return Err(unusable("there is no certificate in it".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Tls(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
