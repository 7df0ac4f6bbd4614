//! Which providers a server may be sent to, and TLS with them.

use super::bed::{Bed, DISCOVERY, claims, keys, token};
use crate::{Config, Error, Metrics, Providers, Reach, Refusal, Settings, config};
use domain::Clock;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn providers(settings: &Settings) -> Providers {
    Providers::new(settings, Clock::system(), Metrics::default()).unwrap()
}

async fn detail(providers: &Providers, url: &str) -> String {
    let config: Config = serde_json::from_value(json!({"discovery_url": url, "allowed_audience": ["api"]})).unwrap();
    match providers.verify(&config, &token(&claims(json!({})))).await {
        Err(Refusal::Unavailable { detail }) => detail.to_string(),
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn addresses_out_of_reach() {
    let (public, open) = (
        Settings::default(),
        Settings {
            allow_private_addresses: true,
            ..Settings::default()
        },
    );
    let path = DISCOVERY;
    for (settings, host, said) in [
        (&public, "https://127.0.0.1", "a loopback address"),
        (&public, "https://localhost", "this machine itself"),
        (&public, "https://10.1.2.3", "a private address"),
        (&public, "https://[fd00::1]", "a unique local address"),
        (&public, "https://169.254.169.254", "a link-local address"),
        (&public, "http://127.0.0.1:9", "must begin with https://"),
        // Names and spellings that the resolver alone understands.
        (&public, "https://2130706433", "a loopback address"),
        (&public, "https://0x7f.1", "a loopback address"),
        (&public, "https://127.1", "a loopback address"),
        (&public, "https://0", "an unspecified address"),
        (&open, "https://2852039166", "a link-local address"),
        (&open, "https://127.0.0.1", "a loopback address"),
        (&open, "https://[fd00:ec2::254]", "a metadata service"),
        (&open, "http://10.1.2.3", "must begin with https://"),
    ] {
        let said_really = detail(&providers(settings), &format!("{host}{path}")).await;
        assert!(said_really.contains(said), "{host}: {said_really}");
    }
}

/// A name is checked when it is looked up: here one that the hosts file knows.
#[tokio::test]
async fn a_name_is_checked_by_its_address() {
    let bed = Bed::start().await;
    let port = bed.provider.url.rsplit_once(':').unwrap().1;
    let spec = json!({"discovery_url": format!("http://localhost:{port}{DISCOVERY}"), "allowed_audience": ["api"]});
    let config: Config = serde_json::from_value(spec).unwrap();
    bed.providers.verify(&config, &token(&claims(json!({})))).await.unwrap();
}

struct Tls {
    ca: tempfile::NamedTempFile,
    port: u16,
}

/// A provider with a certificate for `name` of an authority of its own.
async fn tls(name: &str, document: impl Fn(u16) -> Value + Send + 'static) -> Tls {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ca.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(tcp).await else {
                continue;
            };
            let mut head = [0; 4096];
            let length = stream.read(&mut head).await.unwrap_or(0);
            let is_keys = head[..length].starts_with(b"GET /keys ");
            let body = if is_keys {
                json!({"keys": [keys().ed.jwk("ed")]})
            } else {
                document(port)
            }
            .to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    Tls { ca: file, port }
}

fn secure(port: u16) -> Value {
    json!({"issuer": super::bed::ISSUER, "jwks_uri": format!("https://localhost:{port}/keys")})
}

#[tokio::test]
async fn a_provider_with_a_certificate_of_its_own_authority() {
    let server = tls("localhost", secure).await;
    let settings = |ca: Option<&Path>| Settings {
        allow_loopback: true,
        ca_file: ca.map(Path::to_owned),
        ..Settings::default()
    };
    let url = format!("https://localhost:{}{DISCOVERY}", server.port);
    let trusting = Bed::with(|given| *given = settings(Some(server.ca.path()))).await;
    let config: Config = serde_json::from_value(json!({"discovery_url": url, "allowed_audience": ["api"]})).unwrap();
    trusting
        .providers
        .verify(&config, &token(&claims(json!({}))))
        .await
        .unwrap();

    let strange = detail(&providers(&settings(None)), &url).await;
    assert!(strange.contains("no TLS") && strange.contains("ca_file"), "{strange}");
    let other = tls("idp.example.com", secure).await;
    let url = format!("https://localhost:{}{DISCOVERY}", other.port);
    let misnamed = detail(&providers(&settings(Some(other.ca.path()))), &url).await;
    assert!(misnamed.contains("no TLS"), "{misnamed}");
}

#[tokio::test]
async fn keys_without_tls_for_a_provider_with_tls_are_refused() {
    let insecure = |_| json!({"issuer": super::bed::ISSUER, "jwks_uri": "http://127.0.0.1:9/keys"});
    let server = tls("localhost", insecure).await;
    let settings = Settings {
        allow_loopback: true,
        ca_file: Some(server.ca.path().to_owned()),
        ..Settings::default()
    };
    let said = detail(
        &providers(&settings),
        &format!("https://localhost:{}{DISCOVERY}", server.port),
    )
    .await;
    assert!(said.contains("must begin with https://"), "{said}");
}

#[test]
fn settings_that_cannot_be_used() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "no certificate").unwrap();
    let day = std::time::Duration::from_secs(86_400);
    let good = Settings::default();
    for settings in [
        Settings {
            leeway: day,
            ..good.clone()
        },
        Settings {
            max_tokens: 0,
            ..good.clone()
        },
        Settings {
            max_providers: 0,
            ..good.clone()
        },
        Settings {
            fetch_timeout: day,
            ..good.clone()
        },
        Settings {
            refresh_interval: 2 * day,
            ..good.clone()
        },
    ] {
        assert!(matches!(
            Providers::new(&settings, Clock::system(), Metrics::default()),
            Err(Error::Setting { .. })
        ));
    }
    for file in [file.path(), Path::new("/nonexistent/ca.pem")] {
        let settings = Settings {
            ca_file: Some(file.to_owned()),
            ..good.clone()
        };
        assert!(matches!(
            Providers::new(&settings, Clock::system(), Metrics::default()),
            Err(Error::CaFile { .. })
        ));
    }
    assert!(serde_json::from_value::<Settings>(json!({"leeway": "10s", "ca_file": "/x"})).is_ok());
    assert!(serde_json::from_value::<Settings>(json!({"leewya": "10s"})).is_err());
}

#[test]
fn configurations_that_a_request_may_ask_for() {
    let url = "https://idp.example.com/.well-known/openid-configuration";
    let base = || config::Spec {
        discovery_url: url.to_owned(),
        allowed_scopes: vec!["a".to_owned(), "b".to_owned()],
        ..config::Spec::default()
    };
    let at = |url: &str| config::Spec {
        discovery_url: url.to_owned(),
        ..base()
    };
    for (spec, wrong) in [
        (base(), None),
        (
            at("https://idp.example.com/t/v2.0/.well-known/openid-configuration"),
            None,
        ),
        (
            at("https://idp.example.com/.well-known/oauth-authorization-server"),
            None,
        ),
        (
            at("https://idp.example.com/.well-known/oauth-authorization-server/tenant"),
            None,
        ),
        (
            at("https://idp.example.com/.well-known/openid-configuration/"),
            Some("discoveryUrl"),
        ),
        (
            at("https://idp.example.com/.well-known/openid-configuration?x=y"),
            Some("discoveryUrl"),
        ),
        (
            at("https://idp.example.com/?/.well-known/openid-configuration"),
            Some("discoveryUrl"),
        ),
        (
            at("https://idp.example.com/.well-known/openid-configurations"),
            Some("discoveryUrl"),
        ),
        (at("https://idp.example.com/"), Some("discoveryUrl")),
        (
            at("http://idp.example.com/.well-known/openid-configuration"),
            Some("discoveryUrl"),
        ),
        (
            at("https://10.0.0.1/.well-known/openid-configuration"),
            Some("discoveryUrl"),
        ),
        (
            at("https://localhost/.well-known/openid-configuration"),
            Some("discoveryUrl"),
        ),
        (
            config::Spec {
                allowed_scopes: Vec::new(),
                ..base()
            },
            Some(""),
        ),
        (
            config::Spec {
                advertised_scope_mapping: [("c".to_owned(), "d".to_owned())].into(),
                ..base()
            },
            Some("advertisedScopeMapping"),
        ),
    ] {
        let made = Config::new(spec.clone(), Reach::default());
        let names: Vec<_> = made.err().into_iter().flatten().map(|fault| fault.name).collect();
        assert_eq!(names, wrong.into_iter().collect::<Vec<_>>(), "{spec:?}");
    }
    let mapped = config::Spec {
        advertised_scope_mapping: [("b".to_owned(), "api://x/b".to_owned())].into(),
        ..base()
    };
    let made = Config::new(mapped, Reach::default()).unwrap();
    assert_eq!(made.advertised_scopes().collect::<Vec<_>>(), ["a", "api://x/b"]);
    let kept = serde_json::to_string(&made).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&kept).unwrap(), made);
}
