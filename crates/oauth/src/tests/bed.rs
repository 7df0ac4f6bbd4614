//! Keys, a clock that stands still, and a provider on loopback whose answers a test chooses.

use crate::{Config, Metrics, Providers, Settings};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::Clock;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The second at which all tests begin.
pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const ISSUER: &str = "https://idp.example.com/";
pub(super) const DISCOVERY: &str = "/.well-known/openid-configuration";

/// One token with the verdict that it must get.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) config: Value,
    pub(super) token: String,
    pub(super) expected: Result<(), (&'static str, &'static str)>,
}

/// A private key of the tests.
pub(super) enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str, usize),
    Ed(Ed25519KeyPair),
}

/// The keys that the provider publishes by default, and one that it does not.
pub(super) struct Keys {
    pub(super) rsa: Signer,
    pub(super) p256: Signer,
    pub(super) p384: Signer,
    pub(super) p521: Signer,
    pub(super) ed: Signer,
    pub(super) stranger: Signer,
    pub(super) strange_ed: Signer,
}

pub(super) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        rsa: Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        p256: Signer::ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", 32),
        p384: Signer::ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48),
        p521: Signer::ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521", 66),
        ed: Signer::Ed(Ed25519KeyPair::generate().unwrap()),
        stranger: Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        strange_ed: Signer::Ed(Ed25519KeyPair::generate().unwrap()),
    })
}

impl Signer {
    fn ec(how: &'static EcdsaSigningAlgorithm, curve: &'static str, length: usize) -> Self {
        Self::Ec(EcdsaKeyPair::generate(how).unwrap(), curve, length)
    }

    /// The public key.
    pub(super) fn jwk(&self, id: &str) -> Value {
        let mut jwk = match self {
            Self::Rsa(key) => {
                // PKCS #1: a sequence of two integers; the first begins with a zero byte.
                let der = key.public_key().as_ref();
                json!({"kty": "RSA", "n": b64(&der[9..265]), "e": b64(&der[der.len() - 3..])})
            }
            Self::Ec(key, curve, length) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": curve, "x": b64(&point[1..1 + length]), "y": b64(&point[1 + length..])})
            }
            Self::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().as_ref())}),
        };
        jwk["kid"] = json!(id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The bytes of the public key, as somebody would use them who takes them for a secret.
    pub(super) fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.public_key().as_ref().to_vec(),
            Self::Ec(key, ..) => key.public_key().as_ref().to_vec(),
            Self::Ed(key) => key.public_key().as_ref().to_vec(),
        }
    }

    /// Signs as `alg` says if this key can, else in its own way.
    pub(super) fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let how: &dyn RsaEncoding = match alg {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(how, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(key, ..) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of exactly this header and these claims.
pub(super) fn token_of(signer: &Signer, header: &str, claims: &str) -> String {
    let alg = serde_json::from_str::<Value>(header).ok();
    let alg = alg
        .as_ref()
        .and_then(|header| header["alg"].as_str())
        .unwrap_or_default();
    let signed = format!("{}.{}", b64(header), b64(claims));
    let signature = signer.sign(alg, signed.as_bytes());
    format!("{signed}.{}", b64(signature))
}

/// A token signed with the Ed25519 key of the provider.
pub(super) fn token(claims: &Value) -> String {
    token_of(
        &keys().ed,
        r#"{"alg":"EdDSA","kid":"ed","typ":"JWT"}"#,
        &claims.to_string(),
    )
}

/// Claims that the default configuration accepts, with changes; a change to null removes.
pub(super) fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "sub": "user-1", "aud": "api", "client_id": "web", "exp": NOW + 600, "iat": NOW, "scope": "read write",
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// What a configuration asks for by default.
pub(super) fn default_config() -> Value {
    json!({"allowed_audience": ["api"]})
}

/// How the provider answers for a path.
#[derive(Clone)]
pub(super) enum Answer {
    Json(Value),
    /// Exactly these bytes, head included; then the connection is closed.
    Raw(Vec<u8>),
    /// Nothing, for ever.
    Hang,
    /// A body that never ends: one byte in a while.
    Drip(Duration),
    /// The connection is closed at once.
    Close,
}

impl Answer {
    pub(super) fn status(status: &str, more: &str, body: &str) -> Self {
        let length = body.len();
        Self::Raw(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{more}\r\n{body}").into_bytes())
    }
}

/// A provider and what it was asked.
#[derive(Clone)]
pub(super) struct Provider {
    pub(super) url: String,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Self {
            url: format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port()),
            answers: Arc::default(),
            asked: Arc::default(),
        };
        let serving = provider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        provider.publish(ISSUER, &Self::all_keys());
        provider
    }

    pub(super) fn all_keys() -> Value {
        let keys = keys();
        json!([
            keys.rsa.jwk("rsa"),
            keys.p256.jwk("p256"),
            keys.p384.jwk("p384"),
            keys.p521.jwk("p521"),
            keys.ed.jwk("ed"),
        ])
    }

    /// Sets issuer and keys.
    pub(super) fn publish(&self, issuer: &str, keys: &Value) {
        let jwks_uri = format!("{}/keys", self.url);
        self.answer(DISCOVERY, Answer::Json(json!({"issuer": issuer, "jwks_uri": jwks_uri})));
        self.answer("/keys", Answer::Json(json!({"keys": keys})));
    }

    pub(super) fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// How often the discovery document was asked for.
    pub(super) fn fetches(&self) -> usize {
        self.count(DISCOVERY)
    }

    pub(super) fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        self.asked.lock().unwrap().push(path.clone());
        let answer = self.answers.lock().unwrap().get(&path).cloned();
        let answer = answer.unwrap_or_else(|| Answer::status("404 Not Found", "", ""));
        let bytes = match answer {
            Answer::Json(value) => {
                let text = value.to_string();
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
            }
            Answer::Raw(bytes) => bytes,
            Answer::Close => return,
            Answer::Hang => {
                std::future::pending::<()>().await;
                return;
            }
            Answer::Drip(pause) => {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                    .await;
                while stream.write_all(b"1\r\n{\r\n").await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
                return;
            }
        };
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
    }
}

/// A provider, and what checks its tokens.
pub(super) struct Bed {
    pub(super) provider: Provider,
    pub(super) providers: Providers,
    now: Arc<AtomicI64>,
}

impl Bed {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            allow_loopback: true,
            ..Settings::default()
        };
        change(&mut settings);
        let now = Arc::new(AtomicI64::new(NOW));
        let clock = Arc::clone(&now);
        let clock = Clock::from_fn(move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap());
        Self {
            provider: Provider::start().await,
            providers: Providers::new(&settings, clock, Metrics::default()).unwrap(),
            now,
        }
    }

    /// The clock's second.
    pub(super) fn set_now(&self, now: i64) {
        self.now.store(now, Ordering::SeqCst);
    }

    /// A configuration with the provider's discovery URL.
    pub(super) fn config(&self, mut spec: Value) -> Config {
        spec["discovery_url"] = json!(format!("{}{DISCOVERY}", self.provider.url));
        serde_json::from_value(spec).unwrap()
    }

    /// The code of the verdict on a token; "ok" if it is good.
    pub(super) async fn code(&self, token: &str) -> &'static str {
        let verdict = self.providers.verify(&self.config(default_config()), token).await;
        verdict.map_or_else(|refusal| refusal.code(), |_| "ok")
    }
}
