//! An identity provider on the loopback: a discovery document, one key, and tokens signed with it.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// The audience that its tokens are for.
const AUDIENCE: &str = "agents-of-example";

pub(crate) struct Provider {
    address: std::net::SocketAddr,
    key: EcdsaKeyPair,
    _task: AbortOnDropHandle<()>,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        // An uncompressed point: 4, x, y.
        let point = key.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let keys = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "one", "x": encode(x), "y": encode(y),
        }]});
        let discovery = json!({"issuer": format!("http://{address}"), "jwks_uri": format!("http://{address}/keys")});
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let is_keys = head[..read].starts_with(b"GET /keys ");
                let body = if is_keys { &keys } else { &discovery }.to_string();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self {
            address,
            key,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a runtime that takes its tokens is configured with.
    pub(crate) fn authorizer(&self) -> Arc<oauth::Config> {
        let spec = oauth::config::Spec {
            discovery_url: format!("{}/.well-known/openid-configuration", self.issuer()),
            allowed_audience: vec![AUDIENCE.to_owned()],
            allowed_clients: Vec::new(),
            allowed_scopes: vec!["agents".to_owned()],
            custom_claims: Vec::new(),
            advertised_scope_mapping: [("agents".to_owned(), "agents".to_owned())].into(),
        };
        let reach = oauth::Reach {
            private: false,
            loopback: true,
        };
        Arc::new(oauth::Config::new(spec, reach).unwrap())
    }

    /// A token for alice, with claims laid over the good ones.
    pub(crate) fn token(&self, claims: Value) -> String {
        let now = domain::Clock::system().now().as_second();
        let mut all = json!({
            "iss": self.issuer(), "sub": "alice", "aud": AUDIENCE, "exp": now + 600, "iat": now, "scope": "agents",
        });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let header = json!({"alg": "ES256", "kid": "one", "typ": "JWT"});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&all));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}
